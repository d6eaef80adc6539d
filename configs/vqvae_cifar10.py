"""VQ-VAE on CIFAR-10: ten codes of 512 at each of 8x8 places, whose codebook follows by gradient.

Paper: van den Oord et al. 2017, arXiv:1711.00937, section 4: two convolutions of stride 2 and two residual blocks, all
of 256 units, 8 x 8 x 10 codes, Adam at 2e-4, 250,000 steps of 128 images, commitment 0.25. What the paper leaves open,
and how it is set here: docs/results.md.
Command: python train.py --config=configs/vqvae_cifar10.py --workdir=runs/vqvae_cifar10
Variants: (none); tiny. Cost: it wants an accelerator.
Expected: the paper has 4.67 bits/dim (a VAE 4.51, VIMCO 5.14), by a likelihood of pixels and a prior that are not known
here: squared errors are measured, beside the 5,760 bits of an image's codes, 1.875 a dimension. No full run is
recorded yet.
"""

from dgm_jax.config import build_on, shrink, with_variant

TINY_VQVAE = {
  'model.vqvae.codes': 8, 'model.vqvae.features': 4, 'model.vqvae.hidden': 8, 'model.vqvae.blocks': 1,
  'model.vqvae.width': 4, 'model.vqvae.per_place': 3, 'optimizer.model.learning_rate': 2e-3,
}  # fmt: skip
VARIANTS = {
  '': {},
  'tiny': (TINY_VQVAE, shrink),
}
TINY = ()  # the programs are those of vqvae_mnist


def get_config(variant=''):
  config = build_on(__file__, 'vqvae_mnist')  # networks, rates and length, which MNIST has from this paper
  config.data.name = 'cifar10'
  config.model.vqvae.per_place = 10
  config.model.variance = 0.0633
  config.update({'steps_per_call': 10, 'log_every': 100})
  config.update({'eval_every': 1000, 'save_every': 1000, 'picture_every': 5000})
  return with_variant(config, VARIANTS, variant)
