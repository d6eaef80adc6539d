"""DRAW on images of two MNIST digits, at random places of a black square of 60x60.

Paper: Gregor et al. 2015, arXiv:1502.04623, section 4.3; the network is that of configs/draw_mnist.py, as far as the
paper says. The digits of an example and their places are fixed; the pixels are binarized anew for each batch.
Command: python train.py --config=configs/draw_two_mnist.py --workdir=runs/draw_two_mnist
Variants: (none); small (32 steps, LSTMs of 128, 10 latents, windows of 5x5); tiny.
Expected: the paper has no figure; each digit is drawn by strokes of its own. No run is recorded yet.
"""

from dgm_jax.config import build_on, with_variant

VARIANTS = {'': {}, 'small': {'model.steps': 32}, 'tiny': {}}
TINY = ()  # the programs are those of draw_mnist
BASES = {'small': 'draw_mnist:small_attention', 'tiny': 'draw_mnist:tiny_attention'}


def get_config(variant=''):
  config = build_on(__file__, BASES.get(variant, 'draw_mnist'))
  if variant != 'tiny':
    config.data.update({'name': 'pairs:mnist', 'size': 60})
  return with_variant(config, VARIANTS, variant)
