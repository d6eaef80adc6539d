"""A variational autoencoder on the 8x8 digits that come with scikit-learn: real data, no download.

Paper: Kingma & Welling 2014, arXiv:1312.6114, one hidden layer of 500 units, here with 16 latents.
Command: python train.py --config=configs/vae_digits.py --workdir=runs/vae_digits     (`make train`)
Variants: (none); tiny. Cost: a minute and a half on two CPU cores.
Expected: test -ELBO 23.1 nats, NLL 22.8 (ours, results/vae_digits.json).
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

VARIANTS = {
  '': {},
  'tiny': ({'model.hidden': ((16,),), 'model.latents': (4,)}, shrink),
}


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
  return with_variant(config, VARIANTS, variant)
