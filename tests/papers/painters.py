"""Rows of autoencoders that paint in steps."""

from papers.row import Row, adam

GREGOR = (
  'Gregor et al. 2015, arXiv:1502.04623, section 4.1 and table 3; the rate and the bound of the gradient are those of'
  ' the public program jbornschein/draw; length, images held out and the binarization are ours'
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


TABLE = {'draw_mnist:': draw(2, 5, 8), 'draw_mnist:whole': draw(0, 0, 2 * 784)}
