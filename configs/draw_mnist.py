"""DRAW on MNIST, with attention or without.

Paper: Gregor et al. 2015, arXiv:1502.04623, section 4.1 and table 3: 64 steps, LSTMs of 256, 100 latents a step, 2x2
read, 5x5 written. Clipping at 10 and the rate 3e-4: a public program (jbornschein/draw). Dynamic data: ours.
Command: python train.py --config=configs/draw_mnist.py --workdir=runs/draw_mnist
Variants: (none) attention; whole: reads and writes whole images; small (whole, 10 steps, 20 latents); small_attention
(16 steps, LSTMs of 128, 10 latents, windows of 5x5); tiny, tiny_attention.
Cost: small 46 minutes, small_attention 26 on a busy core.
Expected: bound 80.97 nats with attention, 87.40 without, on another, fixed binarization. Measured: small 92.32,
small_attention 94.03.
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

WHOLE = {'model.read': 0, 'model.write': 0}
SMALL = {
  'data.valid_size': 400, 'optimizer': {'model': optimizer(schedule='cosine', clip_norm=10.0)}, 'steps_per_call': 20,
  'log_every': 200, 'eval_every': 2000, 'save_every': 1000, 'picture_every': 0,
}  # fmt: skip
SMALL_WHOLE = {'model.steps': 10, 'model.latents': (20,), 'epochs': 12.0}
SMALL_ATTENTION = {
  'model.steps': 16, 'model.hidden': 128, 'model.latents': (10,), 'model.read': 5, 'model.write': 5, 'epochs': 20.0,
}  # fmt: skip
TINY_NETWORKS = {
  'model.steps': 3, 'model.hidden': 16, 'model.latents': (4,), 'optimizer': {'model': optimizer(learning_rate=3e-3)}
}  # fmt: skip
VARIANTS = {
  '': {},
  'whole': WHOLE,
  'small': (SMALL, WHOLE, SMALL_WHOLE),
  'small_attention': (SMALL, SMALL_ATTENTION),
  'tiny': (WHOLE, TINY_NETWORKS, shrink),
  'tiny_attention': (TINY_NETWORKS, {'model.read': 2, 'model.write': 3}, shrink),
}
TINY = ('tiny', 'tiny_attention')  # the variants that tests run


def get_config(variant=''):
  config = defaults()
  config.system = 'draw.draw'
  config.data.update({'name': 'mnist', 'preprocess': 'dynamic_binarize', 'valid_size': 10_000})
  config.model = {
    'steps': 64, 'hidden': 256, 'latents': (100,), 'read': 2, 'write': 5, 'likelihood': 'bernoulli', 'samples': 1,
    'bound': 'elbo', 'unroll': False, 'remat': False,
  }  # fmt: skip
  config.optimizer = {'model': optimizer(learning_rate=3e-4, clip_norm=10.0)}
  config.update({'batch_size': 100, 'epochs': 100.0, 'steps_per_call': 100, 'best': 'neg_elbo_nats'})
  config.update({'log_every': 500, 'eval_every': 2500, 'save_every': 5000, 'picture_every': 10_000})
  config.evals = ('mean.metrics',)
  return with_variant(config, VARIANTS, variant)
