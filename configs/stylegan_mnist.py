"""StyleGAN on MNIST with two pixels of black around it: the paper's networks at 32 x 32, and small ones that grow.

Paper: Karras et al. 2019, arXiv:1812.04948; networks and rates of configs/stylegan_ffhq.py:32, without a fade.
Command: python train.py --config=configs/stylegan_mnist.py:small_8 --workdir=runs/stylegan_mnist_small_8, then
:small_16 and :small_32 with folders named alike; each grafts the one before.
Variants: (none); small_8, small_16, small_32: 16 channels at 32 x 32, lazy R1; traditional_small_8 and so on, the same
with a traditional generator; tiny. Cost: all small stages 45 minutes on two CPU cores.
Expected: every digit has a share of at least 2 %, fid_classifier/10k of at most 30 (DCGAN, small: 4.2). Judges see the
middle 28 x 28.
"""

from dgm_jax.config import build_on, shrink, with_variant

FOLDER = 'runs/stylegan_mnist_'
SMALL = {
  'model.generator.width': 64, 'model.generator.layers': 4, 'model.generator.multiplier': 0.1,
  'model.generator.base': 256, 'model.generator.most': 64, 'model.critic.base': 256, 'model.critic.most': 64,
  'model.critic.regularisers': {'r1': 1.0}, 'model.latents': 64, 'model.lazy': 4, 'model.half_life': 5000,
  'batch_size': 4 * 32,
  'optimizer.discriminator.learning_rate': 3e-3, 'optimizer.generator.learning_rate': 3e-3,
}  # fmt: skip
STEPS = {8: 500, 16: 700, 32: 1400}  # of four turns of 32 images


def stage(size, kind=''):
  """What differs in the small run of one size."""
  fresh, before = size == min(STEPS), f'{FOLDER}{kind}small_{size // 2}'
  unjudged = {} if size == max(STEPS) else {'evals': ('mean.metrics',)}  # judges see images of 28 x 28
  return SMALL | unjudged | {
    'data.size': 0 if size == max(STEPS) else size,
    'graft': {} if fresh else {'generator': before, 'critic': before}, 'graft_fresh': not fresh,
    'model.fade': 0 if fresh else 20_000, 'steps': STEPS[size],
  }  # fmt: skip


def traditional(config):
  """The traditional generator, whose mapping is as deep."""
  settings = config.model.generator.to_dict() | {'network': 'traditional'}
  config.model.generator = {key: value for key, value in settings.items() if key in TRADITIONAL}
  config.evals = tuple(name for name in config.evals if name != 'style.mixing')


def tiny(config):
  shrink(config)
  config.data.pad = 0
  config.model.latents = 4
  config.model.generator.update({'width': 4, 'layers': 2, 'base': 16, 'most': 4, 'multiplier': 0.1})
  config.model.generator.constant = 'normal'  # the norm of a constant of ones multiplies rounding by 1e4
  config.model.critic.update({'base': 16, 'most': 4})
  config.model.update({'fade': 100, 'lazy': 2, 'half_life': 50})
  for player in config.optimizer.values():
    player.update({'eps': 0.1, 'b1': 0.95, 'learning_rate': 2e-4})


TRADITIONAL = ('network', 'width', 'layers', 'multiplier', 'base', 'most')  # settings of that generator
WGAN_GP = {
  'model.objective': 'wasserstein', 'model.critic.regularisers': {'gradient_penalty': 10.0, 'drift': 1e-3}
}  # fmt: skip
VARIANTS = {
  '': {},
  **{f'small_{size}': stage(size) for size in STEPS},
  **{f'traditional_small_{size}': (stage(size, 'traditional_'), traditional) for size in STEPS},
  'tiny': tiny,
  'tiny_traditional': (tiny, WGAN_GP, traditional, {'model.lazy': 1, 'model.fade': 0}),
}
TINY = ('tiny', 'tiny_traditional')


def get_config(variant=''):
  config = build_on(__file__, 'stylegan_ffhq:32')
  config.data.update({'name': 'mnist', 'size': 0, 'pad': 2, 'channels': 0, 'valid_size': 10_000})
  config.graft = {}
  config.update({'graft_fresh': False, 'steps': 100_000, 'steps_per_call': 1})
  config.model.update({'fade': 0, 'mirror': False})
  config.update({'log_every': 20, 'eval_every': 200, 'save_every': 100, 'picture_every': 200, 'eval_batch_size': 250})
  config.pictures = 64
  config.evals = ('mean.metrics', 'generated.classifier', 'style.mixing', 'style.path_length', 'style.separability')
  config.generated.samples = 0
  config.judge = 'runs/classifier_mnist'
  return with_variant(config, VARIANTS, variant)
