"""Reversible residual networks on ImageNet.

Paper: Gomez et al. 2017, arXiv:1707.04585, sections 4 and 5, table 1: RevNet-56 (28M parameters) and RevNet-104; batch,
rates and the cut, mirrored and coloured images are its program's. Differences: docs/results.md.
Command: python train.py --config=configs/revnet_imagenet.py --workdir=runs/revnet_imagenet
Variants: revnet_56, revnet_104; tiny. TFDS imagenet2012 at 256 x 256 (252 GB in memory), the middle 224 tested.
Expected: top-1 errors of 25.2 % (56) and 23.1 % (104) on the validation images. No run is recorded. Cost: a pod.
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

IMAGES = 1_281_167 - 10_000  # to train on; the others are held out
TINY_NETWORK = {
  'model.network.units': (1, 2), 'model.network.channels': (4, 4, 8), 'model.crop': 6, 'model.momentum': 0.5,
  'model.classes': 10, 'optimizer.model': optimizer(name='sgd', momentum=0.9, learning_rate=0.05), 'stage_epochs': (),
  'data.size': 0, 'data.channels': 0, 'data.train': 'train', 'data.test': 'test',
  'model.colours': False,
}  # fmt: skip
VARIANTS = {
  'revnet_56': {},
  'revnet_104': {'model.network.units': (2, 2, 11, 2)},
  'tiny': (TINY_NETWORK, shrink),
}
TINY = ()  # the programs are those of revnet_cifar10; boxes, colours and the large stem have tests of their own


def get_config(variant='revnet_56'):
  config = defaults()
  config.system = 'classifier.revnet'
  config.data.update({'name': 'imagenet2012', 'test': 'validation', 'size': 256, 'channels': 3, 'valid_size': 10_000})
  config.data.preprocess = 'scale'
  config.model = {
    'network': {
      'units': (2, 2, 3, 2), 'channels': (128, 128, 256, 512, 832), 'kernels': (1, 3, 1), 'large_stem': True,
      'memory': 'reversible',
    },
    'classes': 1000, 'l2': 1e-4, 'momentum': 0.9, 'reach': 0, 'flip': 'horizontal', 'crop': 224, 'colours': True,
  }  # fmt: skip
  rates = (0.1, 0.01, 0.001, 0.0001)
  stages = optimizer(name='sgd', momentum=0.9, learning_rate=0.1, schedule='stages', stage_rates=rates)
  config.optimizer = {'model': stages}
  config.stage_epochs = tuple(steps * 256 / IMAGES for steps in (160_000, 160_000, 160_000, 120_000))
  config.update({'batch_size': 256, 'steps_per_call': 10, 'best': 'error_percent', 'eval_batch_size': 250})
  config.update({'log_every': 100, 'eval_every': 5000, 'save_every': 5000, 'picture_every': 0, 'init_examples': 256})
  return with_variant(config, VARIANTS, variant or 'revnet_56')
