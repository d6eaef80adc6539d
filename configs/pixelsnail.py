"""PixelSNAIL: residual blocks and attention over all previous pixels, on binary MNIST and on CIFAR-10.

Paper: Chen et al. 2018, arXiv:1712.09763; cifar10 has the sizes of its program. On MNIST 64 features and 8 blocks of
two, 1.15 million parameters. Differences: docs/results.md.
Command: python train.py --config=configs/pixelsnail.py --workdir=runs/pixelsnail
Variants: (none) binary MNIST, small: 32 features and 2 blocks, for a CPU; cifar10, cifar10_small; tiny.
Cost: `small` 1,209 seconds on two CPU cores.
Expected: 78.61 nats on dynamically binarized MNIST after 457 epochs (a network of the community); 2.85 bits/dim on
CIFAR-10 (paper). Ours, small: 86.1 nats on the test images after 17,000 steps of 4 (results/pixelsnail_small.json).
"""

from dgm_jax.config import build_on, optimizer, shrink, with_variant

CIFAR10 = {
  'data.name': 'cifar10', 'data.preprocess': 'scale_symmetric', 'model.likelihood': 'logistic_mixture',
  'model.network.features': 256, 'model.network.blocks': 12, 'model.network.resnets': 4, 'model.network.keys': 16,
  'model.network.values': 128, 'model.network.dropout': 0.5, 'optimizer.model.decay': 0.999998,
}  # fmt: skip
SMALL = {
  'model.average': 0.998, 'model.network.features': 32, 'model.network.blocks': 2, 'model.network.resnets': 2,
  'model.network.keys': 8, 'model.network.values': 16, 'model.network.dropout': 0.0, 'model.network.chunk': 112,
  # At rates of 2e-3 and more attention soon points to single far pixels and stays there: 95.4 nats in the end.
  'optimizer.model.schedule': 'linear', 'optimizer.model.learning_rate': 1e-3, 'optimizer.model.b2': 0.999,
  # In so few minutes many small steps are better: 4,800 images give 100.4 nats by fours, 105.5 by sixteens.
  'batch_size': 4, 'epochs': 0.0, 'steps': 17_000, 'eval_every': 4000, 'save_every': 1000, 'picture_every': 8000,
}  # fmt: skip
TINY_NETWORK = {
  'model.average': 0.9, 'model.network.features': 4, 'model.network.blocks': 1, 'model.network.resnets': 1,
  'model.network.keys': 2, 'model.network.values': 3,
}  # fmt: skip
VARIANTS = {
  '': {},
  'small': SMALL,
  'cifar10': CIFAR10,
  'cifar10_small': CIFAR10 | SMALL,
  'tiny': (TINY_NETWORK, shrink),
}


def get_config(variant=''):
  config = build_on(__file__, 'gated_pixelcnn')
  config.system = 'autoregressive.pixelsnail'
  config.model.average = 0.9995
  config.model.network = {
    'features': 64, 'blocks': 8, 'resnets': 2, 'keys': 4, 'values': 32, 'chunk': 1024, 'dropout': 0.0,
    'nonlinearity': 'elu',
  }  # fmt: skip
  adam = optimizer(learning_rate=1e-3, b1=0.95, b2=0.9995, eps=1e-6, schedule='exponential', decay=0.999977)
  config.optimizer = {'model': adam}
  config.update({'batch_size': 128, 'epochs': 457.0, 'init_examples': 64})
  return with_variant(config, VARIANTS, variant)
