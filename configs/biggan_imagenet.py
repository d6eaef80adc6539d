"""BigGAN on ImageNet at 64 x 64 and 128 x 128: hierarchical latents, a shared embedding, attention.

Paper: Brock et al. 2019, arXiv:1809.11096, in the sizes of ajbrock/BigGAN-PyTorch (128, 96 channels) and of
YangNaruto/FQ-GAN (64 and half, 64 channels), whose script for 128 does not run: the embedding is shared as in its first
version. tac_128: Gong et al. 2019, arXiv:1907.02690, there with two moves of the generator and gradients that add up.
Command: python train.py --config=configs/biggan_imagenet.py:64 --workdir=runs/biggan_imagenet_64
Variants: 64, 128, 64_half, 128_half, tac_128, and _fq. Data: TFDS imagenet_resized/64x64, imagenet2012 resized to 128.
Expected (PyTorch's Inception): FID 10.55 (64), 14.88 (128); fq 9.67, 13.77; half 12.75, 22.77; half fq 12.62, 19.11.
"""

from dgm_jax.config import build_on, optimizer, with_variant

BLOCKS = ('block_0', 'block_1', 'block_2', 'block_3')
FQ = {
  'layers': BLOCKS, 'codes': 1024, 'commitment': 15.0, 'decay': 0.8, 'feed': False, 'start': 0.0, 'deviation': 1.0,
  'both': True,
}  # fmt: skip
HALF = {'steps': 128_000}


def at_64(config):
  networks(config, 64, (16, 16, 8, 4, 2), (1, 2, 4, 8, 16), 4, 32)
  config.data.update({'name': 'imagenet_resized/64x64'})
  config.update({'batch_size': 512, 'accumulate': 4})


def at_128(width):
  """A config of this many channels."""

  def change(config):
    networks(config, width, (16, 16, 8, 4, 2, 1), (1, 2, 4, 8, 16, 16), 5, 64)
    config.data.update({'name': 'imagenet2012', 'size': 128, 'channels': 3})
    config.update({'batch_size': 2048, 'accumulate': 8} if width == 96 else {'batch_size': 1024, 'accumulate': 4})

  return change


def networks(config, width, up, down, halvings, attention):
  of = lambda factors: tuple(width * factor for factor in factors)
  config.model.generator.update({'channels': of(up), 'attention': (attention,)})
  config.model.critic.update({'channels': of(down), 'halvings': halvings, 'attention': (attention,)})


def twin(config):
  config.system = 'gan.tac_gan'
  config.model.update({'class_weight': 1.0, 'class_loss': 'cross_entropy', 'critic_steps': 2})
  config.update({'batch_size': 2 * 1024, 'steps': 128_000})


FQ_64 = {'model.quantize': FQ | {'layers': ('block_2',), 'commitment': 0.5, 'decay': 0.7}}
FQ_128 = {'model.quantize': FQ}
VARIANTS = {
  '': at_128(96),
  '64': at_64,
  '64_half': (at_64, HALF),
  '64_fq': (at_64, FQ_64),
  '64_half_fq': (at_64, HALF, FQ_64),
  '128': at_128(96),
  '128_half': (at_128(64), HALF),
  '128_fq': (at_128(64), FQ_128),
  '128_half_fq': (at_128(64), HALF, FQ_128),
  'tac_128': (at_128(64), twin),
  'tac_128_fq': (at_128(64), twin, FQ_128),
}
TINY = ()  # the networks are tested by biggan_cifar10 and tac_cifar100


def get_config(variant='128'):
  config = build_on(__file__, 'biggan_cifar10')
  config.model.generator.update({'shared': 128, 'hierarchical': True, 'initializer': 'orthogonal'})
  config.model.critic.initializer = 'orthogonal'
  config.model.update({'latents': 120, 'classes': 1000, 'critic_steps': 1, 'average_start': 20_000})
  adam = {'b1': 0.0, 'eps': 1e-6}
  config.optimizer = {
    'discriminator': optimizer(learning_rate=4e-4, **adam), 'generator': optimizer(learning_rate=1e-4, **adam)
  }  # fmt: skip
  config.update({'epochs': 0.0, 'steps': 256_000, 'init_examples': 128})
  return with_variant(config, VARIANTS, variant or '128')
