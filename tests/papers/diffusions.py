"""Rows of diffusion models."""

import itertools

from papers.row import Row, adam

DEEP = (
  'Sohl-Dickstein et al. 2015, arXiv:1503.03585, appendix D.2, with the sizes, the schedule and the optimizer of the'
  " authors' program; three scales, images held out and evaluation are ours"
)
TOY = 'Sohl-Dickstein et al. 2015, arXiv:1503.03585, appendix D.1; optimizer, batch and length are ours'
HO = (
  'Ho et al. 2020, arXiv:2006.11239, section 4 and appendix B, and its program; images held out and evaluation are ours'
)
OURS = 'Ho et al. 2020, arXiv:2006.11239, for CIFAR-10; the network, length and images held out are ours'
# A tenth in a thousand of the program's epochs.
RMSPROP = {'name': 'rmsprop', 'b2': 0.9, 'schedule': 'exponential', 'decay': 0.1 ** (1 / 500_000)}


def readout(inputs, numbers):
  """Parameters of linear functions for each of ten bumps, for mean and variance of each number."""
  return (inputs + 1) * 2 * numbers * 10


def dense(*sizes):
  return sum((a + 1) * b for a, b in itertools.pairwise(sizes))


def deep(data, channels, pixels, features, layers, wide, of_pixel, upper, run):
  """The network of the program, at three scales; `wide` and `upper` are widths and numbers of layers."""
  model = {
    'likelihood': 'normal',
    'denoiser': {
      'network': 'multi_scale', 'features': features, 'layers': layers, 'scales': 3, 'dense': wide[0],
      'dense_layers': wide[1], 'dense_features': of_pixel, 'upper': upper[0], 'upper_layers': upper[1], 'bumps': 10,
      'spacing': 'linear',
    },
    'steps': 1000, 'schedule': 'fraction', 'rates': (1e-4, 0.02), 'predicts': 'mean', 'variance': 'learned',
    'times': 'uniform', 'evaluated': 10, 'sampler': {'steps': 1000, 'eta': 1.0}, 'average': 0.0,
  }  # fmt: skip
  maps = [channels, *[features] * layers]
  count = sum(27 * a * b + b for a, b in itertools.pairwise(maps))
  count += dense(channels * pixels, *[wide[0]] * (wide[1] - 1), of_pixel * pixels)
  count += dense(features + of_pixel, *[upper[0]] * (upper[1] - 1)) + readout(upper[0], channels)
  return Row(DEEP, 'diffusion.deep_diffusion', data, model, {'model': RMSPROP}, run, {'model': count})


def toy(name, denoiser, count, length, evaluated, **model):
  """Points, for a `length` of updates on 512 each."""
  base = {
    'likelihood': 'normal', 'denoiser': denoiser, 'schedule': 'fraction', 'rates': (1e-4, 0.02), 'predicts': 'mean',
    'variance': 'learned', 'times': 'uniform', 'evaluated': evaluated, 'average': 0.0,
  } | model  # fmt: skip
  base |= {'sampler': {'steps': base['steps'], 'eta': 1.0}}
  players, run = {'model': adam(2e-3, schedule='cosine')}, {'batch_size': 512, 'steps': length}
  data = (f'points:{name}', 'identity', 0)
  return Row(TOY, 'diffusion.deep_diffusion', data, base, players, run, count and {'model': count})


def ddpm(source, data, network, run, count=None, average=0.9999, **model):
  base = {
    'likelihood': 'discretized_normal', 'denoiser': {'network': 'unet', 'patch': 1} | network, 'steps': 1000,
    'schedule': 'linear', 'rates': (1e-4, 0.02), 'predicts': 'noise', 'variance': 'forward', 'weights': 'simple',
    'times': 'uniform', 'evaluated': 10, 'sampler': {'steps': 1000, 'eta': 1.0}, 'average': average,
  }  # fmt: skip
  players = {'model': adam(2e-4, clip_norm=1.0, warmup_steps=5000)}
  parameters = count and {'model': count}
  return Row(source, 'diffusion.ddpm', data, base | model, players, {'batch_size': 128} | run, parameters)


CIFAR = {
  'features': 128, 'multipliers': (1, 2, 2, 2), 'blocks': 2, 'attention': (16,), 'groups': 32, 'dropout': 0.1
}  # fmt: skip
MNIST = {'features': 64, 'multipliers': (1, 2, 2), 'blocks': 2, 'attention': (), 'groups': 32, 'dropout': 0.0}
ROLL = {
  'network': 'dense', 'hidden': (128, 128, 128), 'activation': 'tanh', 'bumps': 10, 'spacing': 'logarithmic', 'waves': 8
}  # fmt: skip
HEARTBEAT = {
  'network': 'dense', 'hidden': (50, 50, 50), 'activation': 'sigmoid', 'bumps': 10, 'spacing': 'linear', 'waves': 0
}  # fmt: skip
TABLE = {
  'deep_diffusion_cifar10:': deep(
    ('cifar10', 'dequantize', 5000), 3, 1024, 100, 6, (1000, 6), 5, (100, 4), {'batch_size': 200, 'epochs': 1700.0}
  ),
  'deep_diffusion_mnist:': deep(
    ('mnist', 'dequantize', 10_000), 1, 784, 20, 4, (500, 4), 2, (20, 2), {'batch_size': 512, 'epochs': 825.0}
  ),
  'deep_diffusion_toy:swiss_roll': toy(
    'swiss_roll', ROLL, dense(2 + 16, 128, 128, 128) + readout(128, 2), 40_000, 20, steps=400, schedule='cosine',
    predicts='velocity', times='logarithmic',
  ),
  'deep_diffusion_toy:swiss_roll_40': toy(
    'swiss_roll', {'network': 'radial', 'units': 16, 'bumps': 10, 'spacing': 'linear'}, 48 + readout(16, 2), 40_000, 39,
    steps=40,
  ),
  'deep_diffusion_toy:heartbeat': toy(
    'heartbeat', HEARTBEAT, None, 20_000, 20, steps=2000, likelihood='bernoulli', predicts='velocity'
  ),
  'ddpm_cifar10:': ddpm(HO, ('cifar10', 'scale_symmetric', 5000), CIFAR, {'steps': 800_000}, 35_746_307),
  'ddpm_cifar10:bound': ddpm(
    HO, ('cifar10', 'scale_symmetric', 5000), CIFAR, {'steps': 800_000}, weights='bound'
  ),
  'ddpm_mnist:': ddpm(OURS, ('mnist', 'scale_symmetric', 10_000), MNIST, {'steps': 100_000}, average=0.999),
}  # fmt: skip
