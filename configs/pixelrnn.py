"""PixelRNN: Diagonal BiLSTMs or Row LSTMs, on binary MNIST, MNIST of 256 levels, and CIFAR-10.

Paper: van den Oord et al. 2016, arXiv:1601.06759, table 1: 7 layers of h = 16 on MNIST, 12 of h = 128 on CIFAR-10.
Differences (Adam, and binary MNIST drawn anew each time): docs/results.md.
Command: python train.py --config=configs/pixelrnn.py --workdir=runs/pixelrnn
Variants: (none) binary MNIST with Diagonal BiLSTMs; row: Row LSTMs; small, row_small: one layer, for a CPU; levels;
cifar10, cifar10_row; tiny, tiny_row.
Expected: 79.20 nats on statically binarized MNIST (Diagonal BiLSTM) and 3.00 bits/dim (Row LSTM: 3.07) on CIFAR-10
(paper). No full run is recorded yet.
"""

from dgm_jax.config import build_on, shrink, with_variant

ROW = {'model.network.layer': 'row_lstm'}
LEVELS = {'data.preprocess': 'scale_symmetric', 'model.likelihood': 'categorical'}
CIFAR10 = LEVELS | {
  'data.name': 'cifar10', 'model.network.hidden': 128, 'model.network.layers': 12, 'model.network.head': 1024
}  # fmt: skip
SMALL = {'model.network.layers': 1, 'optimizer.model.schedule': 'linear', 'epochs': 0.0, 'steps': 2400}
TINY_NETWORK = {
  'model.network.hidden': 6, 'model.network.layers': 1, 'model.network.head': 6, 'model.network.first': 3
}  # fmt: skip
VARIANTS = {
  '': {},
  'row': ROW,
  'small': SMALL,
  'row_small': ROW | SMALL,
  'levels': LEVELS,
  'cifar10': CIFAR10,
  'cifar10_row': CIFAR10 | ROW,
  'tiny': (TINY_NETWORK, shrink),
  'tiny_row': (ROW | TINY_NETWORK, shrink),
}
TINY = ('tiny', 'tiny_row')  # the variants that tests run


def get_config(variant=''):
  config = build_on(__file__, 'gated_pixelcnn')
  config.system = 'autoregressive.pixelrnn'
  config.model.network = {'hidden': 16, 'layers': 7, 'head': 32, 'first': 7, 'size': 3, 'layer': 'diagonal_bilstm'}
  config.batch_size = 16
  return with_variant(config, VARIANTS, variant)
