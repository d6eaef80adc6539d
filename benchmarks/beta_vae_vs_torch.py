"""Speed of the convolutional beta-VAE on 64x64 sprites: dgm_jax's own step, its bare convolutions, PyTorch eager.

Usage: python benchmarks/beta_vae_vs_torch.py --torch_python=PATH [--rounds=5] [--seconds=5] [--threads=2] [--record]

A step is that of configs/disentangle.py:beta_conv, batch 64: four convolutions, four transposed ones, Adam. dgm_jax
draws its images inside the step; PyTorch picks them from an array of 20,000 that were drawn before. The bare
convolutions are those eight layers alone, forward and backward, each a program of its own. All three live in processes
of their own, on the same cores, and are timed in turn. On an accelerator, name a PyTorch that sees it.
"""

import sys
from pathlib import Path

import in_turn

CONFIG = 'configs/disentangle.py:beta_conv'
WHAT = 'convolutional beta-VAE on 64x64 sprites, batch 64, training steps/s, all sides in turn on the same cores'
IMAGES = 20_000


def _prepared():
  """The experiment, with one step a call on a CPU, where convolutions in a loop are slow."""
  sys.path.insert(0, str(in_turn.ROOT))
  import jax

  from dgm_jax.pages import disentanglement_study
  from dgm_jax.runtime import cluster

  cluster.start(keep_memory=True)
  config = disentanglement_study.settings('disentanglement', 'beta_conv')
  config.steps_per_call = 1 if jax.default_backend() == 'cpu' else 100
  config.update({'log_every': 0, 'eval_every': 0, 'save_every': 0, 'picture_every': 0})
  return config


def _jax(args):
  config = _prepared()
  import jax
  import numpy as np

  from dgm_jax import training

  run = training.prepare(config, Path(args.data).parent / 'run')
  train = run.splits['train']
  drawn = [np.asarray(jax.jit(train.fetch)(run.arrays, np.arange(i, i + 1000))['x']) for i in range(0, IMAGES, 1000)]
  np.save(args.data, np.concatenate(drawn))
  return in_turn.whereabouts(), in_turn.loop(run)


def _convolutions(args):
  """The eight layers, forward and backward, one after another."""
  del args
  config = _prepared()
  import flax.linen as nn

  from dgm_jax.nn.blocks import TransposedConv

  channels = tuple(config.model.channels)
  layers = [(nn.Conv(width, (4, 4), (2, 2)), size) for width, size in zip(channels, (64, 32, 16, 8), strict=True)]
  inputs = (1, *channels[:-1])
  layers = [(layer, (64, size, size, depth)) for (layer, size), depth in zip(layers, inputs, strict=True)]
  up = zip((4, 8, 16, 32), channels[::-1], (*channels[:-1][::-1], 1), strict=True)
  layers += [(TransposedConv(width), (64, size, size, depth)) for size, depth, width in up]
  wanted = [(0,)] + [(0, 1)] * (len(layers) - 1)  # images need no gradient
  return in_turn.whereabouts(), in_turn.bare([(*layer, of) for layer, of in zip(layers, wanted, strict=True)])


def _torch(args):
  """The same network and step as one writes it in PyTorch."""
  import numpy as np
  import torch
  from torch import nn
  from torch.nn import functional

  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  torch.backends.cudnn.benchmark = torch.backends.cuda.matmul.allow_tf32 = True  # as in JAX
  if args.threads:
    torch.set_num_threads(args.threads)
  images = torch.from_numpy(np.load(args.data)).permute(0, 3, 1, 2).contiguous().to(device)
  down = lambda a, b: [nn.Conv2d(a, b, 4, 2, 1), nn.ReLU()]
  up = lambda a, b: [nn.ConvTranspose2d(a, b, 4, 2, 1), nn.ReLU()]
  encoder = nn.Sequential(
    *down(1, 32), *down(32, 32), *down(32, 64), *down(64, 64), nn.Flatten(), nn.Linear(1024, 256), nn.ReLU(),
    nn.Linear(256, 20),
  ).to(device)  # fmt: skip
  decoder = nn.Sequential(
    nn.Linear(10, 256), nn.ReLU(), nn.Linear(256, 1024), nn.ReLU(), nn.Unflatten(1, (64, 4, 4)), *up(64, 64),
    *up(64, 32), *up(32, 32), nn.ConvTranspose2d(32, 1, 4, 2, 1),
  ).to(device)  # fmt: skip
  weights = [*encoder.parameters(), *decoder.parameters()]

  def trainer(**form):
    adam = torch.optim.Adam(weights, lr=1e-4, **form)

    def step():
      x = images[torch.randint(len(images), (64,), device=device)].float() / 255
      mean, logvar = encoder(x).chunk(2, 1)
      logits = decoder(mean + torch.randn_like(mean) * (0.5 * logvar).exp())
      lost = functional.binary_cross_entropy_with_logits(logits, x, reduction='sum') / 64
      kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(1).mean()
      adam.zero_grad(set_to_none=True)
      (lost + 4 * kl).backward()
      adam.step()
      return torch.cuda.current_stream().record_event() if device == 'cuda' else None

    return step

  return in_turn.fastest(trainer, device)


if __name__ == '__main__':
  sides = {'jax': _jax, 'convolutions': _convolutions, 'torch': _torch}
  in_turn.run(__file__, {'what': WHAT, 'config': CONFIG}, __doc__, sides)
