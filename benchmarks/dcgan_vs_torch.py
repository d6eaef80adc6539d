"""Speed of DCGAN on MNIST: dgm_jax's own step, its bare convolutions, those and its bare products, PyTorch eager.

Usage: python benchmarks/dcgan_vs_torch.py --torch_python=PATH [--variant=without_dense] [--rounds=5] [--seconds=5]
       [--threads=2] [--record]

A step is that of configs/dcgan_mnist.py, batch 128: the discriminator's move, then the generator's. The bare layers are
what the two moves need of them: the generator forward; the discriminator on real and on generated images, forward and
its parameters' gradients; both forward, the discriminator's inputs' gradients, the generator's parameters'. Beside the
convolutions there are dense layers (`layers` has both), batch normalisation and Adam. With the hidden dense layers that
the paper's code for MNIST has, those take about as long as the convolutions on a CPU; `without_dense` is the paper's
rule, which leaves them out.
On an accelerator, name a PyTorch that sees it.
"""

import itertools
import sys
from pathlib import Path

import in_turn

CONFIG = 'configs/dcgan_mnist.py'
WHAT = 'DCGAN on MNIST, batch 128, training steps/s, all sides in turn on the same cores'
FORWARD, PARAMETERS, INPUT, BOTH = (), (0,), (1,), (0, 1)


def _prepared(args):
  sys.path.insert(0, str(in_turn.ROOT))
  import jax

  from configs import dcgan_mnist
  from dgm_jax.runtime import cluster

  cluster.start(keep_memory=True)
  config = dcgan_mnist.get_config(args.variant)
  config.steps_per_call = 1 if jax.default_backend() == 'cpu' else 100
  config.update({'log_every': 0, 'eval_every': 0, 'save_every': 0, 'picture_every': 0})
  return config


def _jax(args):
  config = _prepared(args)
  import numpy as np

  from dgm_jax import training

  run = training.prepare(config, Path(args.data).parent / 'run')
  np.save(args.data, run.splits['train'].arrays['x'])
  return in_turn.whereabouts(), in_turn.loop(run)


def _convolutions(args):
  return in_turn.whereabouts(), in_turn.bare(_layers(_prepared(args), dense=False))


def _layers_alone(args):
  return in_turn.whereabouts(), in_turn.bare(_layers(_prepared(args), dense=True))


def _layers(config, dense: bool) -> list:
  """What `in_turn.bare` is to run: first layers of a move need no gradient of their input."""
  import flax.linen as nn

  from dgm_jax.nn.blocks import TransposedConv

  n, model = config.batch_size, config.model
  (wide, narrow), (first, second) = model.generator.channels, model.critic.channels
  up = [(TransposedConv(narrow, 5), (n, 7, 7, wide)), (TransposedConv(1, 5), (n, 14, 14, narrow))]
  down = [
    (nn.Conv(first, (5, 5), (2, 2)), (n, 28, 28, 1)),
    (nn.Conv(second, (5, 5), (2, 2)), (n, 14, 14, first)),
  ]
  before, after = [], []
  if dense:
    before = _dense((model.latents, *model.generator.dense, 49 * wide), n)
    after = _dense((49 * second, *model.critic.dense, 1), n)
  generator, critic = before + up, down + after
  learn = lambda layers: [(*layer, BOTH if number else PARAMETERS) for number, layer in enumerate(layers)]
  through = [(*layer, INPUT) for layer in critic]
  drawn = [(*layer, FORWARD) for layer in generator]
  taught = learn(generator) if dense else [(*layer, BOTH) for layer in generator]
  return drawn + 2 * learn(critic) + through + taught


def _dense(sizes: tuple[int, ...], n: int) -> list:
  import flax.linen as nn

  return [(nn.Dense(out), (n, size)) for size, out in itertools.pairwise(sizes)]


def _torch(args):
  """The same networks and moves as one writes them in PyTorch."""
  import numpy as np
  import torch
  from torch import nn
  from torch.nn import functional

  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  torch.backends.cudnn.benchmark = torch.backends.cuda.matmul.allow_tf32 = True  # as in JAX
  if args.threads:
    torch.set_num_threads(args.threads)
  images = torch.from_numpy(np.load(args.data)).permute(0, 3, 1, 2).contiguous().to(device)
  first = [nn.Linear(100, 6272, bias=False), nn.Unflatten(1, (128, 7, 7)), nn.BatchNorm2d(128)]
  last = [nn.Linear(6272, 1)]
  if not args.variant:
    first = [
      nn.Linear(100, 1024, bias=False), nn.BatchNorm1d(1024), nn.ReLU(),
      nn.Linear(1024, 6272, bias=False), nn.BatchNorm1d(6272), nn.Unflatten(1, (128, 7, 7)),
    ]  # fmt: skip
    last = [nn.Linear(6272, 1024, bias=False), nn.BatchNorm1d(1024), nn.LeakyReLU(0.2), nn.Linear(1024, 1)]
  generator = nn.Sequential(
    *first, nn.ReLU(),
    nn.ConvTranspose2d(128, 64, 5, 2, 2, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
    nn.ConvTranspose2d(64, 1, 5, 2, 2, 1), nn.Sigmoid(),
  ).to(device)  # fmt: skip
  critic = nn.Sequential(
    nn.Conv2d(1, 64, 5, 2, 2), nn.LeakyReLU(0.2),
    nn.Conv2d(64, 128, 5, 2, 2, bias=False), nn.BatchNorm2d(128), nn.LeakyReLU(0.2), nn.Flatten(), *last,
  ).to(device)  # fmt: skip
  drawn = lambda: 2 * torch.rand(128, 100, device=device) - 1

  def trainer(**form):
    adam = lambda network: torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999), **form)
    for_generator, for_critic = adam(generator), adam(critic)

    def step():
      x = images[torch.randint(len(images), (128,), device=device)].float() / 255
      with torch.no_grad():
        fake = generator(drawn())
      critic.requires_grad_(True)
      loss = functional.softplus(-critic(x)).mean() + functional.softplus(critic(fake)).mean()
      for_critic.zero_grad(set_to_none=True)
      loss.backward()
      for_critic.step()
      critic.requires_grad_(False)
      for_generator.zero_grad(set_to_none=True)
      functional.softplus(-critic(generator(drawn()))).mean().backward()
      for_generator.step()
      return torch.cuda.current_stream().record_event() if device == 'cuda' else None

    return step

  return in_turn.fastest(trainer, device)


if __name__ == '__main__':
  sides = {'jax': _jax, 'convolutions': _convolutions, 'layers': _layers_alone, 'torch': _torch}
  in_turn.run(__file__, {'what': WHAT, 'config': CONFIG}, __doc__, sides, ('', 'without_dense'))
