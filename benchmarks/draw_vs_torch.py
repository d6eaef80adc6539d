"""Training speed of DRAW with attention on MNIST: dgm_jax's own step against PyTorch in eager mode.

Usage: python benchmarks/draw_vs_torch.py --torch_python=PATH [--rounds=5] [--seconds=5] [--threads=2] [--record]

A step is that of configs/draw_mnist.py:small_attention: 16 steps, LSTMs of 128, 10 latents a step, windows of 5x5 read
and written, batch 100, Adam, gradients clipped at norm 10, pixels binarized anew for each batch. PyTorch has the same
network as one writes it there: `nn.LSTMCell`, filters by broadcasting, windows by batched products. Both sides draw
their batch from the whole training set, held as uint8. PyTorch takes the fastest of the three forms of its Adam. Its
cells have two biases, so that it has 1024 more parameters; the record has both numbers.
"""

import math
import sys
from pathlib import Path

import in_turn

CONFIG = 'configs/draw_mnist.py:small_attention'
WHAT = 'DRAW with attention on MNIST, 16 steps, batch 100, training steps/s, both sides in turn on the same cores'
STEPS, UNITS, LATENTS, WINDOW, SIDE, BATCH = 16, 128, 10, 5, 28, 100


def _jax(args):
  """What the training loop calls, with the order of the examples made on the host."""
  sys.path.insert(0, str(in_turn.ROOT))
  import jax
  import numpy as np

  from configs import draw_mnist
  from dgm_jax import errors, training
  from dgm_jax.runtime import cluster

  cluster.start()
  try:
    run = training.prepare(draw_mnist.get_config('small_attention'), Path(args.data).parent / 'run')
  except errors.UserError as error:
    sys.exit(f'error: {error}')
  np.save(args.data, run.splits['train'].arrays['x'].reshape(run.splits['train'].size, -1))
  parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(run.like.params))
  return in_turn.whereabouts() | {'parameters': parameters}, in_turn.loop(run)


def _network():
  """Returns the class of the network; a call returns the losses of the images of a batch."""
  import torch
  from torch import nn
  from torch.nn import functional

  places, numbers = torch.arange(1.0, SIDE + 1), torch.arange(1.0, WINDOW + 1) - WINDOW / 2 - 0.5

  def filters(raw):
    """Filters of rows and of columns [B, N, A], and the intensity [B, 1, 1]."""
    x, y, log_variance, log_stride, log_intensity = raw.chunk(5, 1)
    stride, variance = (SIDE - 1) / (WINDOW - 1) * log_stride.exp(), log_variance.exp()[..., None]
    of = lambda g: ((SIDE + 1) / 2 * (g + 1) + numbers * stride)[..., None]
    banks = [torch.softmax(-((places - of(g)) ** 2) / (2 * variance), -1) for g in (y, x)]
    return (*banks, log_intensity.exp()[..., None])

  class DRAW(nn.Module):
    def __init__(self):
      super().__init__()
      self.encoder = nn.LSTMCell(2 * WINDOW**2 + UNITS, UNITS)
      self.decoder = nn.LSTMCell(LATENTS, UNITS)
      self.head, self.patch = nn.Linear(UNITS, 2 * LATENTS), nn.Linear(UNITS, WINDOW**2)
      self.read, self.write = nn.Linear(UNITS, 5), nn.Linear(UNITS, 5)
      self.canvas, self.begin = nn.Parameter(torch.zeros(SIDE * SIDE)), nn.Parameter(torch.zeros(4, UNITS))

    def forward(self, x):
      image, canvas, spent = x.view(-1, SIDE, SIDE), self.canvas.expand(len(x), -1), 0
      h, cell, above, memory = (row.expand(len(x), -1) for row in self.begin)
      for _ in range(STEPS):
        error = image - torch.sigmoid(canvas).view(-1, SIDE, SIDE)
        rows, columns, intensity = filters(self.read(above))
        seen = [(intensity * (rows @ part @ columns.transpose(1, 2))).flatten(1) for part in (image, error)]
        h, cell = self.encoder(torch.cat([*seen, above], 1), (h, cell))
        mean, log_std = self.head(h).chunk(2, 1)
        z = mean + torch.randn_like(mean) * log_std.exp()
        spent = spent + 0.5 * (mean**2 + (2 * log_std).exp() - 2 * log_std - 1).sum(1)
        above, memory = self.decoder(z, (above, memory))
        rows, columns, intensity = filters(self.write(above))
        patch = self.patch(above).view(-1, WINDOW, WINDOW)
        canvas = canvas + (rows.transpose(1, 2) @ patch @ columns / intensity).flatten(1)
      return spent + functional.binary_cross_entropy_with_logits(canvas, x, reduction='none').sum(1)

  return DRAW()


def _torch(args):
  """The same network and step as one writes them in PyTorch."""
  import numpy as np
  import torch

  torch.set_num_threads(args.threads or torch.get_num_threads())
  pixels, network = torch.from_numpy(np.load(args.data)), _network()
  weights = [*network.parameters()]

  def trainer(**form):
    adam = torch.optim.Adam(weights, lr=1e-3, **form)

    def step():
      x = torch.bernoulli(pixels[torch.randint(len(pixels), (BATCH,))].float().div_(255))
      adam.zero_grad(set_to_none=True)
      network(x).mean().backward()
      torch.nn.utils.clip_grad_norm_(weights, 10.0)
      adam.step()

    return step

  about, rate = in_turn.fastest(trainer, 'cpu')
  return about | {'parameters': sum(weight.numel() for weight in weights)}, rate


if __name__ == '__main__':
  in_turn.run(__file__, {'what': WHAT, 'config': CONFIG}, __doc__, {'jax': _jax, 'torch': _torch})
