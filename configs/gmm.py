"""A mixture of normals, trained by EM: an EM step is a Move.

Paper: Dempster et al. 1977; stepwise: Cappe & Moulines 2009, arXiv:0712.4273.
Command: python train.py --config=configs/gmm.py --workdir=runs/gmm_digits
Variants: (none) EM on all 1296 training digits at once; stepwise: batches of 108 with the rate (t + 1)^-0.6; tiny.
Cost: a minute on two cores.
Expected: 2.83 bits per dimension on the test digits after 60 steps (ours); none is published. Of their 17 levels a
uniform density has 4.09 bits, one histogram of all pixels 2.98.
"""

from dgm_jax.config import defaults, shrink, with_variant

TINY_MIXTURE = {
  'model.components': 3, 'model.covariance': 'tied', 'model.power': 0.6, 'model.regularization': 0.02
}  # fmt: skip
VARIANTS = {
  '': {},
  'stepwise': {'model.power': 0.6, 'batch_size': 108, 'steps': 720},
  'tiny': (TINY_MIXTURE, shrink),
}


def get_config(variant=''):
  config = defaults()
  config.system = 'latent.gmm'
  # With noise that is drawn once for good, and batches that are the whole split, every step sees the same data.
  config.data.update({'name': 'digits', 'preprocess': 'static_dequantize', 'valid_size': 101})
  config.model = {'components': 10, 'covariance': 'full', 'power': 0.0, 'regularization': 1e-3}
  config.update({'batch_size': 1296, 'steps': 60, 'steps_per_call': 10, 'best': 'nll_nats'})
  config.update({'log_every': 10, 'eval_every': 10, 'save_every': 30, 'picture_every': 60})
  return with_variant(config, VARIANTS, variant)
