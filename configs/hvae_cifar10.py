"""Hierarchical variational autoencoders on CIFAR-10: ladders of maps of latents, and a very deep one.

Paper: Child 2021, arXiv:2011.10650, and its program (vdvae; there gradients are of nats per dimension; the average that
moves after skipped updates, decay of matrices alone and pixels in [-1, 1] are ours); the program
addtt/ladder-vae-pytorch (conv15; its halvings, length, free bits of the batch's mean: ours).
Command: python train.py --config=configs/hvae_cifar10.py:vdvae --workdir=runs/hvae_cifar10
Variants: vdvae, 43 levels, 39 million parameters; conv15, 15 levels; small: 6 levels for a CPU; tiny.
Cost: no full run is recorded yet.
Expected, bits/dim: vdvae 2.87 (bound); conv15 3.35 (bound), 3.32 by 100 samples.
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

DIMS = 32 * 32 * 3  # numbers of an image, for bounds of gradients of nats per dimension


def gated(down, features, latents, blocks):
  """Returns the ladder of maps with these halvings below each level, from the data up."""

  def change(config):
    network = {'name': 'gated', 'down': down, 'latents': latents, 'features': features, 'blocks': blocks}
    config.system = 'ladder.top_down'
    config.model = {
      'network': network | {'dropout': 0.2}, 'likelihood': 'logistic_mixture', 'components': 10, 'samples': 1,
      'bound': 'free_bits', 'free_bits': 1.0, 'groups': 1,
    }  # fmt: skip
    config.optimizer = {'model': optimizer(name='adamax', learning_rate=3e-4)}
    config.update({'batch_size': 64, 'epochs': 500.0})
    config.nll.update({'samples': 100, 'rows': 100})

  return change


SMALL = {
  'model.down': '32x1,32d2,16x2,16d2,8x2,8d2,4x2,4d4,1x1', 'model.up': '1x1,4m1,8m4,16m8,32m16,32x1',
  'model.features': 64, 'model.middle': 16, 'model.latents': 8, 'model.average': 0.999, 'epochs': 2.0,
  'nll.samples': 10, 'nll.examples': 500,
}  # fmt: skip
SMALLEST = {
  'model.down': '8x1,8d4,2x1', 'model.up': '2x1,8m2', 'model.features': 6, 'model.middle': 4,
  'model.latents': 2, 'model.components': 2, 'model.average': 0.9,
}  # fmt: skip
VARIANTS = {
  'vdvae': {},
  'conv15': gated((0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0), 64, 32, 4),
  'small': SMALL,
  'tiny': (SMALLEST, shrink),
}


def get_config(variant='vdvae'):
  config = defaults()
  config.system = 'ladder.vdvae'
  config.data.update({'name': 'cifar10', 'preprocess': 'scale_symmetric', 'valid_size': 400})
  config.model = {
    'down': '32x11,32d2,16x6,16d2,8x6,8d2,4x3,4d4,1x3', 'up': '1x1,4m1,4x2,8m4,8x5,16m8,16x10,32m16,32x21',
    'features': 384, 'middle': 96, 'latents': 16, 'likelihood': 'logistic_mixture', 'components': 10, 'samples': 1,
    'bound': 'elbo', 'average': 0.9999,
  }  # fmt: skip
  adam = optimizer(
    learning_rate=2e-4, b2=0.9, weight_decay=0.01, clip_norm=200.0 * DIMS, skip_norm=400.0 * DIMS, warmup_steps=100
  )  # fmt: skip
  config.optimizer = {'model': adam}
  # XLA's convolutions on a CPU are some twenty times slower inside a loop; a step takes long enough by itself.
  config.update(
    {'steps_per_call': 1, 'log_every': 100, 'eval_every': 2000, 'save_every': 1000, 'picture_every': 10_000}
  )
  config.update({'batch_size': 32, 'epochs': 700.0, 'init_examples': 256, 'eval_batch_size': 100})
  config.best = 'neg_elbo_nats'
  config.evals = ('mean.metrics', 'likelihood.nll')  # units by the hundred thousand would fill the memory
  config.nll.update({'samples': 100, 'rows': 100})
  return with_variant(config, VARIANTS, variant or 'vdvae')
