"""VQ-VAE-2 on CIFAR-10: 8x8 codes over 16x16 codes, and the priors over both.

Paper: Razavi et al. 2019, arXiv:1906.00446, which has no CIFAR-10: its networks at their widths, each level half the
size of the one below; normalised by the variance of the pixels as in van den Oord et al. 2017.
Command: python train.py --config=configs/vqvae2_cifar10.py --workdir=runs/vqvae2_cifar10
         python train.py --config=configs/vqvae2_cifar10.py:prior --workdir=runs/vqvae2_cifar10_prior
         python -m dgm_jax.sample --workdir=runs/vqvae2_cifar10_prior --n=64 --class=3 --temperature=0.9
Variants: (none) the autoencoder; prior; prior_pp: PixelCNN++ at the bottom; small: a quarter as wide; tiny, tiny_...
Expected: nothing is published. Ours, small: a squared error of 0.00089 after 5,000 steps; more in docs/results.md.
Cost: `small` half an hour on a busy CPU core for these. The priors are for an accelerator.
"""

from dgm_jax.config import build_on, optimizer, shrink, with_variant

VQVAE = {'strides': (2, 2), 'codes': 512, 'features': 64, 'hidden': 128, 'blocks': 2, 'width': 32}
ADAM = optimizer(learning_rate=3e-4)
PRIOR = {
  'system': 'vq.prior', 'graft': {'vqvae': 'runs/vqvae2_cifar10'}, 'conditional': True,
  'model': {
    'vqvae': VQVAE, 'train': ('top', 'bottom'), 'classes': 10, 'embedding': 64, 'average': 0.9995,
    'conditioner': {'features': 256, 'blocks': 3, 'width': 256},
    'top': {
      'network': 'pixelsnail', 'features': 256, 'blocks': 4, 'resnets': 4, 'keys': 32, 'values': 128, 'dropout': 0.1
    },
    'bottom': {
      'network': 'gated_pixelcnn', 'features': 256, 'layers': 16, 'head': 512, 'first': 7, 'size': 5, 'dropout': 0.1
    },
  },
  'optimizer': {'top': ADAM, 'bottom': ADAM}, 'steps': 200_000, 'best': 'nll_codes_nats',
}  # fmt: skip
PLUS_PLUS = {
  'model.bottom': {'network': 'pixelcnn_pp', 'features': 192, 'blocks': 5, 'levels': 3, 'dropout': 0.1}
}  # fmt: skip
SMALL = {
  'model.vqvae.hidden': 32, 'model.vqvae.width': 16, 'optimizer.model.learning_rate': 1e-3, 'batch_size': 32,
  'steps': 1000, 'eval_every': 250, 'save_every': 250, 'picture_every': 500,
}  # fmt: skip
TINY_VQVAE = {
  'model.vqvae': {'strides': (2, 2), 'codes': 8, 'features': 4, 'hidden': 8, 'blocks': 1, 'width': 4}
}  # fmt: skip
TINY_PRIOR = {
  'graft': {}, 'model.embedding': 4, 'model.average': 0.9,
  'model.conditioner': {'features': 4, 'blocks': 1, 'width': 4},
  'model.top.features': 4, 'model.top.blocks': 1, 'model.top.resnets': 1, 'model.top.keys': 2, 'model.top.values': 3,
  'model.bottom.features': 4, 'model.bottom.layers': 1, 'model.bottom.head': 4, 'model.bottom.first': 3,
  'model.bottom.size': 3,
}  # fmt: skip
TINY_PLUS_PLUS = {
  'model.bottom': {'network': 'pixelcnn_pp', 'features': 4, 'blocks': 1, 'levels': 1, 'dropout': 0.1},
  'model.train': ('bottom',),
}  # fmt: skip
VARIANTS = {
  '': {},
  'prior': PRIOR,
  'prior_pp': (PRIOR, PLUS_PLUS),
  'small': SMALL,
  'tiny': (TINY_VQVAE, shrink),
  'tiny_prior': (PRIOR, TINY_VQVAE, TINY_PRIOR, shrink),
  'tiny_prior_pp': (PRIOR, TINY_VQVAE, TINY_PRIOR, TINY_PLUS_PLUS, shrink),
}
TINY = ()  # the programs are those of vqvae2_mnist


def get_config(variant=''):
  config = build_on(__file__, 'vqvae2_mnist')
  config.data.name = 'cifar10'
  config.model.update({'vqvae': VQVAE, 'variance': 0.0633})
  config.optimizer = {'model': ADAM}
  config.update({'batch_size': 128, 'steps': 100_000, 'eval_every': 1000, 'save_every': 1000, 'picture_every': 5000})
  return with_variant(config, VARIANTS, variant)
