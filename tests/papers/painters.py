"""Rows of autoencoders that paint in steps."""

from papers.row import Row, adam

GREGOR = (
  'Gregor et al. 2015, arXiv:1502.04623, section 4.1 and table 3; the rate and the bound of the gradient are those of'
  ' the public program jbornschein/draw; length, images held out and the binarization are ours'
)
CONCEPTUAL = (
  'Gregor et al. 2016, arXiv:1604.08772, section 2; kernels, maps and rate are recalled, the bound of the gradient,'
  ' batch and length are ours'
)
DYNAMIC = ('mnist', 'dynamic_binarize', 10_000)


def lstm(inputs, units):
  """Parameters of the four gates, whose inputs include the units."""
  return (inputs + units + 1) * 4 * units


def draw(read, write, numbers):
  """DRAW of 64 steps on MNIST; `numbers` are what is read of image and error."""
  model = {
    'steps': 64, 'hidden': 256, 'latents': (100,), 'read': read, 'write': write, 'likelihood': 'bernoulli',
    'samples': 1, 'bound': 'elbo', 'unroll': False, 'remat': False,
  }  # fmt: skip
  windows = 257 * 5 * (bool(read) + bool(write))
  heads = 257 * 200 + 257 * (write**2 or 784) + windows
  count = lstm(numbers + 256, 256) + lstm(100, 256) + heads + 784 + 4 * 256
  run = {'batch_size': 100, 'epochs': 100.0}
  return Row(GREGOR, 'draw.draw', DYNAMIC, model, {'model': adam(3e-4, clip_norm=10.0)}, run, {'model': count})


def conv_lstm(inputs, units, kernel):
  """Parameters of the gates of convolutions, whose inputs include the units."""
  return ((inputs + units) * kernel**2 + 1) * 4 * units


def conv_draw_mnist():
  """Convolutional DRAW of 160 maps on MNIST, 12 maps of latents, kernels of 5x5."""
  model = {
    'steps': 16, 'features': 160, 'kernel': 5, 'latents': (12,), 'likelihood': 'bernoulli', 'samples': 1,
    'bound': 'elbo', 'unroll': False, 'remat': False,
  }  # fmt: skip
  heads = 2 * (25 * 160 + 1) * 24 + 25 * 160 + 1
  count = conv_lstm(160, 160, 5) + conv_lstm(12, 160, 5) + 25 * 3 * 640 + heads + 784 + 4 * 160
  run = {'batch_size': 100, 'epochs': 100.0}
  players = {'model': adam(5e-4, clip_norm=10.0)}
  return Row(CONCEPTUAL, 'draw.conv_draw', DYNAMIC, model, players, run, {'model': count})


TABLE = {'conv_draw_mnist:': conv_draw_mnist(), 'draw_mnist:': draw(2, 5, 8), 'draw_mnist:whole': draw(0, 0, 2 * 784)}
