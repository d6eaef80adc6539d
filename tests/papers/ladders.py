"""Rows of hierarchical autoencoders."""

from papers.row import Row, adam

WIDTHS = (512, 256, 128, 64, 32)
DENSE = {
  'hidden': tuple((width, width) for width in WIDTHS), 'latents': (64, 32, 16, 8, 4), 'activation': 'leaky_relu',
  'norm': True, 'variance': 'softplus', 'likelihood': 'bernoulli', 'samples': 1, 'bound': 'warm_up', 'warm_up': 46_562,
}  # fmt: skip


def sonderby(system, encoder, **more):
  source = 'Sonderby et al. 2016, arXiv:1602.02282, section 3; decay of batch statistics and images held out are ours'
  data, run = ('mnist', 'dynamic_binarize', 400), {'batch_size': 256, 'epochs': 2000.0}
  return Row(source, system, data, DENSE | more, {'model': adam()}, run, {'encoder': encoder, 'decoder': DECODER})


def layers(below, latents):
  """Numbers of two layers without biases, each with the gain and the shift of a batch normalisation, and of a head."""
  return [below * width + width * width + 4 * width + (width + 1) * 2 * size for width, size in latents]


BELOW, LATENTS = (784, *WIDTHS[:-1]), (64, 32, 16, 8, 4)
ENCODER = sum(sum(layers(below, [each])) for below, each in zip(BELOW, zip(WIDTHS, LATENTS, strict=True), strict=True))
BOTTOM_UP = sum(
  sum(layers(below, [each]))
  for below, each in zip((784, *LATENTS[:-1]), zip(WIDTHS, LATENTS, strict=True), strict=True)
)
# From z_l down: two layers of the level's width, then the head of the level below, or the pixels.
DECODER = sum(
  above * width + width * width + 4 * width + (width + 1) * out
  for above, width, out in zip(LATENTS, WIDTHS, (784, *(2 * size for size in LATENTS[:-1])), strict=True)
)


def gated(down, channels, outputs):
  """Numbers of the ladder of maps: 64 features, 32 latents, 4 blocks; first convolutions of blocks have no bias."""
  f, z = 64, 32
  norms_and_convs, resize, gate = 4 * f + 18 * f * f + f, 9 * f * f + f, (f + 1) * 2 * f
  block, head, merge = norms_and_convs + gate, (9 * f + 1) * 2 * z, 2 * f * f + f
  blocks = 4 * len(down) * block + sum(down) * resize
  encoder = (25 * channels + 1) * f + norms_and_convs + blocks
  below = (len(down) - 1) * (head + 2 * (merge + block))
  decoder = 4 * 2 * z + below + len(down) * (head + (9 * z + 1) * f) + blocks + 4 * block + (9 * f + 1) * outputs
  return {'encoder': encoder, 'decoder': decoder}


def addtt(down, free_bits, data, epochs, likelihood, parameters):
  source = (
    'program addtt/ladder-vae-pytorch; deviation of first means and log-variances, images held out, length, free bits'
    " of the batch's mean, where 3, 6 and 15 levels are halved, and no bias in front of batch normalisation are ours"
  )
  network = {'name': 'gated', 'down': down, 'latents': 32, 'features': 64, 'blocks': 4, 'dropout': 0.2}
  model = {'network': network, 'samples': 1, 'bound': 'free_bits', 'free_bits': free_bits, 'groups': 1} | likelihood
  players = {'model': adam(3e-4, name='adamax')}
  return Row(source, 'ladder.top_down', data, model, players, {'batch_size': 64, 'epochs': epochs}, parameters)


def on_mnist(down, free_bits):
  data, likelihood = ('mnist', 'static_binarize', 400), {'likelihood': 'bernoulli'}
  counts = gated(down, 1, 1) if len(down) == 3 else None  # more levels take long to count
  return addtt(down, free_bits, data, 1000.0, likelihood, counts)


CIFAR10, MIXTURE = ('cifar10', 'scale_symmetric', 400), {'likelihood': 'logistic_mixture', 'components': 10}
FIFTEEN = (0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0)
CHILD = Row(
  'Child 2021, arXiv:2011.10650, and its program, whose norms are of nats per dimension; images held out and averages'
  ' moving after skipped updates are ours',
  'ladder.vdvae', CIFAR10,
  {
    'down': '32x11,32d2,16x6,16d2,8x6,8d2,4x3,4d4,1x3', 'up': '1x1,4m1,4x2,8m4,8x5,16m8,16x10,32m16,32x21',
    'features': 384, 'middle': 96, 'latents': 16, 'samples': 1, 'bound': 'elbo', 'average': 0.9999,
  } | MIXTURE,
  {'model': adam(2e-4, b2=0.9, weight_decay=0.01, clip_norm=200.0 * 3072, skip_norm=400.0 * 3072, warmup_steps=100)},
  {'batch_size': 32, 'epochs': 700.0}, {'encoder': 7_497_888, 'decoder': 31_647_812},  # together 39,145,700
)  # fmt: skip


def kingma():
  """Weight-normalised layers have a gain and a shift for each feature; twenty blocks, 160 features, 32 latents."""
  conv = lambda side, inputs, outputs: (side**2 * inputs + 2) * outputs
  f, z = 160, 32
  encoder = conv(5, 3, f) + 20 * (conv(3, f, 2 * z + 2 * f) + conv(3, f, f))
  step = conv(3, z, f) + conv(3, f, f) + 2 * conv(3, f, z)
  decoder = f + 20 * (conv(3, f, 4 * z + 2 * f) + step + conv(3, f + z, f)) + conv(5, f, 3) + 1
  model = {
    'blocks': 20, 'features': f, 'latents': z, 'likelihood': 'discretized_logistic', 'samples': 1,
    'bound': 'free_bits', 'free_bits': 0.1, 'groups': 32, 'average': 0.999,
  }  # fmt: skip
  source = (
    'Kingma et al. 2016, arXiv:1606.04934, appendix C, and the best run of its program; open edge bins, the start of'
    ' the top, gains, images held out and length are ours'
  )
  players, run = {'model': adam(2e-3, name='adamax')}, {'batch_size': 256, 'epochs': 1000.0}
  return Row(source, 'ladder.iaf', CIFAR10, model, players, run, {'encoder': encoder, 'decoder': decoder})


TABLE = {
  'iaf_vae_cifar10:': kingma(),
  'hvae_cifar10:vdvae': CHILD,
  'hvae_cifar10:conv15': addtt(FIFTEEN, 1.0, CIFAR10, 500.0, MIXTURE, gated(FIFTEEN, 3, 100)),
  'hvae_mnist:conv3': on_mnist((1, 1, 1), 0.5),
  'hvae_mnist:conv6': on_mnist((0, 1, 0, 1, 0, 1), 0.5),
  'hvae_mnist:conv12': on_mnist((0, 0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0), 1.0),
  'hvae_mnist:lvae': sonderby('ladder.top_down', ENCODER, merge='precision'),
  'hvae_mnist:deck': sonderby('ladder.factorised', ENCODER),
  'hvae_mnist:bottom_up': sonderby('ladder.bottom_up', BOTTOM_UP),
}  # fmt: skip
