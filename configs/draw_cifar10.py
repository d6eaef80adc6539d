"""DRAW on CIFAR-10, on 256 levels.

Paper: Gregor et al. 2015, arXiv:1502.04623, section 4.5 and table 3: 64 steps, LSTMs of 400, 200 latents a step,
windows of 5x5. Ours: the discretized logistic likelihood, whose mean is the canvas and whose scale is learned for each
channel, rate, clipping, batch and length.
Command: python train.py --config=configs/draw_cifar10.py --workdir=runs/draw_cifar10
Variants: (none); small (16 steps, LSTMs of 256, 50 latents); tiny.
Expected: below 4.13 bits/dim (van den Oord et al. 2016, table 3). No run is recorded yet.
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

VARIANTS = {
  '': {},
  'small': {'model.steps': 16, 'model.hidden': 256, 'model.latents': (50,), 'epochs': 20.0},
  'tiny': ({'model.steps': 2, 'model.hidden': 16, 'model.latents': (4,), 'model.read': 2, 'model.write': 3}, shrink),
}
TINY = ()  # the programs are those of draw_mnist


def get_config(variant=''):
  config = defaults()
  config.system = 'draw.draw'
  config.data.update({'name': 'cifar10', 'preprocess': 'scale_symmetric', 'valid_size': 5000})
  config.model = {
    'steps': 64, 'hidden': 400, 'latents': (200,), 'read': 5, 'write': 5, 'likelihood': 'discretized_logistic',
    'samples': 1, 'bound': 'elbo', 'unroll': False, 'remat': False,
  }  # fmt: skip
  config.optimizer = {'model': optimizer(learning_rate=3e-4, clip_norm=10.0)}
  config.update({'batch_size': 100, 'epochs': 100.0, 'steps_per_call': 100, 'best': 'neg_elbo_nats'})
  config.update({'log_every': 500, 'eval_every': 2500, 'save_every': 5000, 'picture_every': 10_000})
  config.evals = ('mean.metrics', 'codes.compression')
  return with_variant(config, VARIANTS, variant)
