"""StyleGAN on faces: growing from 8 x 8 to 1024 x 1024, a run for each size, each grafted from the run before.

Paper: Karras et al. 2019, arXiv:1812.04948, row F of table 1, and NVlabs/stylegan. Ours: the crossover is drawn for
each example, deviations are over contiguous groups, the mean style begins at that of 10,000 latents and moves once a
turn (there twice), Adam starts anew with each run (there also at the end of a fade), images are resized by a triangle.
Command: python train.py --config=configs/stylegan_ffhq.py:8 --workdir=runs/stylegan_ffhq_8, then :16, :32, ... :1024,
each with its own folder runs/stylegan_ffhq_SIZE; the main experiment is :1024. The images are a folder of your own.
Variants: 8, 16, 32, 64, 128, 256, 512, 1024; traditional_SIZE; wgan_gp_SIZE, for CelebA-HQ; fq_SIZE from 16 on, with
quantized features (Zhao et al. 2020, arXiv:2004.02088, whose program has StyleGAN2's networks), fq_16 grafted from :8.
Expected: FID 4.40 of 50,000 samples after 25 million images (traditional: 5.25). Not run here.
"""

from dgm_jax.config import defaults, optimizer, with_variant

SIZES = tuple(2**power for power in range(3, 11))
BATCH = {8: 256, 16: 128, 32: 64}  # images
RATE = {128: 1.5e-3, 256: 2e-3, 512: 3e-3, 1024: 3e-3}
STAGE = 600_000  # images of a fade, and as many after it
IMAGES = 25_000_000  # of all stages


def stage(size, kind=''):
  """What differs in the run of one size."""
  fresh, before = size == SIZES[0], f'runs/stylegan_ffhq_{kind}{size // 2}'
  batch = BATCH.get(size, 32)
  images = STAGE if fresh else 2 * STAGE
  if size == SIZES[-1]:
    images = IMAGES - STAGE - 2 * STAGE * (len(SIZES) - 2)
  players = ('discriminator', 'generator')
  return {
    'data.size': size,
    'graft': {} if fresh else {'generator': before, 'critic': before},
    'graft_fresh': not fresh,
    'model.fade': 0 if fresh else STAGE,
    'batch_size': batch,
    'init_examples': 128 if size in BATCH else batch,  # the critic sees them all at once, on every device
    'steps': images // batch,
    **{f'optimizer.{player}.learning_rate': RATE.get(size, 1e-3) for player in players},
  }


TRADITIONAL = {
  'network': 'traditional', 'width': 512, 'layers': 0, 'multiplier': 0.01, 'base': 8192, 'most': 512
}  # fmt: skip
WGAN_GP = {
  'model.objective': 'wasserstein', 'model.critic.regularisers': {'gradient_penalty': 10.0, 'drift': 1e-3}
}  # fmt: skip


def quantized(size):
  """The settings of the authors' program for faces, of the layers that images of a size reach."""
  before = f'runs/stylegan_ffhq_{"fq_" if size > 16 else ""}{size // 2}'
  codes = {
    'layers': tuple(f'layers_{at}' for at in (16, 32) if at <= size), 'codes': 128, 'commitment': 0.25, 'decay': 0.8,
    'feed': False, 'start': 0.0, 'deviation': 1.0, 'both': True,
  }  # fmt: skip
  return {'model.quantize': codes, 'graft': {'generator': before, 'critic': before}}


def slow(config):
  """The released program holds rates of this objective at 0.002 at most."""
  for player in config.optimizer.values():
    player.learning_rate = min(player.learning_rate, 2e-3)


VARIANTS = {
  '': stage(1024),
  **{str(size): stage(size) for size in SIZES},
  **{f'traditional_{size}': ({'model.generator': TRADITIONAL}, stage(size, 'traditional_')) for size in SIZES},
  **{f'wgan_gp_{size}': (WGAN_GP, stage(size, 'wgan_gp_'), slow) for size in SIZES},
  **{f'fq_{size}': stage(size, 'fq_') | quantized(size) for size in SIZES[1:]},
}
TINY = ()  # the programs are those of stylegan_mnist


def get_config(variant=''):
  config = defaults()
  config.system = 'gan.stylegan'
  config.data.update({'name': 'folder:ffhq', 'channels': 3, 'preprocess': 'scale_symmetric', 'valid_size': 1000})
  config.model = {
    'generator': {
      'network': 'style', 'width': 512, 'layers': 8, 'multiplier': 0.01, 'base': 8192, 'most': 512, 'mixing': 0.9,
      'truncated': 8,
    },
    'critic': {'network': 'style', 'base': 8192, 'most': 512, 'group': 4, 'regularisers': {'r1': 10.0}},
    'latents': 512, 'prior': 'normal', 'objective': 'nonsaturating', 'lazy': 1, 'half_life': 10_000, 'fade': 0,
    'mirror': True, 'momentum': 0.995, 'quantize': {},
  }  # fmt: skip
  adam = optimizer(b1=0.0, b2=0.99)
  config.optimizer = {'discriminator': adam, 'generator': dict(adam)}
  config.update({'steps_per_call': 10, 'log_every': 100, 'eval_every': 5000, 'save_every': 1000, 'picture_every': 1000})
  config.update({'eval_batch_size': 64, 'init_examples': 128, 'pictures': 16})
  config.evals = ('mean.metrics',)
  config.generated.samples = 50_000
  return with_variant(config, VARIANTS, variant)
