"""Rows of autoencoders of bits."""

from papers.row import Row, adam

ROLFE = (
  'Rolfe 2017, arXiv:1609.02200, section 5; the smoothing is recalled; widths, continuous layers, sweeps, rate, length'
  ' and images held out are ours'
)
DWAVE = (
  'program xmax1/dvae of the authors of Rolfe 2017; weights that decay beside the gradient, a ramp of the whole'
  ' divergence and images held out are ours'
)
DYNAMIC = ('mnist', 'dynamic_binarize', 10_000)
MACHINE = {
  'bits': 128, 'bit_groups': 4, 'smoothing': 'spike_exponential', 'beta': 3.0, 'coupled': True, 'chains': 100,
  'sweeps': 40, 'log_z': 'ais', 'temperatures': 1000, 'ais_chains': 1000, 'likelihood': 'bernoulli', 'samples': 1,
  'bound': 'elbo',
}  # fmt: skip


def body(inputs, *widths):
  """Layers without biases, each with the gain and the shift of a batch normalisation."""
  return sum((below + 2) * width for below, width in zip((inputs, *widths), widths, strict=False))


def groups(size, count, width):
  """The networks of groups of bits: image and bits before, two layers, log-odds."""
  return sum(body(784 + size * group, width, width) + (width + 1) * size for group in range(count))


def rolfe():
  """Two continuous layers of 50 that share kernels and heads; each has normalisations of its own."""
  width, latents, bits = 500, 50, 128
  model = MACHINE | {
    'hidden': (width, width), 'pixel_hidden': (), 'prior_hidden': (width,), 'layers': 2, 'latents': latents,
    'shared': True, 'activation': 'relu', 'norm': True,
  }  # fmt: skip
  below, head = bits + 2 * latents, (width + 1) * 2 * latents
  encoder = groups(32, 4, width) + body(784 + below, width, width) + 2 * 2 * width + head
  decoder = body(below, width) + 2 * width + head + (below + 1) * 784
  counts = {'encoder': encoder, 'decoder': decoder, 'prior': bits + 64 * 64}
  players, run = {'model': adam(schedule='linear')}, {'batch_size': 100, 'epochs': 500.0}
  return Row(ROLFE, 'discrete.discrete_vae', DYNAMIC, model, players, run, counts)


def dwave():
  """Four groups of 100 bits, networks of 2 x 200, 10^6 steps of 100 images."""
  width, bits = 200, 400
  model = MACHINE | {
    'bits': bits, 'beta': 5.0, 'chains': 1000, 'ais_chains': 1024, 'hidden': (width, width),
    'pixel_hidden': (width, width), 'prior_hidden': (500,), 'layers': 0, 'latents': 50, 'shared': True,
    'activation': 'relu', 'norm': True, 'bound': 'warm_up', 'warm_up': 300_000,
  }  # fmt: skip
  decoder = body(bits, width, width) + (width + 1) * 784
  counts = {'encoder': groups(100, 4, width), 'decoder': decoder, 'prior': bits + 200 * 200}
  rates = tuple(3e-3 * share for share in (1 / 10, 1, 1 / 3, 1 / 10, 1 / 33))
  players = {'model': adam(schedule='stages', stage_rates=rates, eps=1e-3, weight_decay=1e-4)}
  run = {'batch_size': 100, 'stage_epochs': (40.0, 1160.0, 300.0, 400.0, 100.0)}
  return Row(DWAVE, 'discrete.discrete_vae', DYNAMIC, model, players, run, counts)


def toy():
  """Ours, but for the equations: two groups of four bits, two for each half, and pixels without a hidden layer."""
  source = 'Rolfe 2017, arXiv:1609.02200, equations 11 and 12; all sizes, rates and data are ours'
  model = MACHINE | {
    'bits': 8, 'bit_groups': 2, 'sweeps': 10, 'log_z': 'exact', 'temperatures': 100, 'ais_chains': 100, 'hidden': (16,),
    'pixel_hidden': (), 'prior_hidden': (), 'layers': 0, 'latents': 1, 'shared': True, 'activation': 'relu',
    'norm': True,
  }  # fmt: skip
  players, run = {'model': adam(3e-3)}, {'batch_size': 96, 'steps': 3000, 'size': 4}
  return Row(source, 'discrete.discrete_vae', ('digits', 'threshold', 100), model, players, run)


TABLE = {'dvae_mnist:': rolfe(), 'dvae_mnist:dwave': dwave(), 'dvae_toy:': toy()}
