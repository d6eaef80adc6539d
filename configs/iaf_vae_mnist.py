"""Variational autoencoders on MNIST whose posterior is moved by inverse autoregressive steps, and those without.

Paper: Kingma et al. 2016, arXiv:1606.04934, section 6.1 and appendix B: residual networks, 32 latents, Adamax, dynamic
data. Batch, length and the size of the context: ours.
Command: python train.py --config=configs/iaf_vae_mnist.py:8x1920 --workdir=runs/iaf_vae_mnist
Variants: diagonal 2x320 2x1920 4x1920 8x1920, steps x width; small (2 steps, 50 latents, network of Burda et al. 2016),
small_diagonal; tiny, tiny_resnet. Cost: small twenty minutes on two CPU cores.
Expected (dynamic): bound 84.08 82.02 81.17 80.93 80.80; NLL by 128 samples 81.08 79.77 79.30 79.17 79.10; static
79.88 (--config.data.preprocess=static_binarize, another file). Measured: small 86.76 nats by 1000 samples, bound 89.84;
small_diagonal 88.30, bound 92.47.
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant


def flow(layers, width):
  return {'model.flow.layers': layers, 'model.flow.hidden': (width, width)}


DIAGONAL = {'model.posterior': 'diagonal'}
SMALL = {
  'data.valid_size': 400, 'model.network': 'dense', 'model.hidden': ((200, 200),), 'model.latents': (50,),
  'model.channels': (), 'model.activation': 'tanh', 'model.flow.context': 200, **flow(2, 320), 'model.average': 0.0,
  'optimizer': {'model': optimizer(learning_rate=2e-3, schedule='cosine')}, 'epochs': 200.0, 'steps_per_call': 298,
  'log_every': 298, 'eval_every': 5960, 'save_every': 5960, 'picture_every': 0, 'nll.samples': 1000,
}  # fmt: skip
TINY_NETWORKS = {
  'model.hidden': ((16,),), 'model.latents': (4,), 'model.flow.context': 5, **flow(2, 8), 'model.average': 0.9
}  # fmt: skip
TINY_DENSE = {'model.network': 'dense', 'model.channels': ()}
VARIANTS = {
  '8x1920': {},
  'diagonal': DIAGONAL,
  '2x320': flow(2, 320),
  '2x1920': flow(2, 1920),
  '4x1920': flow(4, 1920),
  'small': SMALL,
  'small_diagonal': (SMALL, DIAGONAL),
  'tiny': (TINY_NETWORKS, TINY_DENSE, shrink),
  'tiny_resnet': (
    TINY_NETWORKS,
    {'model.channels': (3, 4), 'optimizer.model.name': 'adam', 'optimizer.model.eps': 0.01},
    shrink,
  ),
}
# The direction of a single weight is its sign: its slope is rounding, which Adamax makes a step of full size.
TINY = ('tiny', 'tiny_resnet')  # the variants that tests run


def get_config(variant='8x1920'):
  config = defaults()
  config.system = 'flow_posteriors.iaf_vae'
  config.data.update({'name': 'mnist', 'preprocess': 'dynamic_binarize', 'valid_size': 10_000})
  config.model = {
    'network': 'resnet', 'hidden': ((450,),), 'latents': (32,), 'channels': (16, 32, 32), 'activation': 'elu',
    'likelihood': 'bernoulli', 'samples': 1, 'posterior': 'iaf',
    'flow': {'layers': 8, 'hidden': (1920, 1920), 'activation': 'elu', 'context': 450}, 'prior': 'normal',
    'bound': 'elbo', 'average': 0.999,
  }  # fmt: skip
  config.optimizer = {'model': optimizer(name='adamax', learning_rate=2e-3)}
  config.update({'batch_size': 100, 'epochs': 400.0, 'steps_per_call': 500, 'best': 'neg_elbo_nats'})
  config.update({'log_every': 500, 'eval_every': 5000, 'save_every': 10_000, 'picture_every': 50_000})
  config.nll.samples = 128
  config.evals = ('mean.metrics', 'likelihood.nll')
  return with_variant(config, VARIANTS, variant or '8x1920')
