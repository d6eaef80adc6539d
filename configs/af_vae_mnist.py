"""Variational autoencoders on MNIST whose prior is an autoregressive flow that is trained together with the rest.

Paper: Chen et al. 2017, arXiv:1611.02731, section 4.2: the best network of Kingma et al. 2016 with its steps in the
prior, without a context, on static data (another binarization here). Batch and length: ours.
Command: python train.py --config=configs/af_vae_mnist.py --workdir=runs/af_vae_mnist
Variants: (none); mean_only (shifts alone, four steps of 3 x 640 as in appendix A); small (mean_only, four steps of 320,
50 latents, network of Burda et al. 2016, dynamic data), small_normal (the same under N(0, I)); tiny, tiny_maf.
Cost: small 5 minutes of one CPU core.
Expected: NLL 79.30 by 4096 samples (static, perhaps trained on the validation images, too). Measured (dynamic, 1000
samples, 80 epochs): small 85.63, small_normal 89.98.
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

MEAN_ONLY = {'model.prior_network': {'layers': 4, 'hidden': (640, 640, 640), 'elementwise': 'additive'}}
NORMAL = {'model.prior': 'normal', 'evals': ('mean.metrics', 'likelihood.nll')}
SMALL = {
  'data.preprocess': 'dynamic_binarize', 'data.valid_size': 400, 'model.network': 'dense',
  'model.hidden': ((200, 200),), 'model.latents': (50,), 'model.channels': (), 'model.activation': 'tanh',
  'model.prior_network': {'layers': 4, 'hidden': (320,), 'elementwise': 'additive', 'unroll': 4},
  'model.average': 0.0, 'optimizer': {'model': optimizer(learning_rate=2e-3, schedule='cosine')}, 'epochs': 80.0,
  'steps_per_call': 298, 'log_every': 298, 'eval_every': 5960, 'save_every': 5960, 'picture_every': 0,
  'nll.samples': 1000,
}  # fmt: skip
TINY_NETWORKS = {
  'model.network': 'dense', 'model.hidden': ((16,),), 'model.latents': (4,), 'model.channels': (),
  'model.activation': 'tanh', 'model.prior_network': {'layers': 2, 'hidden': (8,)}, 'model.average': 0.9,
}  # fmt: skip
VARIANTS = {
  '': {},
  'mean_only': MEAN_ONLY,
  'small': SMALL,
  'small_normal': (SMALL, NORMAL),
  'tiny': (TINY_NETWORKS, shrink),
  'tiny_maf': (TINY_NETWORKS, {'model.prior_flow': 'maf'}, shrink),
}
TINY = ('tiny', 'tiny_maf')  # the variants that tests run


def get_config(variant=''):
  config = defaults()
  config.system = 'flow_posteriors.af_vae'
  config.data.update({'name': 'mnist', 'preprocess': 'static_binarize', 'valid_size': 10_000})
  config.model = {
    'network': 'resnet', 'hidden': ((450,),), 'latents': (32,), 'channels': (16, 32, 32), 'activation': 'elu',
    'likelihood': 'bernoulli', 'samples': 1, 'posterior': 'diagonal', 'prior': 'flow', 'prior_flow': 'af',
    'prior_network': {'layers': 8, 'hidden': (1920, 1920), 'activation': 'elu', 'elementwise': 'gated'},
    'bound': 'elbo', 'average': 0.999,
  }  # fmt: skip
  config.optimizer = {'model': optimizer(name='adamax', learning_rate=2e-3)}
  config.update({'batch_size': 100, 'epochs': 400.0, 'steps_per_call': 500, 'best': 'neg_elbo_nats'})
  config.update({'log_every': 500, 'eval_every': 5000, 'save_every': 10_000, 'picture_every': 50_000})
  config.nll.samples = 4096
  config.evals = ('mean.metrics', 'likelihood.nll', 'causality.prior')
  return with_variant(config, VARIANTS, variant)
