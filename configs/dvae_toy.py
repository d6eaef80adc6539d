"""A discrete variational autoencoder of 4+4 bits on digits of 4x4 pixels, whose likelihood can be computed exactly.

Paper: Rolfe 2017, arXiv:1609.02200, equations 11 and 12; all sizes are ours.
Command: python train.py --config=configs/dvae_toy.py --workdir=runs/dvae_toy
Variants: (none); tiny. Cost: seconds.
Expected: nothing published; tests compare its bound with the exact likelihood.
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

VARIANTS = {'': {}, 'tiny': shrink}


def get_config(variant=''):
  config = defaults()
  config.system = 'discrete.discrete_vae'
  config.data.update({'name': 'digits', 'size': 4, 'preprocess': 'threshold', 'valid_size': 100})
  config.model = {
    'bits': 8, 'bit_groups': 2, 'smoothing': 'spike_exponential', 'beta': 3.0, 'coupled': True, 'hidden': (16,),
    'pixel_hidden': (), 'prior_hidden': (), 'layers': 0, 'latents': 1, 'shared': True, 'activation': 'relu',
    'norm': True, 'chains': 100, 'sweeps': 10, 'log_z': 'exact', 'temperatures': 100, 'ais_chains': 100,
    'likelihood': 'bernoulli', 'samples': 1, 'bound': 'elbo',
  }  # fmt: skip
  config.optimizer = {'model': optimizer(learning_rate=3e-3)}
  config.update({'batch_size': 96, 'steps': 3000, 'steps_per_call': 100, 'best': 'neg_elbo_nats'})
  config.update({'log_every': 300, 'eval_every': 600, 'save_every': 3000, 'picture_every': 3000})
  config.evals = ('mean.metrics', 'likelihood.nll')
  return with_variant(config, VARIANTS, variant)
