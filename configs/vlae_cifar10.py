"""Variational lossy autoencoder on CIFAR-10: decoders that see a window of previous pixels, and latents of 8x8 maps.

Paper: Chen et al. 2017, arXiv:1611.02731, section 4.3 and appendix B. The window is one convolution that sees exactly
its pixels, where the paper stacks several; batch and epochs are ours; free bits as on MNIST, 0.01 nats a pixel channel.
Command: python train.py --config=configs/vlae_cifar10.py:7x4 --workdir=runs/vlae_cifar10
Variants: (none), 7x4; 5x3; 4x2; 7x4_grey: the window in grey; dense: blocks of dense steps; small: for a CPU; tiny.
Cost: no full run is recorded yet; small half an hour on two CPU cores.
Expected, 512 samples, bits/dim: dense 2.95, 7x4 3.04, 4x2 3.12.
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant


def window(wide, high):
  return {'model.network.wide': wide, 'model.network.high': high}


DENSE = {'model.encoder.dense': True, 'model.map.dense': True, 'model.map.features': 72}
SMALL = {
  'model.latents': (256,), 'model.encoder.widths': (16, 32, 32), 'model.encoder.blocks': (1, 1, 1),
  'model.map.widths': (16, 32, 32), 'model.map.blocks': (1, 1, 1), 'model.map.features': 16,
  'model.network.features': 24, 'model.network.blocks': 2, 'model.components': 5,
  'model.prior_network': {'size': (8, 8, 4), 'layers': 2, 'hidden': (32,)},
  'optimizer.model.schedule': 'linear', 'batch_size': 16, 'epochs': 1.0, 'nll.samples': 20, 'nll.examples': 500,
}  # fmt: skip
SMALLEST = {
  'model.components': 2, 'model.free_bits': 0.1,
  'model.encoder': {'name': 'maps', 'widths': (4, 4), 'blocks': (1, 1), 'dense': False}, 'model.network.blocks': 1,
  'model.map': {'name': 'maps', 'widths': (4, 4), 'blocks': (1, 1), 'features': 4, 'dense': False},
  'model.network.features': 4,
  'model.latents': (32,), 'model.prior_network': {'size': (4, 4, 2), 'layers': 2, 'hidden': (4,)},
}  # fmt: skip
VARIANTS = {
  '': {},
  '7x4': window(7, 4),
  '5x3': window(5, 3),
  '4x2': window(4, 2),
  '7x4_grey': {'model.network.grey': True},
  'dense': DENSE,
  'small': SMALL,
  'tiny': (SMALLEST | window(4, 2), shrink),
  'tiny_dense': (SMALLEST | {'model.encoder.dense': True, 'model.map.dense': True}, shrink),
}
TINY = ('tiny', 'tiny_dense')  # the variants that tests run


def get_config(variant=''):
  config = defaults()
  config.system = 'pixel_latents.vlae'
  config.data.update({'name': 'cifar10', 'preprocess': 'scale_symmetric', 'valid_size': 400})
  maps = {'widths': (48, 96, 96), 'blocks': (2, 2, 3), 'dense': False}
  config.model = {
    'latents': (1024,), 'likelihood': 'logistic_mixture', 'levels': 256, 'components': 10, 'average': 0.998,
    'encoder': maps | {'name': 'maps'}, 'map': maps | {'name': 'maps', 'features': 64}, 'decoder': 'pixels',
    'network': {'name': 'window_pixelcnn', 'wide': 7, 'high': 4, 'features': 64, 'blocks': 4, 'grey': False},
    'prior': 'flow', 'prior_flow': 'map', 'prior_network': {'size': (8, 8, 16), 'layers': 6, 'hidden': (128, 128)},
    'bound': 'free_bits', 'free_bits': 30.72, 'groups': 1,
  }  # fmt: skip
  config.optimizer = {'model': optimizer(name='adamax', learning_rate=2e-3)}
  # XLA's convolutions on a CPU are some twenty times slower inside a loop; a step takes long enough by itself.
  config.update({'steps_per_call': 1, 'log_every': 100, 'eval_every': 1000, 'save_every': 500, 'picture_every': 4000})
  config.update({'init_examples': 64, 'eval_batch_size': 100, 'best': 'neg_elbo_nats'})
  config.evals = ('mean.metrics', 'likelihood.nll', 'latent.units', 'causality.causality')
  config.nll.update({'samples': 512, 'rows': 500})
  config.update({'batch_size': 64, 'epochs': 500.0})
  return with_variant(config, VARIANTS, variant)
