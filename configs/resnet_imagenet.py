"""Residual networks on ImageNet, beside the reversible ones of configs/revnet_imagenet.py.

Paper: Gomez et al. 2017, arXiv:1707.04585, sections 4 and 5, table 1: ResNet-50 (26M parameters) and ResNet-101, whose
units normalise first (He et al. 2016, arXiv:1603.05027), trained like RevNet.
Command: python train.py --config=configs/resnet_imagenet.py --workdir=runs/resnet_imagenet
Variants: resnet_50, resnet_101; tiny.
Expected: top-1 errors of 24.7 % (50) and 23.0 % (101) on the validation images. No run is recorded. Cost: a pod.
"""

from dgm_jax.config import build_on, with_variant

VARIANTS = {
  'resnet_50': {'model.network.units': (3, 4, 6, 3), 'model.network.channels': (64, 64, 128, 256, 512)},
  'resnet_101': {'model.network.units': (3, 4, 23, 3), 'model.network.channels': (64, 64, 128, 256, 512)},
  'tiny': {},
}
TINY = ()  # the programs are those of revnet_imagenet and revnet_cifar10


def get_config(variant='resnet_50'):
  config = build_on(__file__, 'revnet_imagenet:tiny' if variant == 'tiny' else 'revnet_imagenet')
  config.system = 'classifier.resnet'
  del config.model.network['memory']
  return with_variant(config, VARIANTS, variant or 'resnet_50')
