"""Training speed of BigGAN's CIFAR-10 game: dgm_jax's own training step against PyTorch in eager mode.

Usage: python benchmarks/biggan_vs_torch.py --torch_python=PATH [--variant=published] [--rounds=5] [--seconds=5]
       [--threads=2] [--record]

A step is one turn: four moves of the critic, each on its own minibatch of real images and as many generated ones in one
pass, and one move of the generator. Networks, initial scales, spectral norms of both (one turn of the power method a
pass), conditional batch norms, hinge loss, Adam and the average of the generator are the same on both sides. Both draw
their images from CIFAR-10, on the device. Without a variant there are 32 channels and minibatches of 8, for a CPU;
`published` has 256 channels and minibatches of 50. On an accelerator, name a PyTorch that sees it.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import in_turn

CONFIG = 'configs/biggan_cifar10.py'
WHAT = 'BigGAN for CIFAR-10, four moves of the critic and one of the generator, turns/s, in turn'
LATENTS, CLASSES, MOVES = 128, 10, 4
SIZES = {'': (32, 8), 'published': (256, 50)}  # channels, images of a minibatch


def _jax(args):
  sys.path.insert(0, str(in_turn.ROOT))
  import jax
  import numpy as np

  from configs import biggan_cifar10
  from dgm_jax import training
  from dgm_jax.runtime import cluster

  cluster.start(keep_memory=True)
  channels, batch = SIZES[args.variant]
  config = biggan_cifar10.get_config()
  config.model.generator.channels = config.model.critic.channels = (channels,) * 4
  config.batch_size = MOVES * batch
  config.steps_per_call = 1 if jax.default_backend() == 'cpu' else 10
  config.update({'log_every': 0, 'eval_every': 0, 'save_every': 0, 'picture_every': 0})
  run = training.prepare(config, Path(args.data).parent / 'run')
  np.save(args.data, run.splits['train'].arrays['x'])
  np.save(args.data + '.labels.npy', run.splits['train'].arrays['y'])
  return in_turn.whereabouts(), in_turn.loop(run)


def _bounded():
  """Returns the class of layers whose largest singular value is one."""
  import torch
  import torch.nn.functional as F
  from torch import nn

  class Bounded(nn.Module):
    """A layer whose largest singular value is one, by a turn of the power method a pass."""

    def __init__(self, shape, bias: bool = True):
      super().__init__()
      self.weight = nn.Parameter(torch.randn(shape) * 0.02)
      self.bias = nn.Parameter(torch.zeros(shape[0])) if bias else None
      self.register_buffer('u', F.normalize(torch.randn(shape[0]), dim=0))

    def bounded(self):
      matrix = self.weight.flatten(1)
      with torch.no_grad():
        v = F.normalize(self.u @ matrix, dim=0, eps=1e-12)
        u = F.normalize(matrix @ v, dim=0, eps=1e-12)
        self.u.copy_(u)
      return self.weight / (u @ matrix @ v)

    def forward(self, x):
      weight = self.bounded()
      return F.conv2d(x, weight, self.bias, padding='same') if weight.ndim == 4 else F.linear(x, weight, self.bias)

  return Bounded


def _generator(width: int, bounded: Callable):
  """Builds the generator."""
  import torch
  import torch.nn.functional as F
  from torch import nn

  conv = lambda n, m, size=3: bounded((m, n, size, size))

  class Norm(nn.Module):
    """A batch norm whose gain and shift are those of the label."""

    def __init__(self):
      super().__init__()
      self.norm = nn.BatchNorm2d(width, affine=False)
      self.gain, self.shift = nn.Embedding(CLASSES, width), nn.Embedding(CLASSES, width)
      for table in (self.gain, self.shift):
        nn.init.normal_(table.weight, std=0.02)

    def forward(self, x, y):
      return self.norm(x) * (1 + self.gain(y))[..., None, None] + self.shift(y)[..., None, None]

  class Up(nn.Module):
    def __init__(self):
      super().__init__()
      self.first, self.second, self.shortcut = conv(width, width), conv(width, width), conv(width, width, 1)
      self.norms = nn.ModuleList([Norm(), Norm()])

    def forward(self, x, y):
      double = lambda h: F.interpolate(h, scale_factor=2)
      h = self.first(double(F.relu(self.norms[0](x, y))))
      return self.second(F.relu(self.norms[1](h, y))) + self.shortcut(double(x))

  class Generator(nn.Module):
    def __init__(self):
      super().__init__()
      self.dense, self.norm, self.last = bounded((16 * width, LATENTS)), nn.BatchNorm2d(width), conv(width, 3)
      self.blocks = nn.ModuleList([Up() for _ in range(3)])

    def forward(self, z, y):
      h = self.dense(z).view(-1, width, 4, 4)
      for block in self.blocks:
        h = block(h, y)
      return torch.tanh(self.last(F.relu(self.norm(h))))

  return Generator()


def _critic(width: int, bounded: Callable):
  """Builds the critic."""
  import torch.nn.functional as F
  from torch import nn

  conv = lambda n, m, size=3: bounded((m, n, size, size))

  class Down(nn.Module):
    def __init__(self, inputs: int, halve: bool):
      super().__init__()
      self.first, self.second = conv(inputs, width), conv(width, width)
      self.shortcut = conv(inputs, width, 1) if halve or inputs != width else None
      self.halve, self.rectify = halve, inputs == width

    def forward(self, x):
      smaller = (lambda h: F.avg_pool2d(h, 2)) if self.halve else lambda h: h
      h = smaller(self.second(F.relu(self.first(F.relu(x) if self.rectify else x))))
      if self.shortcut is None:
        return h + x
      return h + (smaller(self.shortcut(x)) if self.rectify else self.shortcut(smaller(x)))

  class Critic(nn.Module):
    def __init__(self):
      super().__init__()
      self.blocks = nn.Sequential(Down(3, True), Down(width, True), Down(width, False), Down(width, False))
      self.value, self.projection = bounded((1, width)), bounded((CLASSES, width), bias=False)

    def forward(self, x, y):
      h = F.relu(self.blocks(x)).sum((2, 3))
      return self.value(h)[:, 0] + (self.projection.bounded()[y] * h).sum(1)

  return Critic()


def _torch(args):
  """The same game as one writes it in PyTorch."""
  import numpy as np
  import torch
  import torch.nn.functional as F

  torch.backends.cudnn.benchmark = torch.backends.cuda.matmul.allow_tf32 = True  # as in JAX
  if args.threads:
    torch.set_num_threads(args.threads)
  device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
  (width, batch), layer = SIZES[args.variant], _bounded()
  images = torch.from_numpy(np.load(args.data)).permute(0, 3, 1, 2).contiguous().to(device)
  labels = torch.from_numpy(np.load(args.data + '.labels.npy')).long().to(device)

  def trainer(**form):
    generator, averaged = (_generator(width, layer).to(device) for _ in range(2))
    critic = _critic(width, layer).to(device)
    averaged.load_state_dict(generator.state_dict())
    adam = lambda network: torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.0, 0.999), **form)
    for_generator, for_critic = adam(generator), adam(critic)

    def drawn():
      classes = torch.randint(CLASSES, (batch,), device=device)
      return generator(torch.randn(batch, LATENTS, device=device), classes), classes

    def turn():
      critic.requires_grad_(True)
      for _ in range(MOVES):
        with torch.no_grad():
          fake, classes = drawn()
        index = torch.randint(len(images), (batch,), device=device)
        real = images[index].float() / 127.5 - 1
        of_fake, of_real = critic(torch.cat([fake, real]), torch.cat([classes, labels[index]])).chunk(2)
        for_critic.zero_grad(set_to_none=True)
        (F.relu(1 - of_real).mean() + F.relu(1 + of_fake).mean()).backward()
        for_critic.step()
      critic.requires_grad_(False)
      for_generator.zero_grad(set_to_none=True)
      (-critic(*drawn()).mean()).backward()
      for_generator.step()
      with torch.no_grad():
        torch._foreach_lerp_(list(averaged.parameters()), list(generator.parameters()), 1e-4)
      return torch.cuda.current_stream().record_event() if device.type == 'cuda' else None

    return turn

  return in_turn.fastest(trainer, device.type)


if __name__ == '__main__':
  sides = {'jax': _jax, 'torch': _torch}
  in_turn.run(__file__, {'what': WHAT, 'config': CONFIG}, __doc__, sides, tuple(SIZES))
