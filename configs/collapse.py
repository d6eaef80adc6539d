"""Posterior collapse: a linear-Gaussian autoencoder whose decoder can, or cannot, do without its latents.

Paper: the deck's toy; Lucas et al. 2019, arXiv:1911.02469. Remedies: Bowman et al. 2016 (annealing), Kingma et al. 2016
(free bits), Burgess et al. 2018 (capacity), and a decoder of diagonal covariance.
Command: python train.py --config=configs/collapse.py:full --workdir=runs/collapse_full
Variants: diagonal (the latents are used), full (they are not), annealing, free_bits and capacity (with the full
decoder); tiny.
Expected: `python -m dgm_jax.report --topic=collapse` runs all of them on the deck's two-dimensional normals, where
bound and divergence are known in closed form; here, on digits, no full run is recorded.
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

FULL = {'latents': 8, 'decoder': 'full'}
CAPACITY = {'system': 'collapse.capacity', 'model': FULL | {'capacity': 4.0, 'gamma': 10.0}}
VARIANTS = {
  'diagonal': {},
  'full': {'model': FULL},
  'annealing': {'system': 'collapse.annealing', 'model': FULL | {'warmup': 2000}},
  'free_bits': {'system': 'collapse.free_bits', 'model': FULL | {'floor': 0.5}},
  'capacity': CAPACITY,
  'tiny': (CAPACITY | {'model.latents': 3, 'model.capacity': 1.0}, shrink),
}


def get_config(variant='diagonal'):
  config = defaults()
  config.system = 'collapse.elbo'
  config.data.update({'name': 'digits', 'preprocess': 'dequantize', 'valid_size': 100})
  config.model = {'latents': 8, 'decoder': 'diagonal'}
  config.optimizer = {'model': optimizer(learning_rate=5e-3, schedule='cosine')}
  config.update({'batch_size': 96, 'steps': 6000, 'steps_per_call': 200, 'best': 'neg_elbo_nats'})
  config.update({'log_every': 200, 'eval_every': 600, 'save_every': 3000, 'picture_every': 6000})
  return with_variant(config, VARIANTS, variant or 'diagonal')
