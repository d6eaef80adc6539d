"""Convolutional DRAW on CIFAR-10.

Paper: Gregor et al. 2016, arXiv:1604.08772, section 2 and table 2: Gaussian pixels of dequantized data. 32 steps,
kernels of 5x5, 320 maps, 12 maps of latents and the rate are recalled. Ours: a deviation a channel, batch, length.
Command: python train.py --config=configs/conv_draw_cifar10.py --workdir=runs/conv_draw_cifar10
Variants: (none); medium (16 steps of 96 maps), small (6 steps of 32 maps, 3x3, 8 maps of latents), both with
discretized logistic pixels; tiny, tiny_logistic.
Cost: a step takes 1.6 TFLOP an image; small 1.3 GFLOP, twenty minutes on two CPU cores.
Expected: below 3.58 bits/dim (van den Oord et al. 2016, table 3). No run is recorded yet.
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

LOGISTIC = {'model.likelihood': 'discretized_logistic', 'data.preprocess': 'scale_symmetric'}
MEDIUM = {'model.steps': 16, 'model.features': 96}
SMALL = {
  'model.steps': 6, 'model.features': 32, 'model.kernel': 3, 'model.latents': (8,), 'model.unroll': True,
  'optimizer': {'model': optimizer(schedule='cosine', clip_norm=10.0)}, 'epochs': 0.0, 'batch_size': 32, 'steps': 1500,
  'steps_per_call': 1, 'log_every': 100, 'eval_every': 500, 'save_every': 500, 'picture_every': 0,
}  # fmt: skip
TINY_NETWORKS = {
  'model.steps': 2, 'model.features': 6, 'model.kernel': 3, 'model.latents': (2,), 'model.unroll': True,
  'optimizer': {'model': optimizer(learning_rate=3e-3)}, 'epochs': 0.0,
}  # fmt: skip
VARIANTS = {
  '': {},
  'medium': (LOGISTIC, MEDIUM),
  'small': (LOGISTIC, SMALL),
  'tiny': (TINY_NETWORKS, shrink),
  'tiny_logistic': (LOGISTIC, TINY_NETWORKS, shrink),
}
TINY = ('tiny_logistic',)  # the network is also tested by conv_draw_mnist


def get_config(variant=''):
  config = defaults()
  config.system = 'draw.conv_draw'
  config.data.update({'name': 'cifar10', 'preprocess': 'dequantize', 'valid_size': 5000})
  config.model = {
    'steps': 32, 'features': 320, 'kernel': 5, 'latents': (12,), 'likelihood': 'gaussian', 'samples': 1,
    'bound': 'elbo', 'unroll': False, 'remat': True,
  }  # fmt: skip
  config.optimizer = {'model': optimizer(learning_rate=5e-4, clip_norm=10.0)}
  config.update({'batch_size': 100, 'epochs': 100.0, 'steps_per_call': 100, 'best': 'neg_elbo_nats'})
  config.update({'log_every': 500, 'eval_every': 2500, 'save_every': 5000, 'picture_every': 10_000})
  config.evals = ('mean.metrics', 'codes.compression')
  return with_variant(config, VARIANTS, variant)
