"""Denoising diffusion on CIFAR-10.

Paper: Ho et al. 2020, arXiv:2006.11239, section 4 and appendix B: 35.7 million parameters, 1000 linear steps, the
squared error of the noise. Ours: images are not flipped, and some are held out.
Command: python train.py --config=configs/ddpm_cifar10.py --workdir=runs/ddpm_cifar10
Variants: (none); bound: trained on the bound; velocity: with a cosine schedule; small: 32 and 64 features on squares
of 2x2 pixels, for a CPU; tiny, tiny_bound.
Cost: not timed yet.
Expected: below 3.75 bits/dim and FID 3.17 (paper; bound: below 3.70 and 13.51). No run is recorded yet.
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

VELOCITY = {'model.predicts': 'velocity', 'model.schedule': 'cosine'}
SMALL = {
  'model.denoiser': {
    'network': 'unet', 'features': 32, 'multipliers': (1, 2, 2), 'blocks': 1, 'attention': (8,), 'groups': 8,
    'dropout': 0.0, 'patch': 2,
  },
  'model.sampler.steps': 50, 'model.average': 0.998, 'model.evaluated': 3,
  'optimizer': {'model': optimizer(schedule='cosine', warmup_steps=100)},
  'data.valid_size': 400, 'batch_size': 64, 'steps': 2500, 'steps_per_call': 1, 'log_every': 100, 'eval_every': 500,
  'save_every': 500, 'picture_every': 0, 'eval_batch_size': 100,
}  # fmt: skip
SMALLEST = {
  'model.denoiser': {
    'network': 'unet', 'features': 4, 'multipliers': (1, 1), 'blocks': 1, 'attention': (), 'groups': 2, 'dropout': 0.1,
    'patch': 2,
  },
  'model.steps': 4, 'model.evaluated': 2, 'model.sampler.steps': 2, 'model.average': 0.9,
  'optimizer': {'model': optimizer(learning_rate=3e-3)}, 'nll.examples': 0,
}  # fmt: skip
VARIANTS = {
  '': {},
  'bound': {'model.weights': 'bound'},
  'velocity': VELOCITY,
  'small': (VELOCITY, SMALL),
  'tiny': (SMALLEST, shrink),
  'tiny_bound': (VELOCITY, SMALLEST, {'model.weights': 'bound', 'model.variance': 'learned'}, shrink),
}
TINY = ('tiny', 'tiny_bound')  # the variants that tests run


def get_config(variant=''):
  config = defaults()
  config.system = 'diffusion.ddpm'
  config.data.update({'name': 'cifar10', 'preprocess': 'scale_symmetric', 'valid_size': 5000})
  config.model = {
    'likelihood': 'discretized_normal',
    'denoiser': {
      'network': 'unet', 'features': 128, 'multipliers': (1, 2, 2, 2), 'blocks': 2, 'attention': (16,), 'groups': 32,
      'dropout': 0.1, 'patch': 1,
    },
    'steps': 1000, 'schedule': 'linear', 'rates': (1e-4, 0.02), 'predicts': 'noise', 'variance': 'forward',
    'weights': 'simple', 'times': 'uniform', 'evaluated': 10, 'sampler': {'steps': 1000, 'eta': 1.0},
    'average': 0.9999,
  }  # fmt: skip
  config.optimizer = {'model': optimizer(learning_rate=2e-4, clip_norm=1.0, warmup_steps=5000)}
  config.update({'batch_size': 128, 'steps': 800_000, 'steps_per_call': 25, 'best': 'neg_elbo_nats'})
  config.update({'log_every': 500, 'eval_every': 10_000, 'save_every': 5000, 'picture_every': 50_000})
  config.nll.update({'samples': 1000, 'examples': 1000})
  return with_variant(config, VARIANTS, variant)
