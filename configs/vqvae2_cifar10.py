"""VQ-VAE-2 on CIFAR-10: 8x8 codes over 16x16 codes, and the priors over both.

Paper: Razavi et al. 2019, arXiv:1906.00446, which has no CIFAR-10: its networks at their widths, each level half the
size of the one below; normalised by the variance of the pixels as in van den Oord et al. 2017.
Command: python train.py --config=configs/vqvae2_cifar10.py --workdir=runs/vqvae2_cifar10
         python train.py --config=configs/vqvae2_cifar10.py:prior --workdir=runs/vqvae2_cifar10_prior
         python -m dgm_jax.sample --workdir=runs/vqvae2_cifar10_prior --n=64 --class=3 --temperature=0.9
Variants: (none) the autoencoder; prior; small: a quarter of the widths, for a CPU; tiny, tiny_prior.
Expected: nothing is published. `small` has a squared error of 0.0019 after 1,000 steps, six minutes on a busy CPU
core: 3.4 times that of principal components of as many bits (0.00056). Nearly all of the image comes from the codes of
the bottom: without them the top level's are a grey of error 0.061, as much as the pixels vary
(results/vqvae2_cifar10_small_levels.png). The priors are for an accelerator.
"""

from dgm_jax.config import defaults, optimizer, shrink

VARIANTS = ('', 'prior', 'small', 'tiny', 'tiny_prior')
TINY = ()  # the programs are those of vqvae2_mnist


def get_config(variant=''):
  if variant not in VARIANTS:
    raise ValueError(f"vqvae2_cifar10 has no variant '{variant}'; it has {' '.join(VARIANTS[1:])}")
  config = defaults()
  config.data.update({'name': 'cifar10', 'preprocess': 'scale', 'valid_size': 1000})
  # XLA's convolutions on a CPU are some twenty times slower inside a loop.
  config.update({'steps_per_call': 1, 'log_every': 50, 'init_examples': 64, 'eval_batch_size': 250, 'batch_size': 128})
  config.update({'eval_every': 1000, 'save_every': 1000, 'picture_every': 5000})
  vqvae = {'strides': (2, 2), 'codes': 512, 'features': 64, 'hidden': 128, 'blocks': 2, 'width': 32}
  _prior(config, vqvae) if variant.endswith('prior') else _autoencoder(config, vqvae)
  if variant == 'small':
    config.model.vqvae.update({'hidden': 32, 'width': 16})
    config.update({'batch_size': 32, 'steps': 1000, 'eval_every': 250, 'save_every': 250, 'picture_every': 500})
    config.optimizer.model.learning_rate = 1e-3
  if variant.startswith('tiny'):
    shrink(config)
    config.model.vqvae.update({'codes': 8, 'features': 4, 'hidden': 8, 'blocks': 1, 'width': 4})
  if variant == 'tiny_prior':
    config.graft = {}
    config.model.update({'embedding': 4, 'average': 0.9})
    config.model.conditioner.update({'features': 4, 'blocks': 1, 'width': 4})
    config.model.top.update({'features': 4, 'blocks': 1, 'resnets': 1, 'keys': 2, 'values': 3})
    config.model.bottom.update({'features': 4, 'layers': 1, 'head': 4, 'first': 3, 'size': 3})
  return config


def _autoencoder(config, vqvae):
  config.system = 'vq.vae'
  config.model = {
    'vqvae': vqvae, 'codebook': 'ema', 'start': 'k_means', 'decay': 0.99, 'restart': 0.03, 'commitment': 0.25,
    'variance': 0.0633,
  }  # fmt: skip
  config.optimizer = {'model': optimizer(learning_rate=3e-4)}
  config.update({'steps': 100_000, 'evals': ('mean.metrics', 'codes.codes')})


def _prior(config, vqvae):
  config.system, config.graft, config.conditional = 'vq.prior', {'vqvae': 'runs/vqvae2_cifar10'}, True
  config.model = {
    'vqvae': vqvae, 'train': ('top', 'bottom'), 'classes': 10, 'embedding': 64, 'average': 0.9995,
    'conditioner': {'features': 256, 'blocks': 3, 'width': 256},
    'top': {
      'network': 'pixelsnail', 'features': 256, 'blocks': 4, 'resnets': 4, 'keys': 32, 'values': 128, 'dropout': 0.1
    },
    'bottom': {
      'network': 'gated_pixelcnn', 'features': 256, 'layers': 16, 'head': 512, 'first': 7, 'size': 5, 'dropout': 0.1
    },
  }  # fmt: skip
  rate = optimizer(learning_rate=3e-4)
  config.optimizer = {'top': dict(rate), 'bottom': dict(rate)}
  config.update({'steps': 200_000, 'best': 'nll_codes_nats', 'evals': ('mean.metrics', 'codes.codes')})
