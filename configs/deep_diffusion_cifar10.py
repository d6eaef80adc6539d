"""Deep diffusion on CIFAR-10.

Paper: Sohl-Dickstein et al. 2015, arXiv:1503.03585, appendix D.2, and the sizes, schedule and optimizer of the authors'
program for CIFAR-10. Ours: three scales (the paper has several, the program one), images held out, evaluation at ten
steps of each image besides the first, whose variance is learned, too.
Command: python train.py --config=configs/deep_diffusion_cifar10.py --workdir=runs/deep_diffusion_cifar10
Variants: (none) 13.6 million parameters; small: three layers of 32 maps for a CPU, which weighs steps and spaces bumps
by the logarithm of t; tiny.
Cost: a step of small takes 0.15 to 0.2 seconds of one CPU core.
Expected: below 4.20 +- .07 bits/dim, the paper's 5.4 bits a pixel in other units: docs/deck.md. No run is recorded yet.
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

SMALL = {
  'model.denoiser': {
    'network': 'multi_scale', 'features': 32, 'layers': 3, 'scales': 3, 'dense': 0, 'upper': 64, 'upper_layers': 3,
    'bumps': 10, 'spacing': 'logarithmic',
  },
  'model.predicts': 'velocity', 'model.times': 'logarithmic', 'model.sampler.steps': 50, 'model.average': 0.999,
  'model.evaluated': 4,
  'optimizer': {'model': optimizer(learning_rate=2e-3, schedule='cosine', clip_norm=10.0, warmup_steps=100)},
  'data.valid_size': 400, 'batch_size': 32, 'epochs': 0.0, 'steps': 8000, 'steps_per_call': 1, 'log_every': 100,
  'eval_every': 2000, 'save_every': 500, 'picture_every': 0, 'eval_batch_size': 100,
}  # fmt: skip
SMALLEST = {
  'model.denoiser.features': 6, 'model.denoiser.layers': 1, 'model.denoiser.scales': 2, 'model.denoiser.dense': 4,
  'model.denoiser.dense_layers': 2, 'model.denoiser.dense_features': 1, 'model.denoiser.upper': 6,
  'model.denoiser.upper_layers': 2, 'model.denoiser.bumps': 2, 'model.steps': 4, 'model.evaluated': 2,
  'model.sampler.steps': 2, 'optimizer': {'model': optimizer(learning_rate=3e-3)}, 'epochs': 0.0, 'nll.examples': 0,
}  # fmt: skip
VARIANTS = {'': {}, 'small': SMALL, 'tiny': (SMALLEST, shrink)}


def get_config(variant=''):
  config = defaults()
  config.system = 'diffusion.deep_diffusion'
  config.data.update({'name': 'cifar10', 'preprocess': 'dequantize', 'valid_size': 5000})
  config.model = {
    'likelihood': 'normal',
    'denoiser': {
      'network': 'multi_scale', 'features': 100, 'layers': 6, 'scales': 3, 'dense': 1000, 'dense_layers': 6,
      'dense_features': 5, 'upper': 100, 'upper_layers': 4, 'bumps': 10, 'spacing': 'linear',
    },
    'steps': 1000, 'schedule': 'fraction', 'rates': (1e-4, 0.02), 'predicts': 'mean', 'variance': 'learned',
    'times': 'uniform', 'evaluated': 10, 'sampler': {'steps': 1000, 'eta': 1.0}, 'average': 0.0,
  }  # fmt: skip
  # A tenth of the rate after 500,000 steps.
  rmsprop = optimizer(name='rmsprop', b2=0.9, learning_rate=1e-3, schedule='exponential', decay=0.1 ** (1 / 500_000))
  config.optimizer = {'model': rmsprop}
  config.update({'batch_size': 200, 'epochs': 1700.0, 'steps_per_call': 25, 'best': 'neg_elbo_nats'})
  config.update({'log_every': 500, 'eval_every': 5000, 'save_every': 5000, 'picture_every': 25_000})
  config.nll.update({'samples': 1000, 'examples': 1000})
  return with_variant(config, VARIANTS, variant)
