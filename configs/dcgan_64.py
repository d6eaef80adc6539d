"""DCGAN on images at the size of its paper: 64 x 64.

Paper: Radford et al. 2016, arXiv:1511.06434, sections 3 and 4; 5x5 kernels, widths and 25 epochs (of faces) are its
program's. Settings and differences: docs/results.md.
Command: python train.py --config=configs/dcgan_64.py --config.data.name=folder:PATH --workdir=runs/dcgan_64
         python -m dgm_jax.sample --workdir=runs/dcgan_64 --what=arithmetic --terms=3,17,20-5,8,9+1,2,4
Variants: (none) a folder; bedrooms: TFDS lsun/bedroom, five epochs; faces: TFDS celeb_a, the paper's are others; tiny.
By the same rules for MNIST and CIFAR-10: configs/dcgan_mnist.py, configs/cifar_gan.py:dcgan.
Expected: the paper shows pictures only. No full run is recorded yet. Cost: it wants an accelerator.
"""

from dgm_jax.config import build_on, with_variant

VARIANTS = {
  '': {},
  'bedrooms': {'data.name': 'lsun/bedroom', 'epochs': 5.0},
  'faces': {'data.name': 'celeb_a'},
  'tiny': {},
}
TINY = ()  # the programs are those of dcgan_mnist


def get_config(variant=''):
  if variant == 'tiny':
    return with_variant(build_on(__file__, 'dcgan_mnist:tiny'), VARIANTS, variant)
  config = build_on(__file__, 'cifar_gan:dcgan')  # of 32 x 32; here networks have one more layer
  config.data.update({'name': 'folder:images', 'size': 64, 'channels': 3, 'valid_size': 1000})
  config.model.generator.channels = (1024, 512, 256, 128)
  config.model.critic.channels = (128, 256, 512, 1024)
  config.update({'epochs': 25.0, 'steps_per_call': 10, 'eval_every': 1000, 'save_every': 1000, 'picture_every': 1000})
  config.evals, config.generated.samples = ('mean.metrics',), 0
  return with_variant(config, VARIANTS, variant)
