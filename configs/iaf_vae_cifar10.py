"""A residual ladder on CIFAR-10 with an inverse autoregressive step in the posterior of each of 20 levels.

Paper: Kingma et al. 2016, arXiv:1606.04934, section 6.2 and appendix C; sizes, rate and the scale exp(0.1 s) of its
program's best run. Open edge bins of the likelihood, the vector at the top that starts at random, plain gains of weight
normalisation, images held out and length: ours.
Command: python train.py --config=configs/iaf_vae_cifar10.py --workdir=runs/iaf_vae_cifar10
Variants: (none); small: 4 levels for a CPU; tiny. Cost: no full run is recorded yet.
Expected, bits/dim: 3.15 (bound), 3.11 by 10,000 samples.
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

SMALL = {
  'model.blocks': 4, 'model.features': 48, 'model.latents': 8, 'model.groups': 8, 'batch_size': 32, 'epochs': 1.0,
  'nll.samples': 20, 'nll.examples': 500,
}  # fmt: skip
SMALLEST = {
  'model.blocks': 2, 'model.features': 4, 'model.latents': 2, 'model.groups': 2, 'model.average': 0.9,
  'nll.examples': 0,
}  # fmt: skip
VARIANTS = {'': {}, 'small': SMALL, 'tiny': (SMALLEST, shrink)}


def get_config(variant=''):
  config = defaults()
  config.system = 'ladder.iaf'
  config.data.update({'name': 'cifar10', 'preprocess': 'scale_symmetric', 'valid_size': 400})
  config.model = {
    'blocks': 20, 'features': 160, 'latents': 32, 'likelihood': 'discretized_logistic', 'samples': 1,
    'bound': 'free_bits', 'free_bits': 0.1, 'groups': 32, 'average': 0.999,
  }  # fmt: skip
  config.optimizer = {'model': optimizer(name='adamax', learning_rate=2e-3)}
  # XLA's convolutions on a CPU are some twenty times slower inside a loop; a step takes long enough by itself.
  config.update(
    {'steps_per_call': 1, 'log_every': 100, 'eval_every': 2000, 'save_every': 1000, 'picture_every': 10_000}
  )
  config.update({'batch_size': 256, 'epochs': 1000.0, 'init_examples': 256, 'eval_batch_size': 100})
  config.best = 'neg_elbo_nats'
  config.evals = ('mean.metrics', 'likelihood.nll')  # units by the hundred thousand would fill the memory
  config.nll.update({'samples': 10_000, 'rows': 500, 'examples': 500})
  return with_variant(config, VARIANTS, variant)
