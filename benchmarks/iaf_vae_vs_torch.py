"""Training speed of the IAF VAE on MNIST: dgm_jax's own step against PyTorch in eager mode, in pythae's form.

Usage: python benchmarks/iaf_vae_vs_torch.py --torch_python=PATH [--rounds=5] [--seconds=5] [--threads=2] [--record]

A step is that of configs/iaf_vae_mnist.py:small: 784-200-200-50-200-200-784 with tanh, two inverse autoregressive steps
of two masked layers of 320 elu units that read a context of 200, batch 100, Adam, pixels binarized anew for each batch.
PyTorch has the same layers, composed as `VAE_IAF` of pythae composes its own: masked layers multiply their weights by
their mask in every call, and the order is flipped between the steps. pythae's flow has no context, relu and a scale of
exp(-a); here both sides have the context, elu and the sigmoid of the paper. Both sides draw their batch from the whole
training set, held as uint8. PyTorch takes the fastest of the three forms of its Adam. Both sides have as many
parameters; the record has their number.
"""

import itertools
import math
import sys
from pathlib import Path

import in_turn

CONFIG = 'configs/iaf_vae_mnist.py:small'
WHAT = 'IAF VAE on MNIST, batch 100, training steps/s, both sides in turn on the same cores'
LATENTS, CONTEXT, WIDTH, STEPS, BATCH = 50, 200, 320, 2, 100


def _jax(args):
  """What the training loop calls, with the order of the examples made on the host."""
  sys.path.insert(0, str(in_turn.ROOT))
  import jax
  import numpy as np

  from configs import iaf_vae_mnist
  from dgm_jax import errors, training
  from dgm_jax.runtime import cluster

  cluster.start()
  try:
    run = training.prepare(iaf_vae_mnist.get_config('small'), Path(args.data).parent / 'run')
  except errors.UserError as error:
    sys.exit(f'error: {error}')
  np.save(args.data, run.splits['train'].arrays['x'].reshape(run.splits['train'].size, -1))
  parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(run.like.params))
  return in_turn.whereabouts() | {'parameters': parameters}, in_turn.loop(run)


def _masked_network():
  """Returns the class of the masked network of an autoregressive step; 2 numbers for each latent."""
  import torch
  from torch import nn
  from torch.nn import functional

  class MaskedLinear(nn.Linear):
    def __init__(self, mask):
      super().__init__(mask.shape[1], mask.shape[0])
      self.register_buffer('mask', mask)

    def forward(self, x):
      return functional.linear(x, self.mask * self.weight, self.bias)

  class MADE(nn.Module):
    def __init__(self):
      super().__init__()
      degrees = [torch.arange(LATENTS) + 1, *[torch.arange(WIDTH) % LATENTS] * 2]
      masks = [(after[:, None] >= before[None]).float() for before, after in itertools.pairwise(degrees)]
      masks.append((degrees[0][:, None] > degrees[-1][None]).float().repeat(2, 1))
      self.first, self.second, self.last = map(MaskedLinear, masks)
      self.context = nn.Linear(CONTEXT, WIDTH, bias=False)

    def forward(self, z, context):
      h = functional.elu(self.first(z) + self.context(context))
      return self.last(functional.elu(self.second(h))).chunk(2, 1)

  return MADE


def _torch(args):
  """The same networks and step as one writes them in PyTorch."""
  import numpy as np
  import torch
  from torch import nn
  from torch.nn import functional

  torch.set_num_threads(args.threads or torch.get_num_threads())
  pixels, build = torch.from_numpy(np.load(args.data)), _masked_network()
  mlp = lambda *sizes: [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.Tanh())]
  features, head = nn.Sequential(*mlp(784, 200, 200)), nn.Linear(200, 2 * LATENTS)
  to_context, flow = nn.Linear(200, CONTEXT), nn.ModuleList([build() for _ in range(STEPS)])
  decoder = nn.Sequential(*mlp(LATENTS, 200, 200), nn.Linear(200, 784))
  weights = [*nn.ModuleList([features, head, to_context, flow, decoder]).parameters()]

  def loss(x):
    h = features(x)
    mean, logvar = head(h).chunk(2, 1)
    context, noise, log_det = to_context(h), torch.randn_like(mean), 0
    z = mean + noise * (0.5 * logvar).exp()
    for network in flow:
      shift, raw = network(z, context)
      gate = torch.sigmoid(raw + 2)
      z, log_det = (gate * z + (1 - gate) * shift).flip(1), log_det + functional.logsigmoid(raw + 2).sum(1)
    lost = functional.binary_cross_entropy_with_logits(decoder(z), x, reduction='none').sum(1)
    log_q = -0.5 * (logvar + noise.square()).sum(1) - log_det
    return (lost + log_q + 0.5 * z.square().sum(1)).mean()

  def trainer(**form):
    adam = torch.optim.Adam(weights, lr=2e-3, **form)

    def step():
      x = torch.bernoulli(pixels[torch.randint(len(pixels), (BATCH,))].float().div_(255))
      adam.zero_grad(set_to_none=True)
      loss(x).backward()
      adam.step()

    return step

  about, rate = in_turn.fastest(trainer, 'cpu')
  return about | {'parameters': sum(weight.numel() for weight in weights)}, rate


if __name__ == '__main__':
  in_turn.run(__file__, {'what': WHAT, 'config': CONFIG}, __doc__, {'jax': _jax, 'torch': _torch})
