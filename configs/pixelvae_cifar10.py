"""PixelVAE of two levels on CIFAR-10: a vector, a map of 8x8 with a PixelCNN prior, and a PixelCNN of the pixels.

Paper: Gulrajani et al. 2017, arXiv:1611.05013, sections 3.2 and 4.2, after the settings of 32 pixels in its program
pixelvae.py; residual encoders of ours, pixels by a mixture of logistics, one weight for both divergences.
Command: python train.py --config=configs/pixelvae_cifar10.py --workdir=runs/pixelvae_cifar10
Variants: (none), small: for a CPU, tiny.
Cost: no full run is recorded yet; small half an hour on two CPU cores.
Expected: no figure is published on CIFAR-10; on ImageNet of 64x64, 3.66 bits/dim (bound).
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

GATED = {'name': 'gated_pixelcnn', 'gated_head': 2}
SMALL = {
  'model.latents': (256, 32), 'model.latent_map': {'name': 'dense', 'hidden': (64,), 'features': 16},
  'model.encoder': {'name': 'ladder', 'widths': (16, 32, 32), 'blocks': (1, 1, 1), 'top_width': 32},
  'model.map': {'name': 'maps', 'widths': (16, 32, 32), 'blocks': (1, 1, 1), 'features': 16},
  'model.network': GATED | {'features': 24, 'head': 24, 'first': 5, 'size': 3, 'layers': 1},
  'model.latent_network': GATED | {'features': 24, 'head': 24, 'first': 5, 'size': 3, 'layers': 1},
  'model.warm_up': 1000, 'model.components': 5,
  'optimizer.model.schedule': 'linear', 'batch_size': 16, 'epochs': 1.0, 'nll.samples': 20, 'nll.examples': 500,
}  # fmt: skip
TINY_GATED = GATED | {'features': 4, 'head': 4, 'first': 3, 'size': 3, 'layers': 1, 'gated_head': 1}
SMALLEST = {
  'model.latents': (32, 3), 'model.latent_size': (4, 4), 'model.components': 2, 'model.warm_up': 20,
  'model.latent_map': {'name': 'dense', 'hidden': (6,), 'features': 3},
  'model.encoder': {'name': 'ladder', 'widths': (4, 4), 'blocks': (1, 1), 'top_width': 4},
  'model.map': {'name': 'maps', 'widths': (4, 4), 'blocks': (1, 1), 'features': 4},
  'model.network': TINY_GATED, 'model.latent_network': TINY_GATED,
}  # fmt: skip
VARIANTS = {'': {}, 'small': SMALL, 'tiny': (SMALLEST, shrink)}


def get_config(variant=''):
  config = defaults()
  config.system = 'pixel_latents.pixel_vae'
  config.data.update({'name': 'cifar10', 'preprocess': 'scale_symmetric', 'valid_size': 5000})
  config.model = {
    'latents': (4096, 512), 'likelihood': 'logistic_mixture', 'levels': 256, 'components': 10, 'average': 0.0,
    'encoder': {'name': 'ladder', 'widths': (64, 128, 256), 'blocks': (1, 1, 2), 'top_width': 512},
    'map': {'name': 'maps', 'widths': (64, 128, 256), 'blocks': (1, 1, 2), 'features': 64}, 'decoder': 'pixels',
    'network': GATED | {'features': 64, 'head': 64, 'first': 5, 'size': 3, 'layers': 4},
    'latent_size': (8, 8), 'latent_map': {'name': 'dense', 'hidden': (512,), 'features': 64},
    'latent_network': GATED | {'features': 128, 'head': 128, 'first': 5, 'size': 3, 'layers': 4},
    'bound': 'warm_up', 'warm_up': 10_000,
  }  # fmt: skip
  config.optimizer = {'model': optimizer(learning_rate=1e-3)}
  # XLA's convolutions on a CPU are some twenty times slower inside a loop; a step takes long enough by itself.
  config.update({'steps_per_call': 1, 'log_every': 100, 'eval_every': 1000, 'save_every': 500, 'picture_every': 4000})
  config.update({'init_examples': 64, 'eval_batch_size': 100, 'best': 'neg_elbo_nats'})
  config.evals = ('mean.metrics', 'likelihood.nll', 'latent.units', 'causality.causality')
  config.nll.update({'samples': 100, 'rows': 500})
  config.update({'batch_size': 64, 'steps': 200_000})
  return with_variant(config, VARIANTS, variant)
