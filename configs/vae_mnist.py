"""Variational autoencoders on MNIST: dense or convolutional, on binary pixels or on 256 levels.

Paper: Kingma & Welling 2014, arXiv:1312.6114; networks of Burda et al. 2016 (dense) and of three strided
convolutions in the manner of DCGAN (conv).
Command: python train.py --config=configs/vae_mnist.py --workdir=runs/vae_mnist
Variants: (none) dense, Bernoulli, dynamic binarization; conv: convolutional, likewise; logistic, gaussian: dense on
256 levels with a discretized logistic or a Gaussian likelihood; tiny, tiny_conv, tiny_logistic, tiny_gaussian.
Expected: one to ten minutes on two CPU cores; no full run is recorded yet.
"""

from dgm_jax.config import defaults, optimizer, shrink

PIXELS = {'logistic': ('discretized_logistic', 'scale_symmetric'), 'gaussian': ('gaussian', 'dequantize')}
KINDS = ('', 'conv', 'logistic', 'gaussian')
TINY = ('tiny', 'tiny_conv', 'tiny_logistic', 'tiny_gaussian')  # the variants that tests run


def get_config(variant=''):
  tiny, kind = variant.startswith('tiny'), variant.removeprefix('tiny').removeprefix('_')
  if kind not in KINDS:
    raise ValueError(f"vae_mnist has no variant '{variant}'; it has {' '.join(KINDS[1:])} tiny tiny_conv ...")
  config = defaults()
  config.system = 'vae.vae'
  likelihood, preprocess = PIXELS.get(kind, ('bernoulli', 'dynamic_binarize'))
  config.data.update({'name': 'mnist', 'preprocess': preprocess, 'valid_size': 10_000})
  config.model = {
    'hidden': ((200, 200),), 'latents': (50,), 'channels': (), 'activation': 'tanh', 'likelihood': likelihood,
    'samples': 1,
  }  # fmt: skip
  if kind == 'conv':
    config.model.update({'hidden': ((256,),), 'latents': (32,), 'channels': (32, 64, 64)})
  config.optimizer = {'model': optimizer(learning_rate=1e-3, schedule='cosine', warmup_steps=500)}
  config.update({'batch_size': 100, 'epochs': 100.0, 'steps_per_call': 500, 'best': 'neg_elbo_nats'})
  config.update({'log_every': 500, 'eval_every': 2500, 'save_every': 10_000, 'picture_every': 10_000})
  config.evals = ('mean.metrics', 'likelihood.nll', 'latent.units')
  if tiny:
    config.model.update({'hidden': ((16,),), 'latents': (4,), 'channels': (4, 4) if kind == 'conv' else ()})
    shrink(config)
  return config
