"""Convolutional DRAW on Omniglot, 28x28.

Paper: Gregor et al. 2016, arXiv:1604.08772, section 2: 160 maps, as recalled; the rest is that of
configs/conv_draw_mnist.py. Images are resized and binarized anew for each batch; the papers' are another file.
Command: python train.py --config=configs/conv_draw_omniglot.py --workdir=runs/conv_draw_omniglot
Variants: (none); small, tiny: those of configs/conv_draw_mnist.py.
Expected: below 91.00 nats (Chen et al. 2017, table 3). No run is recorded yet.
"""

from dgm_jax.config import build_on, with_variant

OMNIGLOT = {'data.name': 'omniglot', 'data.size': 28, 'data.channels': 1, 'data.invert': True, 'data.valid_size': 1280}
VARIANTS = {'': OMNIGLOT, 'small': OMNIGLOT, 'tiny': {}}
TINY = ()  # the programs are those of conv_draw_mnist


def get_config(variant=''):
  config = build_on(__file__, f'conv_draw_mnist:{variant}' if variant in ('small', 'tiny') else 'conv_draw_mnist')
  return with_variant(config, VARIANTS, variant)
