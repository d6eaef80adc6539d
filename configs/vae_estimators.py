"""One autoencoder, trained by each estimator of the encoder's gradient: unstable with huge variance, and the cures.

Paper: Kingma & Welling 2014, arXiv:1312.6114, section 2.2 (the naive estimator's 'very high variance'); baselines of
Mnih & Gregor 2014, arXiv:1402.0030, Kool et al. 2019 and Mnih & Rezende 2016, arXiv:1602.06725.
Command: python train.py --config=configs/vae_estimators.py:score --workdir=runs/estimators_score
Variants, normal latents: reparametrized score constant_baseline optimal_baseline leave_one_out vimco; Bernoulli
latents: discrete_ before each but the first; tiny and tiny_discrete. Four samples an image each, so that all see the
same number of decoded images.
Expected: `python -m dgm_jax.report --topic=estimators` trains and compares them; no full run is recorded.
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

SCORES = ('score', 'constant_baseline', 'optimal_baseline', 'leave_one_out', 'vimco')
KINDS = {name: {'system': f'estimators.{name}'} for name in SCORES}
DISCRETE = {'model.posterior': 'bernoulli'}
TINY_NETWORKS = {'model.hidden': (16,), 'model.latents': 4}
VARIANTS = {
  'reparametrized': {},
  **KINDS,
  **{f'discrete_{name}': KINDS[name] | DISCRETE for name in KINDS},
  'tiny': (KINDS['optimal_baseline'], TINY_NETWORKS, shrink),
  'tiny_discrete': (KINDS['vimco'], DISCRETE, TINY_NETWORKS, shrink),
}
TINY = ('tiny', 'tiny_discrete')  # the variants that tests run


def get_config(variant='reparametrized'):
  config = defaults()
  config.system = 'estimators.reparametrized'
  config.data.update({'name': 'digits', 'preprocess': 'dynamic_binarize', 'valid_size': 100})
  config.model = {
    'posterior': 'normal', 'likelihood': 'bernoulli', 'hidden': (200,), 'latents': 8, 'samples': 4, 'activation': 'tanh'
  }  # fmt: skip
  config.optimizer = {'model': optimizer(learning_rate=1e-3)}
  config.update({'batch_size': 96, 'steps': 6000, 'steps_per_call': 200, 'best': 'neg_elbo_nats'})
  config.update({'log_every': 200, 'eval_every': 600, 'save_every': 3000, 'picture_every': 6000})
  return with_variant(config, VARIANTS, variant or 'reparametrized')
