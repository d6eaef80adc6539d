"""PixelRNN: Diagonal BiLSTMs or Row LSTMs, on binary MNIST, MNIST of 256 levels, and CIFAR-10.

Paper: van den Oord et al. 2016, arXiv:1601.06759, table 1: 7 layers of h = 16 on MNIST, 12 of h = 128 on CIFAR-10.
Otherwise than there, Adam has one rate where RMSProp had one by hand for each data set, and binary MNIST is binarized
anew each time.
Command: python train.py --config=configs/pixelrnn.py --workdir=runs/pixelrnn
Variants: (none) binary MNIST with Diagonal BiLSTMs; row: Row LSTMs; small, row_small: one layer, for a CPU; levels;
cifar10, cifar10_row; tiny, tiny_row.
Expected: 79.20 nats on statically binarized MNIST (Diagonal BiLSTM) and 3.00 bits/dim (Row LSTM: 3.07) on CIFAR-10
(paper).
"""

from dgm_jax.config import defaults, optimizer, shrink

VARIANTS = ('', 'row', 'small', 'row_small', 'levels', 'cifar10', 'cifar10_row', 'tiny', 'tiny_row')
TINY = ('tiny', 'tiny_row')  # the variants that tests run


def get_config(variant=''):
  if variant not in VARIANTS:
    raise ValueError(f"pixelrnn has no variant '{variant}'; it has {' '.join(VARIANTS[1:])}")
  config = defaults()
  config.system = 'autoregressive.pixelrnn'
  cifar10, levels, row = variant.startswith('cifar10'), variant.startswith('levels'), 'row' in variant
  name, preprocess = 'cifar10' if cifar10 else 'mnist', 'scale_symmetric' if cifar10 or levels else 'dynamic_binarize'
  config.data.update({'name': name, 'preprocess': preprocess, 'valid_size': 400})
  config.model = {
    'likelihood': 'categorical' if cifar10 or levels else 'bernoulli', 'levels': 256, 'components': 10, 'classes': 10,
    'average': 0.0, 'network': {'hidden': 16, 'layers': 7, 'head': 32, 'first': 7, 'size': 3},
  }  # fmt: skip
  config.model.network.layer = 'row_lstm' if row else 'diagonal_bilstm'
  config.optimizer = {'model': optimizer(learning_rate=1e-3)}
  config.update({'steps_per_call': 1, 'log_every': 100, 'eval_every': 800, 'save_every': 400, 'picture_every': 2400})
  config.update({'init_examples': 16, 'eval_batch_size': 100, 'best': 'nll_nats'})
  config.evals = ('mean.metrics', 'causality.causality')
  config.update({'batch_size': 16, 'epochs': 457.0})
  if cifar10:
    config.model.network.update({'hidden': 128, 'layers': 12, 'head': 1024})
  if variant.endswith('small'):
    config.model.network.update({'hidden': 16, 'layers': 1})
    config.optimizer.model.schedule = 'linear'
    config.update({'epochs': 0.0, 'steps': 2400})
  if variant.startswith('tiny'):
    config.model.network.update({'hidden': 6, 'layers': 1, 'head': 6, 'first': 3})
    shrink(config)
  return config
