"""A variational autoencoder on the 8x8 digits that come with scikit-learn: real data, no download.

Paper: Kingma & Welling 2014, arXiv:1312.6114, one hidden layer of 500 units, here with 16 latents.
Command: python train.py --config=configs/vae_digits.py --workdir=runs/vae_digits     (`make train`)
Expected: test -ELBO 23.1 nats, NLL 22.8 (results/vae_digits.json); a minute and a half on two CPU cores.
"""

from dgm_jax.config import defaults, optimizer, shrink


def get_config(variant=''):
  config = defaults()
  config.system = 'vae.vae'
  config.data.update({'name': 'digits', 'preprocess': 'dynamic_binarize', 'valid_size': 100})
  config.model = {
    'hidden': ((500,),), 'latents': (16,), 'channels': (), 'activation': 'tanh', 'likelihood': 'bernoulli',
    'samples': 1,
  }  # fmt: skip
  config.optimizer = {'model': optimizer(learning_rate=1e-3, schedule='cosine')}
  config.update({'batch_size': 96, 'steps': 12_000, 'steps_per_call': 200, 'best': 'neg_elbo_nats'})
  config.update({'log_every': 600, 'eval_every': 1200, 'save_every': 2400, 'picture_every': 6000})
  config.evals = ('mean.metrics', 'likelihood.nll', 'latent.units')
  if variant == 'tiny':
    config.model.update({'hidden': ((16,),), 'latents': (4,)})
    shrink(config)
  elif variant:
    raise ValueError(f"vae_digits has no variant '{variant}'; it has tiny")
  return config
