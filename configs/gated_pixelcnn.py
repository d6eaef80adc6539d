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

from dgm_jax.config import defaults, optimizer, shrink, with_variant

LEVELS = {'data.preprocess': 'scale_symmetric', 'model.likelihood': 'categorical'}
CIFAR10 = LEVELS | {
  'data.name': 'cifar10', 'model.network.features': 384, 'model.network.layers': 20, 'model.network.head': 1024
}  # fmt: skip
SMALL = {
  'model.network.features': 32, 'model.network.layers': 4, 'model.network.head': 32,
  'optimizer.model.schedule': 'linear', 'batch_size': 16, 'steps': 2400,
}  # fmt: skip
TINY_NETWORK = {'model.network': {'features': 6, 'layers': 1, 'head': 6, 'first': 3, 'size': 3}}
VARIANTS = {
  '': {},
  'small': SMALL,
  'levels': LEVELS,
  'levels_small': LEVELS | SMALL,
  'cifar10': CIFAR10,
  'cifar10_small': CIFAR10 | SMALL,
  'tiny': (TINY_NETWORK, shrink),
  'tiny_levels': (LEVELS | TINY_NETWORK | {'model.average': 0.9, 'conditional': True}, shrink),
}
TINY = ('tiny', 'tiny_levels')  # the variants that tests run


def get_config(variant=''):
  config = defaults()
  config.system = 'autoregressive.gated_pixelcnn'
  config.data.update({'name': 'mnist', 'preprocess': 'dynamic_binarize', 'valid_size': 400})
  config.model = {
    'likelihood': 'bernoulli', 'levels': 256, 'components': 10, 'classes': 10,
    'average': 0.0, 'network': {'features': 128, 'layers': 10, 'head': 32, 'first': 7, 'size': 5},
  }  # fmt: skip
  config.optimizer = {'model': optimizer(learning_rate=1e-3)}
  # XLA's convolutions on a CPU are some twenty times slower inside a loop; a step takes long enough by itself.
  config.update({'steps_per_call': 1, 'log_every': 100, 'eval_every': 800, 'save_every': 400, 'picture_every': 2400})
  config.update({'init_examples': 16, 'eval_batch_size': 100, 'best': 'nll_nats'})
  config.evals = ('mean.metrics', 'causality.causality')
  config.update({'batch_size': 128, 'epochs': 457.0})
  return with_variant(config, VARIANTS, variant)
