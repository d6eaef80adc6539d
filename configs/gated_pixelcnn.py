"""Gated PixelCNN: two stacks without a blind spot, on binary MNIST, MNIST with 256 levels, and CIFAR-10.

Paper: van den Oord et al. 2016, arXiv:1606.05328.
Command: python train.py --config=configs/gated_pixelcnn.py --workdir=runs/gated
"""

from dgm_jax.config import defaults, optimizer, shrink

VARIANTS = ('', 'small', 'levels', 'levels_small', 'cifar10', 'cifar10_small', 'tiny')


def get_config(variant=''):
  if variant not in VARIANTS:
    raise ValueError(f"gated_pixelcnn has no variant '{variant}'; it has {' '.join(VARIANTS[1:])}")
  config = defaults()
  config.system = 'autoregressive.gated_pixelcnn'
  config.data.update({'name': 'mnist', 'preprocess': 'dynamic_binarize', 'valid_size': 400})
  config.model = {
    'likelihood': 'bernoulli', 'levels': 256, 'components': 10, 'classes': 0, 'ema': 0.0,
    'network': {'features': 128, 'layers': 10, 'head': 32, 'first': 7, 'size': 5},
  }  # fmt: skip
  config.optimizer = {'model': optimizer(learning_rate=1e-3)}
  # XLA's convolutions on a CPU are some twenty times slower inside a loop; a step takes long enough by itself.
  config.steps_per_call = 1
  if variant == 'small':
    config.model.network.update({'features': 32, 'layers': 4, 'size': 5})
    config.optimizer.model.update({'schedule': 'linear'})
    config.update({'batch_size': 16, 'steps': 2400})
    config.update({'log_every': 100, 'eval_every': 800, 'save_every': 400, 'picture_every': 2400})
    config.init_examples = 16
  if variant == 'tiny':
    config.model.network.update({'features': 6, 'layers': 2, 'head': 6, 'first': 3})
    shrink(config)
  return config
