"""PixelCNN++: two streams at three resolutions and a mixture of discretized logistics, on CIFAR-10 and MNIST.

Paper: Salimans et al. 2017, arXiv:1701.05517.
Command: python train.py --config=configs/pixelcnn_pp.py --workdir=runs/pixelcnn_pp
Variants: (none) CIFAR-10, small: 24 features and one block a resolution; mnist, mnist_small: 256 levels; tiny.
Expected: 2.92 bits/dim on CIFAR-10 (paper); `small` 3.97 after 1,400 steps of 16 images, nine minutes on two CPU
cores. Of 2,000 images (--config.data.train='train[:2400]') it has 3.91 after 2,100 steps, measured on these images
themselves, which is no test figure. The program of the authors has 160 features; the paper, and this, 192. Its loss is
the sum over a batch, where this is the mean: to Adam the same, but for its epsilon.
"""

from dgm_jax.config import defaults, optimizer, shrink

VARIANTS = ('', 'small', 'mnist', 'mnist_small', 'tiny')


def get_config(variant=''):
  if variant not in VARIANTS:
    raise ValueError(f"pixelcnn_pp has no variant '{variant}'; it has {' '.join(VARIANTS[1:])}")
  config = defaults()
  config.system = 'autoregressive.pixelcnn_pp'
  mnist = variant.startswith('mnist')
  name = 'mnist' if mnist else 'cifar10'
  config.data.update({'name': name, 'preprocess': 'scale_symmetric', 'valid_size': 400})
  config.model = {
    'likelihood': 'logistic_mixture', 'levels': 256, 'components': 10, 'classes': 10, 'average': 0.9995,
    'network': {'features': 192, 'blocks': 5, 'levels': 3, 'dropout': 0.5, 'nonlinearity': 'concat_elu'},
  }  # fmt: skip
  rate = {'learning_rate': 1e-3, 'schedule': 'exponential', 'decay': 0.999995}
  config.optimizer = {'model': optimizer(b1=0.95, b2=0.9995, **rate)}
  # XLA's convolutions on a CPU are some twenty times slower inside a loop; a step takes long enough by itself.
  config.update({'steps_per_call': 1, 'log_every': 100, 'eval_every': 800, 'save_every': 400, 'picture_every': 2400})
  config.update({'init_examples': 16, 'eval_batch_size': 100, 'best': 'nll_nats'})
  config.evals = ('mean.metrics', 'causality.causality')
  config.update({'batch_size': 128, 'epochs': 5000.0, 'init_examples': 128})
  if variant.endswith('small'):
    config.model.update({'components': 5, 'average': 0.99})
    config.model.network.update({'features': 24, 'blocks': 1, 'dropout': 0.0})
    config.optimizer.model.update({'schedule': 'linear', 'learning_rate': 2e-3, 'b2': 0.999})
    config.update({'batch_size': 16, 'epochs': 0.0, 'steps': 2400, 'init_examples': 64})
  if variant == 'tiny':
    config.model.update({'components': 2, 'average': 0.9})
    config.model.network.update({'features': 4, 'blocks': 1, 'levels': 2, 'dropout': 0.0})
    shrink(config)
  return config
