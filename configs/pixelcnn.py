"""PixelCNN: masked convolutions, on binary MNIST, MNIST of 256 levels, and CIFAR-10.

Paper: van den Oord et al. 2016, arXiv:1601.06759, table 1: 15 blocks, of h = 128 on CIFAR-10. Differences (Adam, and
binary MNIST drawn anew each time): docs/results.md.
Command: python train.py --config=configs/pixelcnn.py --workdir=runs/pixelcnn
Variants: (none) binary MNIST, small: 7 blocks instead of 15; levels, levels_small; cifar10, cifar10_small; tiny.
Cost: `small` takes some 6 CPU milliseconds for each training image.
Expected: 81.30 nats on statically binarized MNIST and 3.14 bits/dim on CIFAR-10 (paper); ours, small: 92.1 nats.
"""

from dgm_jax.config import build_on, shrink, with_variant

LEVELS = {'data.preprocess': 'scale_symmetric', 'model.likelihood': 'categorical'}
CIFAR10 = LEVELS | {'data.name': 'cifar10', 'model.network.hidden': 128, 'model.network.head': 1024}
SMALL = {
  'model.network.hidden': 16, 'model.network.blocks': 7, 'model.network.head': 32,
  'optimizer.model.schedule': 'linear', 'epochs': 0.0, 'steps': 8000,
}  # fmt: skip
TINY_NETWORK = {'model.network': {'hidden': 8, 'blocks': 1, 'head': 8, 'first': 3, 'size': 3}}
VARIANTS = {
  '': {},
  'small': SMALL,
  'levels': LEVELS,
  'levels_small': LEVELS | SMALL,
  'cifar10': CIFAR10,
  'cifar10_small': CIFAR10 | SMALL,
  'tiny': (TINY_NETWORK, shrink),
}


def get_config(variant=''):
  config = build_on(__file__, 'gated_pixelcnn')
  config.system = 'autoregressive.pixelcnn'
  config.model.network = {'hidden': 16, 'blocks': 15, 'head': 32, 'first': 7, 'size': 3}
  config.batch_size = 16
  return with_variant(config, VARIANTS, variant)
