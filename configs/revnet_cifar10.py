"""Residual networks on CIFAR-10, and reversible ones of as many parameters.

Paper: Gomez et al. 2017, arXiv:1707.04585, table 3: errors of ResNet-32, -110, -164: 7.14, 5.74, 5.24 %; of RevNet-38,
-110, -164: 7.24, 5.76, 5.17 %.
Command: python train.py --config=configs/revnet_cifar10.py:revnet_38 --workdir=runs/revnet_38
Variants: resnet_32 resnet_110 resnet_164 revnet_38 revnet_110 revnet_164, CIFAR-100 with --config.data.name=cifar100
--config.model.classes=100; resnet_small revnet_small: a fifth of the width or less, for minutes on a CPU; tiny.
Expected: 80,000 steps want a GPU. As in the paper the rate falls after 40,000 and 60,000 of them, and images are moved
by up to 2 pixels (the small variants': 4) and mirrored. Otherwise than there, 1,000 training images are held out, and
the mean image that is subtracted is of 1,000 training images (there of all images). After 3 epochs revnet_small errs
on 31.2 % of the test images, resnet_small on 32.0 %.
"""

from dgm_jax.config import defaults, optimizer, shrink

BOTTLENECK = (1, 3, 1)
STAGES = tuple(steps * 100 / 49_000 for steps in (40_000, 20_000, 20_000))  # in epochs: 1,000 images are held out
NETWORKS = {
  'resnet_32': {'units': (5, 5, 5), 'channels': (16, 16, 32, 64), 'kernels': (3, 3)},
  'resnet_110': {'units': (18, 18, 18), 'channels': (16, 16, 32, 64), 'kernels': (3, 3)},
  'resnet_164': {'units': (18, 18, 18), 'channels': (16, 16, 32, 64), 'kernels': BOTTLENECK},
  'revnet_38': {'units': (3, 3, 3), 'channels': (32, 32, 64, 112), 'kernels': (3, 3)},
  'revnet_110': {'units': (9, 9, 9), 'channels': (32, 32, 64, 128), 'kernels': (3, 3)},
  'revnet_164': {'units': (9, 9, 9), 'channels': (32, 32, 64, 128), 'kernels': BOTTLENECK},
  'resnet_small': {'units': (3, 3, 3), 'channels': (8, 8, 16, 32), 'kernels': (3, 3), 'unroll': 2},
  'revnet_small': {'units': (2, 2, 2), 'channels': (16, 16, 28, 54), 'kernels': (3, 3), 'unroll': 2},
}


def get_config(variant='revnet_38'):
  tiny = variant == 'tiny'
  name = 'revnet_38' if tiny else variant
  if name not in NETWORKS:
    raise ValueError(f"revnet_cifar10 has no variant '{variant}'; it has {' '.join(NETWORKS)} tiny")
  kind = name.partition('_')[0]
  config = defaults()
  config.system = f'classifier.{kind}'
  config.data.update({'name': 'cifar10', 'preprocess': 'scale', 'valid_size': 1000})
  config.model = {
    'network': NETWORKS[name] | ({'memory': 'reversible'} if kind == 'revnet' else {}), 'classes': 10, 'l2': 2e-4,
    'momentum': 0.9, 'reach': 4 if name.endswith('small') else 2, 'flip': 'horizontal',
  }  # fmt: skip
  rates = optimizer(name='sgd', momentum=0.9, learning_rate=0.1, schedule='stages', stage_rates=(0.1, 0.01, 0.001))
  config.optimizer = {'model': rates}
  config.update({'batch_size': 100, 'stage_epochs': STAGES, 'steps_per_call': 10, 'best': 'error_percent'})
  config.update({'log_every': 100, 'eval_every': 1000, 'save_every': 1000, 'picture_every': 0, 'init_examples': 1000})
  if name.endswith('small'):
    config.optimizer = {'model': optimizer(name='sgd', momentum=0.9, learning_rate=0.1, schedule='cosine')}
    config.update({'stage_epochs': (), 'epochs': 3.0, 'steps_per_call': 1})
  if tiny:
    shrink(config)
    config.model.network.update({'units': (1, 2), 'channels': (4, 4, 8)})
    config.model.update({'reach': 1, 'flip': 'none', 'momentum': 0.5})
    config.optimizer = {'model': optimizer(name='sgd', momentum=0.9, learning_rate=0.05)}
    config.stage_epochs = ()
  return config
