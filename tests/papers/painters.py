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
  windows = 257 * 5 * ((read > 0) + (write > 0))
  heads = 257 * 200 + 257 * (write**2 or 784) + windows
  count = lstm(numbers + 256, 256) + lstm(100, 256) + heads + 784 + 4 * 256
  run = {'batch_size': 100, 'epochs': 100.0}
  return Row(GREGOR, 'draw.draw', DYNAMIC, model, {'model': adam(3e-4, clip_norm=10.0)}, run, {'model': count})


def draw_cifar10():
  """DRAW of 64 steps on CIFAR-10; the image and its error have 6 channels, of 5x5 filters each."""
  source = 'Gregor et al. 2015, arXiv:1502.04623, table 3; likelihood, rate, clipping, batch and length are ours'
  model = {
    'steps': 64, 'hidden': 400, 'latents': (200,), 'read': 5, 'write': 5, 'likelihood': 'discretized_logistic',
    'samples': 1, 'bound': 'elbo', 'unroll': False, 'remat': False,
  }  # fmt: skip
  heads = 401 * 400 + 401 * 75 + 2 * 401 * 5
  count = lstm(6 * 25 + 400, 400) + lstm(200, 400) + heads + 3072 + 4 * 400 + 3
  data, players = ('cifar10', 'scale_symmetric', 5000), {'model': adam(3e-4, clip_norm=10.0)}
  return Row(source, 'draw.draw', data, model, players, {'batch_size': 100, 'epochs': 100.0}, {'model': count})


def conv_lstm(inputs, units, kernel):
  """Parameters of the gates of convolutions, whose inputs include the units."""
  return ((inputs + units) * kernel**2 + 1) * 4 * units


def conv_draw_mnist(data, **resized):
  """Convolutional DRAW of 160 maps on images of 28x28, 12 maps of latents, kernels of 5x5."""
  model = {
    'steps': 16, 'features': 160, 'kernel': 5, 'latents': (12,), 'likelihood': 'bernoulli', 'samples': 1,
    'bound': 'elbo', 'unroll': False, 'remat': False,
  }  # fmt: skip
  heads = 2 * (25 * 160 + 1) * 24 + 25 * 160 + 1
  count = conv_lstm(160, 160, 5) + conv_lstm(12, 160, 5) + 25 * 3 * 640 + heads + 784 + 4 * 160
  run = {'batch_size': 100, 'epochs': 100.0} | resized
  players, counts = {'model': adam(5e-4, clip_norm=10.0)}, None if resized else {'model': count}
  return Row(CONCEPTUAL, 'draw.conv_draw', data, model, players, run, counts)


def conv_draw_cifar10():
  """Convolutional DRAW of 320 maps on CIFAR-10, 12 maps of latents, kernels of 5x5."""
  model = {
    'steps': 32, 'features': 320, 'kernel': 5, 'latents': (12,), 'likelihood': 'gaussian', 'samples': 1,
    'bound': 'elbo', 'unroll': False, 'remat': True,
  }  # fmt: skip
  heads = 2 * (25 * 320 + 1) * 24 + 25 * 320 * 3 + 3
  count = conv_lstm(320, 320, 5) + conv_lstm(12, 320, 5) + 25 * 9 * 1280 + heads + 3072 + 4 * 320 + 3
  data, players = ('cifar10', 'dequantize', 5000), {'model': adam(5e-4, clip_norm=10.0)}
  run = {'batch_size': 100, 'epochs': 100.0}
  return Row(CONCEPTUAL, 'draw.conv_draw', data, model, players, run, {'model': count})


OMNIGLOT = 'omniglot', 'dynamic_binarize', 1280
ONE = draw(2, 5, 8)
TWO = ONE._replace(data=('pairs:mnist', *DYNAMIC[1:]), run=ONE.run | {'size': 60}, parameters=None)
TABLE = {
  'conv_draw_cifar10:': conv_draw_cifar10(), 'conv_draw_mnist:': conv_draw_mnist(DYNAMIC),
  'conv_draw_omniglot:': conv_draw_mnist(OMNIGLOT, size=28, channels=1, invert=True), 'draw_cifar10:': draw_cifar10(),
  'draw_mnist:': ONE, 'draw_mnist:whole': draw(0, 0, 2 * 784), 'draw_two_mnist:': TWO,
}  # fmt: skip
