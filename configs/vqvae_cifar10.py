"""VQ-VAE on CIFAR-10: ten codes of 512 at each of 8x8 places, whose codebook follows by gradient.

Paper: van den Oord et al. 2017, arXiv:1711.00937, section 4: two convolutions of stride 2 and two residual blocks, all
of 256 units, 8 x 8 x 10 codes, Adam at 2e-4, 250,000 steps of 128 images, commitment 0.25. Not known of the paper: the
features of a code (64, as in its authors' program since), the scale of the pixels' error (divided by their variance, as
there), the codebook's start (vectors of the data). The first convolution has half the units, as in that program.
Command: python train.py --config=configs/vqvae_cifar10.py --workdir=runs/vqvae_cifar10
Variants: (none); tiny.
Expected: the paper has 4.67 bits/dim (a VAE 4.51, VIMCO 5.14), by a likelihood of pixels and a prior that are not known
here: squared errors are measured, beside the 5,760 bits of an image's codes, 1.875 a dimension. No full run
is recorded yet; it wants an accelerator.
"""

from dgm_jax.config import defaults, optimizer, shrink

TINY = ()  # the programs are those of vqvae_mnist


def get_config(variant=''):
  if variant not in ('', 'tiny'):
    raise ValueError(f"vqvae_cifar10 has no variant '{variant}'; it has tiny")
  config = defaults()
  config.system = 'vq.vae'
  config.data.update({'name': 'cifar10', 'preprocess': 'scale', 'valid_size': 1000})
  config.model = {
    'vqvae': {
      'strides': (4,), 'codes': 512, 'features': 64, 'hidden': 256, 'blocks': 2, 'width': 256, 'per_place': 10
    },
    'codebook': 'gradient', 'start': 'k_means', 'decay': 0.0, 'restart': 0.0, 'commitment': 0.25, 'variance': 0.0633,
  }  # fmt: skip
  config.optimizer = {'model': optimizer(learning_rate=2e-4)}
  config.update({'batch_size': 128, 'steps': 250_000, 'steps_per_call': 10, 'log_every': 100, 'init_examples': 64})
  config.update({'eval_batch_size': 250, 'eval_every': 1000, 'save_every': 1000, 'picture_every': 5000})
  config.update({'best': 'mse', 'evals': ('mean.metrics', 'codes.codes')})
  if variant == 'tiny':
    shrink(config)
    config.model.vqvae.update({'codes': 8, 'features': 4, 'hidden': 8, 'blocks': 1, 'width': 4, 'per_place': 3})
    config.optimizer.model.learning_rate = 2e-3
  return config
