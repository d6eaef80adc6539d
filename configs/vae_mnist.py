"""Variational autoencoders on MNIST: dense or convolutional, on binary pixels or on 256 levels.

Paper: Kingma & Welling 2014, arXiv:1312.6114; networks of Burda et al. 2016 (dense) and of three strided
convolutions in the manner of DCGAN (conv).
Command: python train.py --config=configs/vae_mnist.py --workdir=runs/vae_mnist
Variants: (none) dense, Bernoulli, dynamic binarization; conv: convolutional, likewise; logistic, gaussian: dense on
256 levels with a discretized logistic or a Gaussian likelihood; tiny, tiny_conv, tiny_logistic, tiny_gaussian.
Cost: one to ten minutes on two CPU cores.
Expected: no full run is recorded yet.
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

CONV = {'model.hidden': ((256,),), 'model.latents': (32,), 'model.channels': (32, 64, 64)}
LOGISTIC = {'model.likelihood': 'discretized_logistic', 'data.preprocess': 'scale_symmetric'}
GAUSSIAN = {'model.likelihood': 'gaussian', 'data.preprocess': 'dequantize'}
TINY_NETWORKS = {'model.hidden': ((16,),), 'model.latents': (4,)}
VARIANTS = {
  '': {},
  'conv': CONV,
  'logistic': LOGISTIC,
  'gaussian': GAUSSIAN,
  'tiny': (TINY_NETWORKS, shrink),
  'tiny_conv': (TINY_NETWORKS | {'model.channels': (4, 4)}, shrink),
  'tiny_logistic': (LOGISTIC | TINY_NETWORKS, shrink),
  'tiny_gaussian': (GAUSSIAN | TINY_NETWORKS, shrink),
}
TINY = ('tiny', 'tiny_conv', 'tiny_logistic', 'tiny_gaussian')  # the variants that tests run


def get_config(variant=''):
  config = defaults()
  config.system = 'vae.vae'
  config.data.update({'name': 'mnist', 'preprocess': 'dynamic_binarize', 'valid_size': 10_000})
  config.model = {
    'hidden': ((200, 200),), 'latents': (50,), 'channels': (), 'activation': 'tanh', 'likelihood': 'bernoulli',
    'samples': 1,
  }  # fmt: skip
  config.optimizer = {'model': optimizer(learning_rate=1e-3, schedule='cosine', warmup_steps=500)}
  config.update({'batch_size': 100, 'epochs': 100.0, 'steps_per_call': 500, 'best': 'neg_elbo_nats'})
  config.update({'log_every': 500, 'eval_every': 2500, 'save_every': 10_000, 'picture_every': 10_000})
  config.evals = ('mean.metrics', 'likelihood.nll', 'latent.units')
  return with_variant(config, VARIANTS, variant)
