from dgm_jax.config import defaults, optimizer, shrink, with_variant
VARIANTS = {
  '': {},
  'factorised': {'model.decoder':'factorised'},
  }
def get_config(variant=''):
  config = defaults()
  config.system = 'pixel_latents.vlae'
  config.data.update({'name': 'mnist', 'preprocess': 'dynamic_binarize', 'valid_size': 400})
  config.model = {
    'latents': 32, 'likelihood': 'bernoulli', 'levels': 256, 'components': 10, 'decoder': 'pixels',
    'encoder': {'name': 'dense', 'hidden': (200, 200)},
    'map': {'name': 'dense', 'hidden': (200, 200), 'features': 4},
    'network': {'name': 'local_pixelcnn'},
  }  # fmt: skip
  config.optimizer = {'model': optimizer(name='adamax',learning_rate=2e-3,schedule='cosine')}
  config.update({'batch_size': 100, 'epochs': 6.0, 'steps_per_call': 1, 'best': 'neg_elbo_nats'})
  config.update({'log_every': 50, 'eval_every': 500, 'save_every': 500, 'picture_every': 0,'init_examples':100})
  config.evals = ('mean.metrics', 'likelihood.nll', 'latent.units')
  return with_variant(config, VARIANTS, variant)
