"""Gated PixelCNN: two stacks without a blind spot, on binary MNIST, MNIST of 256 levels, and CIFAR-10.

Paper: van den Oord et al. 2016, arXiv:1606.05328; 5x5 kernels, as there; on MNIST 128 features and 10 layers. cifar10
has the 20 layers of 384 features that the paper states for ImageNet: those of its CIFAR-10 network
are not known here, so that its 3.03 bits/dim may well be of another.
Command: python train.py --config=configs/gated_pixelcnn.py --workdir=runs/gated_pixelcnn
Variants: (none) binary MNIST, small: 32 features and 4 layers, for a CPU; levels, levels_small: MNIST of 256 levels;
cifar10, cifar10_small; tiny, tiny_levels. --config.conditional=True tells it the label
(`small`: 87.19 nats given the label after 1,800 steps).
Expected: test NLL 81.50 nats on dynamically binarized MNIST in the community after 457 epochs, by a network of this
width and depth with 3x3 kernels, skips of all layers to the last ones and a rate falling by a factor of 0.9999 a step;
3.03 bits/dim on CIFAR-10 (paper). Cost: `small` takes some 25 CPU milliseconds for each training image.
"""

from dgm_jax.config import defaults, optimizer, shrink

VARIANTS = ('', 'small', 'levels', 'levels_small', 'cifar10', 'cifar10_small', 'tiny', 'tiny_levels')
TINY = ('tiny', 'tiny_levels')  # the variants that tests run


def get_config(variant=''):
  if variant not in VARIANTS:
    raise ValueError(f"gated_pixelcnn has no variant '{variant}'; it has {' '.join(VARIANTS[1:])}")
  config = defaults()
  config.system = 'autoregressive.gated_pixelcnn'
  cifar10, levels = variant.startswith('cifar10'), variant.startswith('levels')
  name, preprocess = 'cifar10' if cifar10 else 'mnist', 'scale_symmetric' if cifar10 or levels else 'dynamic_binarize'
  config.data.update({'name': name, 'preprocess': preprocess, 'valid_size': 400})
  config.model = {
    'likelihood': 'categorical' if cifar10 or levels else 'bernoulli', 'levels': 256, 'components': 10, 'classes': 10,
    'average': 0.0, 'network': {'features': 128, 'layers': 10, 'head': 32, 'first': 7, 'size': 5},
  }  # fmt: skip
  config.optimizer = {'model': optimizer(learning_rate=1e-3)}
  # XLA's convolutions on a CPU are some twenty times slower inside a loop; a step takes long enough by itself.
  config.update({'steps_per_call': 1, 'log_every': 100, 'eval_every': 800, 'save_every': 400, 'picture_every': 2400})
  config.update({'init_examples': 16, 'eval_batch_size': 100, 'best': 'nll_nats'})
  config.evals = ('mean.metrics', 'causality.causality')
  config.update({'batch_size': 128, 'epochs': 457.0})
  if cifar10:
    config.model.network.update({'features': 384, 'layers': 20, 'head': 1024})
  if variant.endswith('small'):
    config.model.network.update({'features': 32, 'layers': 4, 'head': 32})
    config.optimizer.model.schedule = 'linear'
    config.update({'batch_size': 16, 'steps': 2400})
  if variant.startswith('tiny'):
    config.model.network.update({'features': 6, 'layers': 1, 'head': 6, 'first': 3, 'size': 3})
    shrink(config)
  if variant == 'tiny_levels':
    config.data.preprocess = 'scale_symmetric'
    config.model.update({'likelihood': 'categorical', 'average': 0.9})
    config.conditional = True
  return config
