"""Convolutional DRAW on MNIST, and the same network with a single step.

Paper: Gregor et al. 2016, arXiv:1604.08772, section 2; it has no MNIST. Kernels of 5x5, stride 2, 12 maps of latents,
the rate and the 160 maps, its size for Omniglot, are recalled. Dynamic data, batch and length: ours.
Command: python train.py --config=configs/conv_draw_mnist.py --workdir=runs/conv_draw_mnist
Variants: (none) 16 steps of 160 maps; small (8 steps of 24 maps, 3x3, 4 maps of latents), small_1 (one step); tiny.
Cost: not timed yet.
Expected: small at least 3 nats below small_1 (bound). No run is recorded yet.
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

SMALL = {
  'model.steps': 8, 'model.features': 24, 'model.kernel': 3, 'model.latents': (4,), 'model.unroll': True,
  'data.valid_size': 400, 'optimizer': {'model': optimizer(schedule='cosine', clip_norm=10.0)}, 'epochs': 0.0,
  'batch_size': 50, 'steps': 2000, 'steps_per_call': 1, 'log_every': 100, 'eval_every': 500, 'save_every': 500,
  'picture_every': 0,
}  # fmt: skip
TINY_NETWORKS = {
  'model.steps': 2, 'model.features': 6, 'model.kernel': 3, 'model.latents': (2,), 'model.unroll': True,
  'optimizer': {'model': optimizer(learning_rate=3e-3)}, 'epochs': 0.0,
}  # fmt: skip
VARIANTS = {
  '': {},
  'small': SMALL,
  'small_1': (SMALL, {'model.steps': 1}),
  'tiny': (TINY_NETWORKS, shrink),
}


def get_config(variant=''):
  config = defaults()
  config.system = 'draw.conv_draw'
  config.data.update({'name': 'mnist', 'preprocess': 'dynamic_binarize', 'valid_size': 10_000})
  config.model = {
    'steps': 16, 'features': 160, 'kernel': 5, 'latents': (12,), 'likelihood': 'bernoulli', 'samples': 1,
    'bound': 'elbo', 'unroll': False, 'remat': False,
  }  # fmt: skip
  config.optimizer = {'model': optimizer(learning_rate=5e-4, clip_norm=10.0)}
  config.update({'batch_size': 100, 'epochs': 100.0, 'steps_per_call': 100, 'best': 'neg_elbo_nats'})
  config.update({'log_every': 500, 'eval_every': 2500, 'save_every': 5000, 'picture_every': 10_000})
  config.evals = ('mean.metrics', 'codes.compression')
  return with_variant(config, VARIANTS, variant)
