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
TABLE = {
  'hvae_mnist:lvae': sonderby('ladder.top_down', ENCODER, merge='precision'),
  'hvae_mnist:deck': sonderby('ladder.factorised', ENCODER),
  'hvae_mnist:bottom_up': sonderby('ladder.bottom_up', BOTTOM_UP),
}  # fmt: skip
