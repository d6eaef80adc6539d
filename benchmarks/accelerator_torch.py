"""PyTorch's side of `benchmarks/accelerator.py`: three of the networks with their training steps, as one writes them.

A network is built from its experiment's own settings, so that widths and depths are those of dgm_jax. Nothing here
needs dgm_jax.
"""

import contextlib
import itertools
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm


def speed(item: dict, rounds: int) -> dict:
  """Steps/s of the network that `item` names, in eager mode or compiled.

  Args:
    item: with 'network', a key of `STEPS`; 'experiment', its settings; 'shape' of a picture; 'compiled'; 'dtype'.
    rounds: of a second each; the middle one counts.
  """
  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  torch.backends.cudnn.benchmark = torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
  torch.manual_seed(0)
  height, width, channels = item['shape']
  images = torch.randint(0, 256, (4096, channels, height, width), dtype=torch.uint8, device=device)
  narrow = lambda: torch.autocast(device, torch.bfloat16) if item['dtype'] == 'bfloat16' else contextlib.nullcontext()
  form = torch.compile if item['compiled'] else lambda function: function
  networks, step = STEPS[item['network']](item['experiment'], images, form, narrow)
  wait = torch.cuda.synchronize if device == 'cuda' else lambda: None
  started = time.perf_counter()
  step()
  wait()
  first, found = time.perf_counter() - started, []
  for seconds in (0.5, *[item.get('each', 1.0)] * rounds):
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
      for _ in range(4):  # the host runs ahead by so much
        step()
      wait()
      done += 4
    found.append(done / (time.perf_counter() - started))
  found, batch = sorted(found[1:]), item['experiment']['batch_size']
  return {
    'batch_size': batch, 'dtype': item['dtype'], 'first_step_seconds': round(first, 2),
    'steps_per_second': found[rounds // 2], 'steps_per_second_spread': [found[0], found[-1]],
    'images_per_second': found[rounds // 2] * batch,
    'parameters': sum(p.numel() for network in networks for p in network.parameters()),
    'peak_bytes_in_use': torch.cuda.max_memory_allocated() if device == 'cuda' else None,
    'versions': {'torch': torch.__version__},
  }  # fmt: skip


def _adam(network: nn.Module, settings: dict) -> torch.optim.Optimizer:
  device = next(network.parameters()).device
  betas = settings['b1'], settings['b2']
  return torch.optim.Adam(network.parameters(), lr=settings['learning_rate'], betas=betas, fused=device.type == 'cuda')


def _batch(images: torch.Tensor, size: int) -> torch.Tensor:
  return images[torch.randint(len(images), (size,), device=images.device)].float()


def _move(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
  optimizer.zero_grad(set_to_none=True)
  loss.backward()
  optimizer.step()


def dense_vae(experiment: dict, images: torch.Tensor, form: Callable, narrow: Callable) -> tuple[list, Callable]:
  """A dense autoencoder on pixels that are binarized anew for every batch, one sample of the posterior."""
  model, pixels = experiment['model'], images[0].numel()
  (hidden,), (latents,) = model['hidden'], model['latents']

  def layers(*sizes: int) -> list[nn.Module]:
    return [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.Tanh())]

  networks = nn.ModuleList([
    nn.Sequential(*layers(pixels, *hidden), nn.Linear(hidden[-1], 2 * latents)),
    nn.Sequential(*layers(latents, *reversed(hidden)), nn.Linear(hidden[0], pixels)),
  ]).to(images.device)  # fmt: skip
  encoder, decoder = networks
  optimizer, size = _adam(networks, experiment['optimizer']['model']), experiment['batch_size']

  @form
  def loss(x: torch.Tensor) -> torch.Tensor:
    mean, log_std = encoder(x).float().chunk(2, 1)
    std = log_std.exp()
    logits = decoder(mean + std * torch.randn_like(mean)).float()
    reconstruction = functional.binary_cross_entropy_with_logits(logits, x, reduction='sum')
    return (reconstruction + 0.5 * (mean.square() + std.square() - 1).sum() - log_std.sum()) / size

  def step() -> None:
    x = torch.bernoulli(_batch(images, size).flatten(1).div_(255))
    with narrow():
      value = loss(x)
    _move(optimizer, value)

  return [networks], step


def dcgan(experiment: dict, images: torch.Tensor, form: Callable, narrow: Callable) -> tuple[list, Callable]:
  """The convolutional game of two networks, the discriminator's move and then the generator's."""
  model, (channels, height, width) = experiment['model'], images.shape[1:]
  up, down, latents = model['generator'], model['critic'], model['latents']
  (wide, narrower), (first, second) = up['channels'], down['channels']
  rows, columns = height // 4, width // 4
  hidden = itertools.pairwise([latents, *up['dense']])
  dense = [layer for a, b in hidden for layer in (nn.Linear(a, b, bias=False), nn.BatchNorm1d(b), nn.ReLU())]
  last = [latents, *up['dense']][-1]
  size, spread = rows * columns * wide, nn.Unflatten(1, (wide, rows, columns))
  # With hidden dense layers each number has statistics of its own, as in the experiment.
  normed = (nn.BatchNorm1d(size), spread) if up['dense'] else (spread, nn.BatchNorm2d(wide))
  generator = nn.Sequential(
    *dense, nn.Linear(last, size, bias=False), *normed, nn.ReLU(),
    nn.ConvTranspose2d(wide, narrower, 5, 2, 2, 1, bias=False), nn.BatchNorm2d(narrower), nn.ReLU(),
    nn.ConvTranspose2d(narrower, channels, 5, 2, 2, 1), nn.Sigmoid(),
  )  # fmt: skip
  sizes = [rows * columns * second, *down['dense']]
  dense = [
    layer for a, b in itertools.pairwise(sizes)
    for layer in (nn.Linear(a, b, bias=False), nn.BatchNorm1d(b), nn.LeakyReLU(0.2))
  ]  # fmt: skip
  critic = nn.Sequential(
    nn.Conv2d(channels, first, 5, 2, 2), nn.LeakyReLU(0.2), nn.Conv2d(first, second, 5, 2, 2, bias=False),
    nn.BatchNorm2d(second), nn.LeakyReLU(0.2), nn.Flatten(), *dense, nn.Linear(sizes[-1], 1),
  )  # fmt: skip
  networks = [network.to(images.device, memory_format=torch.channels_last) for network in (generator, critic)]
  for_generator = _adam(generator, experiment['optimizer']['generator'])
  for_critic, size = _adam(critic, experiment['optimizer']['discriminator']), experiment['batch_size']
  noise = lambda: 2 * torch.rand(size, latents, device=images.device) - 1
  draw = form(generator)

  @form
  def critic_loss(x: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    return functional.softplus(-critic(x).float()).mean() + functional.softplus(critic(fake).float()).mean()

  @form
  def generator_loss(z: torch.Tensor) -> torch.Tensor:
    return functional.softplus(-critic(generator(z)).float()).mean()

  def step() -> None:
    x = _batch(images, size).div_(255).to(memory_format=torch.channels_last)
    with narrow(), torch.no_grad():
      fake = draw(noise())
    critic.requires_grad_(True)
    with narrow():
      value = critic_loss(x, fake)
    _move(for_critic, value)
    critic.requires_grad_(False)
    with narrow():
      value = generator_loss(noise())
    _move(for_generator, value)

  return networks, step


class CausalConv(nn.Module):
  """A weight-normalised convolution over `rows` above and beside, padded by (left, right) columns and moved down."""

  def __init__(self, inputs: int, outputs: int, rows: int, left: int, right: int, stride: int = 1):
    super().__init__()
    self.padding = (left, right, rows - 1, 0)
    self.conv = weight_norm(nn.Conv2d(inputs, outputs, (rows, left + right + 1), stride))

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    return self.conv(functional.pad(x, self.padding))


def pointwise(inputs: int, outputs: int) -> nn.Module:
  """A weight-normalised layer of each position alone."""
  return weight_norm(nn.Conv2d(inputs, outputs, 1))


def concat_elu(x: torch.Tensor) -> torch.Tensor:
  """The rectifier of x and of -x, side by side."""
  return functional.elu(torch.cat([x, -x], 1))


class Block(nn.Module):
  """A gated residual block; another map of `others` channels may come in."""

  def __init__(self, features: int, others: int, right: int, dropout: float):
    super().__init__()
    self.first = CausalConv(2 * features, features, 2, 1, right)
    self.other = pointwise(2 * others, features) if others else None
    self.second, self.dropout = CausalConv(2 * features, 2 * features, 2, 1, right), nn.Dropout(dropout)

  def forward(self, x: torch.Tensor, other: torch.Tensor | None) -> torch.Tensor:
    y = self.first(concat_elu(x))
    if self.other is not None:
      y = y + self.other(concat_elu(other))
    a, b = self.second(self.dropout(concat_elu(y))).chunk(2, 1)
    return x + a * torch.sigmoid(b)


class Larger(nn.Module):
  """A transposed convolution of stride 2 that reaches no row above; with `across` = 3 also the column before."""

  def __init__(self, features: int, across: int):
    super().__init__()
    self.conv = weight_norm(nn.ConvTranspose2d(features, features, (2, across), 2), dim=1)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    y = self.conv(x)
    return y[..., 1:] if y.shape[-1] > 2 * x.shape[-1] else y


class Stream(nn.Module):
  """One of the two streams. `right` is 1 for that of the rows above, and 0 for the other, which takes its maps."""

  def __init__(self, features: int, blocks: int, levels: int, right: int, dropout: float):
    super().__init__()
    self.levels, aside = levels, 0 if right else features
    block = lambda others: Block(features, others, right, dropout)
    self.down = nn.ModuleList(nn.ModuleList(block(aside) for _ in range(blocks)) for _ in range(levels))
    self.up = nn.ModuleList(
      nn.ModuleList(block(features + aside) for _ in range(blocks + (level < levels - 1))) for level in range(levels)
    )
    self.smaller = nn.ModuleList(CausalConv(features, features, 2, 1, right, 2) for _ in range(levels - 1))
    self.larger = nn.ModuleList(Larger(features, 2 + right) for _ in range(levels - 1))

  def forward(self, x: torch.Tensor, others: list[torch.Tensor] | None) -> list[torch.Tensor]:
    maps, skips = [], [x]
    given = iter(others) if others else itertools.repeat(None)
    for level in range(self.levels):
      for block in self.down[level]:
        x = block(x, next(given))
        maps.append(x)
        skips.append(x)
      if level < self.levels - 1:
        x = self.smaller[level](x)
        skips.append(x)
    x = skips.pop()
    for level in reversed(range(self.levels)):
      for block in self.up[level]:
        other, skip = next(given), skips.pop()
        x = block(x, skip if other is None else torch.cat([other, skip], 1))
        maps.append(x)
      if level:
        x = self.larger[level - 1](x)
    return maps


class PixelCNNpp(nn.Module):
  """The network of Salimans et al. 2017, whose kernels hold the causal taps alone."""

  def __init__(self, channels: int, outputs: int, features: int, blocks: int, levels: int, dropout: float):
    super().__init__()
    self.first_above = CausalConv(channels + 1, features, 2, 1, 1)
    self.first_row, self.first_column = (
      CausalConv(channels + 1, features, 1, 1, 1),
      CausalConv(channels + 1, features, 2, 0, 0),
    )
    self.above = Stream(features, blocks, levels, 1, dropout)
    self.before = Stream(features, blocks, levels, 0, dropout)
    self.head = pointwise(features, outputs)

  def forward(self, image: torch.Tensor) -> torch.Tensor:
    x = functional.pad(image, (0, 0, 0, 0, 0, 1), value=1.0)
    earlier, beside = functional.pad(x, (0, 0, 1, -1)), functional.pad(x, (1, -1))  # one row up, one column before
    above = self.above(self.first_above(earlier), None)
    y = self.before(self.first_row(earlier) + self.first_column(beside), above)[-1]
    return self.head(functional.elu(y))


def logistic_mixture(x: torch.Tensor, output: torch.Tensor, components: int) -> torch.Tensor:
  """Negative log-probability [B, H, W] of pixels [B, 3, H, W] in [-1, 1], by the published formula."""
  x, output = x.movedim(1, -1)[..., None], output.movedim(1, -1).float()
  logits, rest = output[..., :components], output[..., components:].unflatten(-1, (9, components))
  means, log_scales, coefficients = rest[..., :3, :], rest[..., 3:6, :].clamp(min=-7), rest[..., 6:, :].tanh()
  red, green = x[..., 0, :], x[..., 1, :]
  green_mean = means[..., 1, :] + coefficients[..., 0, :] * red
  blue_mean = means[..., 2, :] + coefficients[..., 1, :] * red + coefficients[..., 2, :] * green
  centred, inverse = x - torch.stack([means[..., 0, :], green_mean, blue_mean], -2), torch.exp(-log_scales)
  upper, lower, middle = inverse * (centred + 1 / 255), inverse * (centred - 1 / 255), inverse * centred
  mass = torch.sigmoid(upper) - torch.sigmoid(lower)
  density = middle - log_scales - 2 * functional.softplus(middle) - math.log(127.5)
  inside = torch.where(mass > 1e-5, torch.log(mass.clamp(min=1e-12)), density)
  at_top = torch.where(x > 0.999, -functional.softplus(lower), inside)
  log_bins = torch.where(x < -0.999, upper - functional.softplus(upper), at_top)
  return -torch.logsumexp(log_bins.sum(-2) + functional.log_softmax(logits, -1), -1)


def pixelcnn_pp(experiment: dict, images: torch.Tensor, form: Callable, narrow: Callable) -> tuple[list, Callable]:
  """PixelCNN++ with the mixture of logistics and a moving average of its parameters."""
  model, network = experiment['model'], experiment['model']['network']
  components, size, decay = model['components'], experiment['batch_size'], model['average']
  settings = {name: network[name] for name in ('features', 'blocks', 'levels', 'dropout')}
  net: Any = PixelCNNpp(images.shape[1], 10 * components, **settings)
  net = net.to(images.device, memory_format=torch.channels_last)
  optimizer, params = _adam(net, experiment['optimizer']['model']), list(net.parameters())
  averages = [p.detach().clone() for p in params]
  loss = form(lambda x: logistic_mixture(x, net(x), components).sum((1, 2)).mean())

  def step() -> None:
    x = (_batch(images, size) / 127.5 - 1).to(memory_format=torch.channels_last)
    with narrow():
      value = loss(x)
    _move(optimizer, value)
    with torch.no_grad():
      torch._foreach_lerp_(averages, params, 1 - decay)

  return [net], step


STEPS = {'vae_mnist': dense_vae, 'dcgan_mnist': dcgan, 'pixelcnn_pp': pixelcnn_pp}
