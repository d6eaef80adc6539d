"""VQ-VAE-2 on a folder of images of 256 x 256: 32x32 codes over 64x64 codes of 512, and the priors over both.

Paper: Razavi et al. 2019, arXiv:1906.00446, table 3 (ImageNet). Differences (the priors, the scale of pixels) and
conditioning on the classes of subfolders: docs/results.md.
Command: python train.py --config=configs/vqvae2_256.py --config.data.name=folder:PATH --workdir=runs/vqvae2_256
         python train.py --config=configs/vqvae2_256.py:prior --config.data.name=folder:PATH --workdir=runs/prior_256
         python -m dgm_jax.sample --workdir=runs/prior_256 --n=16
Variants: (none) the autoencoder; prior; prior_pp: PixelCNN++ at the bottom; three_levels: of 1024 x 1024; tiny.
Expected: MSE 0.0047 (paper, pixels in [-1, 1]; 0.0012 here); 3.40 and 3.45 nats a code. No full run is recorded yet.
Cost: for many accelerators.
"""

from dgm_jax.config import build_on, optimizer, shrink, with_variant

VQVAE = {'strides': (2, 4), 'codes': 512, 'features': 64, 'hidden': 128, 'blocks': 2, 'width': 64}
ADAM = optimizer(learning_rate=3e-4)
PRIOR = {
  'system': 'vq.prior', 'graft': {'vqvae': 'runs/vqvae2_256'},
  'model': {
    'vqvae': VQVAE, 'train': ('top', 'bottom'), 'classes': 0, 'embedding': 512, 'average': 0.9999,
    'conditioner': {'features': 512, 'blocks': 20, 'width': 1024},
    'top': {
      'network': 'pixelsnail', 'features': 512, 'blocks': 4, 'resnets': 5, 'keys': 64, 'values': 512, 'dropout': 0.1,
      'chunk': 1024,
    },
    'bottom': {
      'network': 'gated_pixelcnn', 'features': 512, 'layers': 20, 'head': 1024, 'first': 7, 'size': 5, 'dropout': 0.1
    },
  },
  'optimizer': {'top': ADAM, 'bottom': ADAM}, 'batch_size': 512, 'steps': 754_000, 'best': 'nll_codes_nats',
}  # fmt: skip
PLUS_PLUS = {
  'model.bottom': {'network': 'pixelcnn_pp', 'features': 192, 'blocks': 5, 'levels': 3, 'dropout': 0.1}
}  # fmt: skip
TINY_VQVAE = {
  'model.vqvae': {'strides': (2, 2, 2), 'codes': 8, 'features': 4, 'hidden': 8, 'blocks': 0, 'width': 4},
  'optimizer.model.learning_rate': 2e-3, 'data.size': 0, 'data.channels': 0,
}  # fmt: skip
VARIANTS = {
  '': {},
  'prior': PRIOR,
  'prior_pp': (PRIOR, PLUS_PLUS),
  'three_levels': {'data.size': 1024, 'model.vqvae.strides': (2, 2, 8)},
  'tiny': (TINY_VQVAE, shrink),
}
TINY = ()  # the programs are those of vqvae2_mnist


def get_config(variant=''):
  config = build_on(__file__, 'vqvae2_mnist')
  config.data.update({'name': 'folder:images', 'size': 256, 'channels': 3})
  config.model.update({'vqvae': VQVAE, 'variance': 0.25})
  config.optimizer = {'model': ADAM}
  config.update({'batch_size': 128, 'steps': 2_207_444, 'steps_per_call': 10, 'log_every': 100, 'init_examples': 8})
  config.update({'eval_batch_size': 32, 'eval_every': 10_000, 'save_every': 5000, 'picture_every': 10_000})
  config.pictures = 16
  return with_variant(config, VARIANTS, variant)
