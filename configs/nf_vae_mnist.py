"""Variational autoencoders on MNIST whose posterior is moved by planar, radial or Sylvester maps.

Paper: Rezende & Mohamed 2015, arXiv:1505.05770, section 6.2: 40 latents, 400 maxout units, 500,000 steps, static data
(another binarization here). Decay of RMSprop and batches held out: ours. Sylvester: van den Berg et al. 2018.
Command: python train.py --config=configs/nf_vae_mnist.py --workdir=runs/nf_vae_mnist
Variants: (none) 80 planar maps; 10 20 40; radial; sylvester; diagonal; small (10 planar maps, network of Burda et al.
2016, dynamic data; without a clipped gradient it diverged), small_diagonal, small_sylvester; tiny, tiny_*.
Cost: not timed on an idle machine yet.
Expected: bound 85.1 with 80, 85.7 with 40, 86.5 with 20, 87.5 with 10 maps, 89.9 diagonal (one sample, static).
Measured (dynamic, 80 epochs): small bound 93.45, by 1000 samples 89.88; small_diagonal 95.64, 91.28.
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

SYLVESTER = {'model.posterior': 'sylvester', 'model.flow': {'layers': 4, 'reflections': 8}}
RADIAL = {'model.posterior': 'radial'}
DIAGONAL = {'model.posterior': 'diagonal'}
SMALL = {
  'data.preprocess': 'dynamic_binarize', 'data.valid_size': 400, 'model.hidden': ((200, 200),), 'model.latents': (50,),
  'model.activation': 'tanh', 'model.flow': {'layers': 10}, 'model.warm_up_of': 'divergence', 'model.bound': 'elbo',
  'optimizer': {'model': optimizer(learning_rate=1e-3, schedule='cosine', clip_norm=10.0)}, 'steps': 0, 'epochs': 80.0,
  'steps_per_call': 298, 'log_every': 298, 'eval_every': 5960, 'save_every': 5960, 'picture_every': 0,
  'nll.samples': 1000,
}  # fmt: skip
TINY = {
  'model.hidden': ((16,),), 'model.latents': (4,), 'model.flow.layers': 2, 'model.warm_up_from': 1.0,
  'optimizer': {'model': optimizer()},
}  # fmt: skip
VARIANTS = {
  '': {},
  '10': {'model.flow.layers': 10},
  '20': {'model.flow.layers': 20},
  '40': {'model.flow.layers': 40},
  'radial': RADIAL,
  'sylvester': SYLVESTER,
  'diagonal': DIAGONAL,
  'small': SMALL,
  'small_diagonal': (SMALL, DIAGONAL),
  'small_sylvester': (SMALL, SYLVESTER),
  'tiny': (TINY, shrink),
  'tiny_radial': (RADIAL, TINY, shrink),
  'tiny_sylvester': (SYLVESTER, TINY, shrink),
}
TINY = ('tiny', 'tiny_radial', 'tiny_sylvester')  # the variants that tests run


def get_config(variant=''):
  config = defaults()
  config.system = 'flow_posteriors.nf_vae'
  config.data.update({'name': 'mnist', 'preprocess': 'static_binarize', 'valid_size': 10_000})
  config.model = {
    'network': 'dense', 'hidden': ((400,),), 'latents': (40,), 'channels': (), 'activation': 'maxout',
    'likelihood': 'bernoulli', 'samples': 1, 'posterior': 'planar', 'flow': {'layers': 80}, 'prior': 'normal',
    'bound': 'warm_up', 'warm_up': 10_000, 'warm_up_from': 0.01, 'warm_up_of': 'joint',
  }  # fmt: skip
  config.optimizer = {'model': optimizer(name='rmsprop', learning_rate=1e-5, b2=0.9, momentum=0.9)}
  config.update({'batch_size': 100, 'steps': 500_000, 'steps_per_call': 500, 'best': 'neg_elbo_nats'})
  config.update({'log_every': 500, 'eval_every': 5000, 'save_every': 10_000, 'picture_every': 50_000})
  config.evals = ('mean.metrics', 'likelihood.nll', 'latent.units')
  return with_variant(config, VARIANTS, variant)
