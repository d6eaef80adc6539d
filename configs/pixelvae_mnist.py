"""PixelVAE on MNIST: an autoencoder whose decoder is a shallow PixelCNN conditioned on the latents.

Paper: Gulrajani et al. 2017, arXiv:1611.05013, section 4.1, and its program mnist_pixelvae_train.py (-L 12 -fs 5
-dpx 16 -ldim 16); without its weight normalisation, on images binarized afresh; 10,000 of them are held out.
Command: python train.py --config=configs/pixelvae_mnist.py:small --workdir=runs/pixelvae
Variants: (none): z enters every gate; upsample: a map of z does, at the pixel itself; conv_vae: independent pixels;
layers_0 ... layers_10: upsample with 0 to 10 masked layers of 5x5; small, small_layers_0, small_layers_1: for a CPU.
Cost: small 20 minutes on two CPU cores.
Expected, static, 1000 samples: 79.02 nats (bound 79.66), upsample 80.08 (bound), conv_vae 87.41 (bound).
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

PAIRS = {'name': 'pairs', 'channels': (32, 64, 64)}
NETWORK = {'name': 'gated_pixelcnn', 'features': 16, 'head': 16, 'gated_head': 2, 'first': 7, 'size': 5, 'layers': 12}
UPSAMPLE = {'model.map': PAIRS | {'features': 32}}
CONV_VAE = {
  'model.decoder': 'factorised', 'model.map': PAIRS, 'evals': ('mean.metrics', 'likelihood.nll', 'latent.units')
}  # fmt: skip


def layers(count):
  """The map of the latents and so many masked layers, the first of 5x5 as the others."""
  return UPSAMPLE | {'model.network.layers': count - 1, 'model.network.first': 5} if count else CONV_VAE


SMALL = {
  'model.network.layers': 3, 'model.warm_up': 2000, 'model.encoder': PAIRS | {'channels': (16, 32, 32)},
  'optimizer.model.schedule': 'linear', 'batch_size': 16, 'epochs': 5.0, 'nll.samples': 200, 'nll.examples': 500,
}  # fmt: skip
SMALL_MAP = {'model.map.channels': (16, 32, 32)}
SMALLEST = {
  'model.latents': (4,), 'model.encoder': PAIRS | {'channels': (4, 4)}, 'model.warm_up': 20,
  'model.network': NETWORK | {'features': 6, 'head': 6, 'first': 3, 'size': 3, 'layers': 1, 'gated_head': 1},
}  # fmt: skip
TINY_MAP = {'model.map.channels': (4, 4)}
VARIANTS = {
  '': {},
  'upsample': UPSAMPLE,
  'conv_vae': CONV_VAE,
  **{f'layers_{count}': layers(count) for count in range(11)},
  'small': SMALL,
  **{f'small_layers_{count}': (SMALL, layers(count), SMALL_MAP) for count in range(2)},
  'tiny': (SMALLEST, shrink),
  'tiny_upsample': (UPSAMPLE | SMALLEST, TINY_MAP | {'model.map.features': 4}, shrink),
  'tiny_conv_vae': (CONV_VAE | SMALLEST, TINY_MAP, shrink),
}
TINY = ('tiny', 'tiny_upsample', 'tiny_conv_vae')  # the variants that tests run


def get_config(variant=''):
  config = defaults()
  config.system = 'pixel_latents.pixel_vae'
  config.data.update({'name': 'mnist', 'preprocess': 'dynamic_binarize', 'valid_size': 10_000})
  config.model = {
    'latents': (16,), 'likelihood': 'bernoulli', 'levels': 256, 'components': 10, 'average': 0.0,
    'encoder': PAIRS, 'map': {'name': 'none'}, 'decoder': 'pixels', 'network': NETWORK,
    'prior': 'normal', 'bound': 'warm_up', 'warm_up': 10_000,
  }  # fmt: skip
  config.optimizer = {'model': optimizer(learning_rate=1e-3, clip_value=1.0)}
  # XLA's convolutions on a CPU are some twenty times slower inside a loop; a step takes long enough by itself.
  config.update({'steps_per_call': 1, 'log_every': 100, 'eval_every': 1000, 'save_every': 500, 'picture_every': 4000})
  config.update({'init_examples': 100, 'eval_batch_size': 100, 'best': 'neg_elbo_nats'})
  config.evals = ('mean.metrics', 'likelihood.nll', 'latent.units', 'causality.causality')
  config.nll.update({'samples': 1000, 'rows': 1000})
  config.update({'batch_size': 100, 'steps': 200_000})
  return with_variant(config, VARIANTS, variant)
