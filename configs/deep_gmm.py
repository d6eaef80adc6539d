"""A deep mixture of normals: layers of affine maps, every path through them a normal distribution.

Paper: van den Oord & Schrauwen 2014, Factoring variations in natural images with deep Gaussian mixture models. Its
CIFAR-10 model (4.00 bits per dimension) has locally connected maps; here maps are full, for small images.
Command: python train.py --config=configs/deep_gmm.py --workdir=runs/deep_gmm_digits
Variants: (none); tiny. Cost: minutes on two cores.
Expected: 2.72 bits per dimension on the test digits (ours); none is published for them.
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

VARIANTS = {
  '': {},
  'tiny': ({'model.components': (2, 2), 'data.size': 4}, shrink),  # 16 dimensions
}


def get_config(variant=''):
  config = defaults()
  config.system = 'latent.deep_gmm'
  config.data.update({'name': 'digits', 'preprocess': 'dequantize', 'valid_size': 100})
  config.model = {'components': (4, 4)}
  config.optimizer = {'model': optimizer(learning_rate=3e-3, schedule='cosine')}
  config.update({'batch_size': 96, 'steps': 6000, 'steps_per_call': 100, 'best': 'nll_nats'})
  config.update({'log_every': 200, 'eval_every': 600, 'save_every': 3000, 'picture_every': 6000})
  return with_variant(config, VARIANTS, variant)
