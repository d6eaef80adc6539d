"""PixelSNAIL: residual blocks and attention over all previous pixels, on binary MNIST and on CIFAR-10.

Paper: Chen et al. 2018, arXiv:1712.09763, cifar10 with the sizes of its program, which gives attention two coordinates
for each channel of the image, here two in all; on MNIST 64 features and 8 blocks of two, 1.15 million parameters.
Command: python train.py --config=configs/pixelsnail.py --workdir=runs/pixelsnail
Variants: (none) binary MNIST, small: 32 features and 2 blocks, for a CPU; cifar10, cifar10_small; tiny.
Expected: on dynamically binarized MNIST a network of the community has 78.61 nats after 457 epochs, with the features,
blocks, keys and values of ours but 0.90 million parameters, since convolutions stand around its attention where ours,
as the paper's program, has gated blocks, and it is measured without an average. On CIFAR-10 the paper has 2.85
bits/dim. `small` has 86.1 nats on the test images after 17,000 steps of 4, in 1,209 seconds on two CPU cores
(results/pixelsnail_small.json).
"""

from dgm_jax.config import defaults, optimizer, shrink

VARIANTS = ('', 'small', 'cifar10', 'cifar10_small', 'tiny')


def get_config(variant=''):
  if variant not in VARIANTS:
    raise ValueError(f"pixelsnail has no variant '{variant}'; it has {' '.join(VARIANTS[1:])}")
  config = defaults()
  config.system = 'autoregressive.pixelsnail'
  cifar10 = variant.startswith('cifar10')
  name, preprocess = ('cifar10', 'scale_symmetric') if cifar10 else ('mnist', 'dynamic_binarize')
  config.data.update({'name': name, 'preprocess': preprocess, 'valid_size': 400})
  network = {'features': 64, 'blocks': 8, 'resnets': 2, 'keys': 4, 'values': 32, 'chunk': 1024, 'dropout': 0.0}
  config.model = {
    'likelihood': 'logistic_mixture' if cifar10 else 'bernoulli', 'levels': 256, 'components': 10, 'classes': 10,
    'average': 0.9995, 'network': network | {'nonlinearity': 'elu'},
  }  # fmt: skip
  config.optimizer = {'model': optimizer(b1=0.95, b2=0.9995, eps=1e-6, schedule='exponential')}
  config.optimizer.model.decay = 0.999998 if cifar10 else 0.999977
  # XLA's convolutions on a CPU are some twenty times slower inside a loop; a step takes long enough by itself.
  config.update({'steps_per_call': 1, 'log_every': 100, 'eval_every': 800, 'save_every': 400, 'picture_every': 2400})
  config.update({'init_examples': 16, 'eval_batch_size': 100, 'best': 'nll_nats'})
  config.evals = ('mean.metrics', 'causality.causality')
  config.update({'batch_size': 128, 'epochs': 457.0, 'init_examples': 64})
  if cifar10:
    config.model.network.update(
      {'features': 256, 'blocks': 12, 'resnets': 4, 'keys': 16, 'values': 128, 'dropout': 0.5}
    )
  if variant.endswith('small'):
    config.model.average = 0.998
    config.model.network.update({'features': 32, 'blocks': 2, 'resnets': 2, 'keys': 8, 'values': 16, 'dropout': 0.0})
    config.model.network.chunk = 112
    config.optimizer.model.update({'schedule': 'linear', 'learning_rate': 1e-3, 'b2': 0.999})
    # So few minutes are better spent on many small steps: 4,800 images make 100.4 nats by fours, 105.5 by sixteens. At
    # rates of 2e-3 and more attention soon points to single far pixels, and stays there: 95.4 nats in the end.
    config.update({'batch_size': 4, 'epochs': 0.0, 'steps': 17_000, 'eval_every': 4000, 'save_every': 1000})
    config.picture_every = 8000
  if variant == 'tiny':
    config.model.average = 0.9
    config.model.network.update({'features': 4, 'blocks': 1, 'resnets': 1, 'keys': 2, 'values': 3})
    shrink(config)
  return config
