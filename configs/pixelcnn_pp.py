"""PixelCNN++: two streams at three resolutions and a mixture of discretized logistics, on CIFAR-10 and MNIST.

Paper: Salimans et al. 2017, arXiv:1701.05517: 192 features, where the program of the authors has 160.
Command: python train.py --config=configs/pixelcnn_pp.py --workdir=runs/pixelcnn_pp
Variants: (none) CIFAR-10, small: 24 features and one block a resolution; mnist, mnist_small: 256 levels; tiny.
Cost: `small` nine minutes on two CPU cores.
Expected: 2.92 bits/dim on CIFAR-10 (paper); ours, small: 3.97 after 1,400 steps of 16 images. More: docs/results.md.
"""

from dgm_jax.config import build_on, optimizer, shrink, with_variant

MNIST = {'data.name': 'mnist'}
SMALL = {
  'model.components': 5, 'model.average': 0.99, 'model.network.features': 24, 'model.network.blocks': 1,
  'model.network.dropout': 0.0, 'optimizer.model.schedule': 'linear', 'optimizer.model.learning_rate': 2e-3,
  'optimizer.model.b2': 0.999, 'batch_size': 16, 'epochs': 0.0, 'steps': 2400, 'init_examples': 64,
}  # fmt: skip
TINY_NETWORK = {
  'model.components': 2, 'model.average': 0.9, 'model.network.features': 4, 'model.network.blocks': 1,
  'model.network.levels': 2, 'model.network.dropout': 0.0,
}  # fmt: skip
VARIANTS = {
  '': {},
  'small': SMALL,
  'mnist': MNIST,
  'mnist_small': MNIST | SMALL,
  'tiny': (TINY_NETWORK, shrink),
}


def get_config(variant=''):
  config = build_on(__file__, 'gated_pixelcnn')
  config.system = 'autoregressive.pixelcnn_pp'
  config.data.update({'name': 'cifar10', 'preprocess': 'scale_symmetric'})
  config.model.update({'likelihood': 'logistic_mixture', 'average': 0.9995})
  config.model.network = {'features': 192, 'blocks': 5, 'levels': 3, 'dropout': 0.5, 'nonlinearity': 'concat_elu'}
  adam = optimizer(learning_rate=1e-3, b1=0.95, b2=0.9995, schedule='exponential', decay=0.999995)
  config.optimizer = {'model': adam}
  config.update({'batch_size': 128, 'epochs': 5000.0, 'init_examples': 128})
  return with_variant(config, VARIANTS, variant)
