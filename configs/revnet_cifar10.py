"""Residual networks on CIFAR-10, and reversible ones of as many parameters.

Paper: Gomez et al. 2017, arXiv:1707.04585, table 3: errors of ResNet-32, -110, -164: 7.14, 5.74, 5.24 %; of RevNet-38,
-110, -164: 7.24, 5.76, 5.17 %. Differences (1,000 images held out, the mean image): docs/results.md.
Command: python train.py --config=configs/revnet_cifar10.py:revnet_38 --workdir=runs/revnet_38
Variants: resnet_32 resnet_110 resnet_164 revnet_38 revnet_110 revnet_164, also with cifar100_ before (29.95, 26.44,
23.37 %; 28.96, 25.40, 23.69 %); resnet_small revnet_small: a fifth of the width or less, for minutes on a CPU; tiny.
Cost: 80,000 steps want a GPU.
Expected: after 3 epochs revnet_small errs on 31.2 % of the test images, resnet_small on 32.0 % (ours).
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

BASIC, BOTTLENECK = (3, 3), (1, 3, 1)


def resnet(**network):
  return {'system': 'classifier.resnet', 'model.network': network}


def revnet(**network):
  return {'model.network': network | {'memory': 'reversible'}}


SMALL = {
  'model.reach': 4, 'optimizer.model': optimizer(name='sgd', momentum=0.9, learning_rate=0.1, schedule='cosine'),
  'stage_epochs': (), 'epochs': 3.0, 'steps_per_call': 1,
}  # fmt: skip
TINY_NETWORK = {
  'model.network.units': (1, 2), 'model.network.channels': (4, 4, 8), 'model.reach': 1, 'model.flip': 'none',
  'model.momentum': 0.5, 'optimizer.model': optimizer(name='sgd', momentum=0.9, learning_rate=0.05),
  'stage_epochs': (),
}  # fmt: skip
NETWORKS = {
  'resnet_32': resnet(units=(5, 5, 5), channels=(16, 16, 32, 64), kernels=BASIC),
  'resnet_110': resnet(units=(18, 18, 18), channels=(16, 16, 32, 64), kernels=BASIC),
  'resnet_164': resnet(units=(18, 18, 18), channels=(16, 16, 32, 64), kernels=BOTTLENECK),
  'revnet_38': {},
  'revnet_110': revnet(units=(9, 9, 9), channels=(32, 32, 64, 128), kernels=BASIC),
  'revnet_164': revnet(units=(9, 9, 9), channels=(32, 32, 64, 128), kernels=BOTTLENECK),
}  # fmt: skip
VARIANTS = {
  **NETWORKS,
  **{f'cifar100_{name}': change | {'data.name': 'cifar100', 'model.classes': 100} for name, change in NETWORKS.items()},
  'resnet_small': resnet(units=(3, 3, 3), channels=(8, 8, 16, 32), kernels=BASIC, unroll=2) | SMALL,
  'revnet_small': revnet(units=(2, 2, 2), channels=(16, 16, 28, 54), kernels=BASIC, unroll=2) | SMALL,
  'tiny': (TINY_NETWORK, shrink),
}


def get_config(variant='revnet_38'):
  config = defaults()
  config.system = 'classifier.revnet'
  config.data.update({'name': 'cifar10', 'preprocess': 'scale', 'valid_size': 1000})
  config.model = {
    'network': {'units': (3, 3, 3), 'channels': (32, 32, 64, 112), 'kernels': BASIC, 'memory': 'reversible'},
    'classes': 10, 'l2': 2e-4, 'momentum': 0.9, 'reach': 2, 'flip': 'horizontal',
  }  # fmt: skip
  rates = optimizer(name='sgd', momentum=0.9, learning_rate=0.1, schedule='stages', stage_rates=(0.1, 0.01, 0.001))
  config.optimizer = {'model': rates}
  config.stage_epochs = tuple(steps * 100 / 49_000 for steps in (40_000, 20_000, 20_000))  # 1,000 images are held out
  config.update({'batch_size': 100, 'steps_per_call': 10, 'best': 'error_percent'})
  config.update({'log_every': 100, 'eval_every': 1000, 'save_every': 1000, 'picture_every': 0, 'init_examples': 1000})
  return with_variant(config, VARIANTS, variant or 'revnet_38')
