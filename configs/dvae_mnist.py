"""The discrete variational autoencoder on MNIST: groups of bits under a Boltzmann machine, continuous layers below.

Paper: Rolfe 2017, arXiv:1609.02200, section 5: 64+64 bits in 4 groups, no hidden layer for the pixels, 100 chains.
Widths, continuous layers, sweeps, rate and length: ours. dwave: a public program of its authors, xmax1/dvae.
Command: python train.py --config=configs/dvae_mnist.py --workdir=runs/dvae_mnist
Variants: (none); dwave (4 groups of 100 bits, no continuous layer); power (overlapping smoothings, Vahdat et al. 2018);
small (2 groups, no continuous layer, 60 epochs); small_fixed (its machine without weights); tiny, tiny_layers,
tiny_power. Cost: not timed yet.
Expected, NLL in nats (10,000 samples): 80.15 dynamic, 81.01 static. No run is recorded yet.
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

ONE_LEVEL = {'model.layers': 0, 'model.pixel_hidden': (200, 200), 'model.hidden': (200, 200)}


def ramp(config):
  config.model.update({'bound': 'warm_up', 'warm_up': 300_000})
  rates = tuple(3e-3 * share for share in (1 / 10, 1, 1 / 3, 1 / 10, 1 / 33))
  config.optimizer.model.update({'schedule': 'stages', 'stage_rates': rates, 'eps': 1e-3, 'weight_decay': 1e-4})
  config.update({'epochs': 0.0, 'stage_epochs': (40.0, 1160.0, 300.0, 400.0, 100.0)})  # of 500 steps


DWAVE = {
  'model.bits': 400, 'model.beta': 5.0, 'model.chains': 1000, 'model.ais_chains': 1024, 'nll.samples': 4000
}  # fmt: skip
SMALL = {
  'model.bit_groups': 2, 'model.sweeps': 20, 'data.valid_size': 400, 'epochs': 60.0, 'picture_every': 0,
  'optimizer.model.learning_rate': 3e-3, 'nll.samples': 500,
}  # fmt: skip
POWER = {'model.smoothing': 'power', 'model.beta': 8.0}
SMALLEST = {
  'model.bits': 6, 'model.hidden': (12,), 'model.pixel_hidden': (12,), 'model.chains': 12, 'model.sweeps': 2,
  'model.bit_groups': 2, 'model.temperatures': 10, 'model.ais_chains': 10, 'optimizer.model.schedule': 'constant',
}  # fmt: skip
LAYERS = {'model.layers': 2, 'model.latents': 3, 'model.prior_hidden': (8,), 'model.bit_groups': 3}
VARIANTS = {
  '': {},
  'dwave': (ONE_LEVEL, DWAVE, ramp),
  'power': POWER,
  'small': (ONE_LEVEL, SMALL),
  'small_fixed': (ONE_LEVEL, SMALL, {'model.coupled': False}),
  'tiny': (ONE_LEVEL, SMALLEST, shrink),
  'tiny_layers': (SMALLEST, LAYERS, shrink),
  'tiny_power': (ONE_LEVEL, SMALLEST, {'model.smoothing': 'power', 'model.beta': 4.0}, shrink),
}
TINY = ('tiny', 'tiny_layers', 'tiny_power')  # the variants that tests run


def get_config(variant=''):
  config = defaults()
  config.system = 'discrete.discrete_vae'
  config.data.update({'name': 'mnist', 'preprocess': 'dynamic_binarize', 'valid_size': 10_000})
  config.model = {
    'bits': 128, 'bit_groups': 4, 'smoothing': 'spike_exponential', 'beta': 3.0, 'coupled': True, 'hidden': (500, 500),
    'pixel_hidden': (), 'prior_hidden': (500,), 'layers': 2, 'latents': 50, 'shared': True, 'activation': 'relu',
    'norm': True, 'chains': 100, 'sweeps': 40, 'log_z': 'ais', 'temperatures': 1000, 'ais_chains': 1000,
    'likelihood': 'bernoulli', 'samples': 1, 'bound': 'elbo',
  }  # fmt: skip
  config.optimizer = {'model': optimizer(learning_rate=1e-3, schedule='linear')}
  config.update({'batch_size': 100, 'epochs': 500.0, 'steps_per_call': 100, 'best': 'neg_elbo_nats'})
  config.update({'log_every': 500, 'eval_every': 5000, 'save_every': 5000, 'picture_every': 50_000})
  config.nll.update({'samples': 10_000, 'rows': 1000})
  config.evals = ('mean.metrics', 'likelihood.nll')
  return with_variant(config, VARIANTS, variant)
