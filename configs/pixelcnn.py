"""PixelCNN: masked convolutions, on binary MNIST, MNIST of 256 levels, and CIFAR-10.

Paper: van den Oord et al. 2016, arXiv:1601.06759, table 1: 15 blocks, of h = 128 on CIFAR-10. Otherwise than there,
Adam has one rate where RMSProp had one by hand for each data set, and binary MNIST is binarized anew each time.
Command: python train.py --config=configs/pixelcnn.py --workdir=runs/pixelcnn
Variants: (none) binary MNIST, small: 7 blocks instead of 15; levels, levels_small; cifar10, cifar10_small; tiny.
Expected: 81.30 nats on statically binarized MNIST and 3.14 bits/dim on CIFAR-10 (paper). Cost: `small` takes some 6 CPU
milliseconds for each training image.
"""

from dgm_jax.config import defaults, optimizer, shrink

VARIANTS = ('', 'small', 'levels', 'levels_small', 'cifar10', 'cifar10_small', 'tiny')


def get_config(variant=''):
  if variant not in VARIANTS:
    raise ValueError(f"pixelcnn has no variant '{variant}'; it has {' '.join(VARIANTS[1:])}")
  config = defaults()
  config.system = 'autoregressive.pixelcnn'
  cifar10, levels = variant.startswith('cifar10'), variant.startswith('levels')
  name, preprocess = 'cifar10' if cifar10 else 'mnist', 'scale_symmetric' if cifar10 or levels else 'dynamic_binarize'
  config.data.update({'name': name, 'preprocess': preprocess, 'valid_size': 400})
  config.model = {
    'likelihood': 'categorical' if cifar10 or levels else 'bernoulli', 'levels': 256, 'components': 10, 'classes': 10,
    'average': 0.0, 'network': {'hidden': 16, 'blocks': 15, 'head': 32, 'first': 7, 'size': 3},
  }  # fmt: skip
  config.optimizer = {'model': optimizer(learning_rate=1e-3)}
  # XLA's convolutions on a CPU are some twenty times slower inside a loop; a step takes long enough by itself.
  config.update({'steps_per_call': 1, 'log_every': 100, 'eval_every': 800, 'save_every': 400, 'picture_every': 2400})
  config.update({'init_examples': 16, 'eval_batch_size': 100, 'best': 'nll_nats'})
  config.evals = ('mean.metrics', 'causality.causality')
  config.update({'batch_size': 16, 'epochs': 457.0})
  if cifar10:
    config.model.network.update({'hidden': 128, 'head': 1024})
  if variant.endswith('small'):
    config.model.network.update({'hidden': 16, 'blocks': 7, 'head': 32})
    config.optimizer.model.schedule = 'linear'
    config.update({'batch_size': 16, 'epochs': 0.0, 'steps': 8000})
  if variant == 'tiny':
    config.model.network.update({'hidden': 8, 'blocks': 1, 'head': 8, 'first': 3})
    shrink(config)
  return config
