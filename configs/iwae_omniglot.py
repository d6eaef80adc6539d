"""Importance weighted autoencoders on dynamically binarized OMNIGLOT: the other half of the deck's table.

Paper: Burda, Grosse, Salakhutdinov 2016, arXiv:1509.00519, table 1; the authors' images, chardata.mat, and their split.
Command: python train.py --config=configs/iwae_omniglot.py:1x5 --config.data.name=mat:PATH --workdir=runs/omniglot_1x5
Variants: 1x1 1x5 1x50 2x1 2x5 2x50, as configs/iwae_mnist.py; VAE's column: --config.system=vae.vae; small: 1x1 on a
surrogate, the sets small1 and small2 of TFDS, whose figures are not the table's; tiny.
Expected after all 3280 epochs, test NLL (L = 5000) in nats / active units: 1x1 108.11/28, 1x5 106.12/34, 1x50
104.67/41, 2x1 107.56/30+5, 2x5 104.79/38+6, 2x50 103.38/44+7; VAE 1x1 108.11/28, 1x5 107.62/28, 1x50 107.80/28, 2x1
107.58/28+4, 2x5 106.31/30+5, 2x50 106.30/30+5. Ours, small, of the surrogate: 132.4 (L = 200)/22.
"""

from dgm_jax.config import build_on, with_variant

EPOCH = 1150  # steps of 20 images; 1,345 of the 24,345 training images are held out, as by the authors
AUTHORS = {
  'data.name': 'mat:chardata.mat', 'data.valid_size': 1345, 'steps_per_call': EPOCH // 2, 'log_every': EPOCH,
  'eval_every': EPOCH, 'save_every': 4 * EPOCH, 'picture_every': 40 * EPOCH, 'init_examples': 23_000,
}  # fmt: skip
SURROGATE = {
  'data.name': 'omniglot', 'data.train': 'small1', 'data.test': 'small2', 'data.size': 28, 'data.channels': 1,
  'data.invert': True, 'data.valid_size': 270, 'steps_per_call': 100, 'log_every': 500, 'eval_every': 500,
  'save_every': 5000, 'picture_every': 10_000, 'init_examples': 2450, 'budget': 6, 'best': 'neg_elbo_nats',
}  # fmt: skip
BASES = {'small': '1x1'}  # of the variant that configs/iwae_mnist.py has not
VARIANTS = {**dict.fromkeys(('1x1', '1x5', '1x50', '2x1', '2x5', '2x50'), AUTHORS), 'small': SURROGATE, 'tiny': {}}
TINY = ()  # the programs are those of iwae_mnist


def get_config(variant='1x5'):
  variant = variant or '1x5'
  config = build_on(__file__, f'iwae_mnist:{BASES.get(variant, variant)}' if variant in VARIANTS else 'iwae_mnist')
  return with_variant(config, VARIANTS, variant)
