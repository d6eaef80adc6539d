"""A deep mixture of normals on CIFAR-10.

Paper: van den Oord & Schrauwen 2014, Factoring variations in natural images with deep Gaussian mixture models; patches;
the figure for whole images is of locally connected maps (van den Oord & Dambre 2015), which are not built: here every
component is a full affine map, and layers, components and training are ours. The first layer starts by whitening.
Command: python train.py --config=configs/deep_gmm_cifar10.py --workdir=runs/deep_gmm_cifar10
Variants: (none); small: images resized to 8 x 8, for a CPU, whose figures are no row's; tiny.
Expected: 4.00 bits per dimension (published); its start is a normal of full covariance, 4.64. No full run is recorded.
Cost: each step takes determinants of eight matrices of 3072 x 3072; it wants an accelerator.
"""

from dgm_jax.config import build_on, optimizer, with_variant

CIFAR = {
  'data.name': 'cifar10', 'data.valid_size': 5000, 'batch_size': 100, 'steps': 45_000, 'init_examples': 45_000,
  'optimizer.model': optimizer(learning_rate=1e-4, schedule='cosine'), 'eval_every': 1000,
  'steps_per_call': 10,
}  # fmt: skip
SMALL = {'data.size': 8, 'init_examples': 5000, 'steps': 6000, 'steps_per_call': 100}
VARIANTS = {'': CIFAR, 'small': CIFAR | SMALL, 'tiny': {'init_examples': 200}}
TINY = ()  # the programs are those of deep_gmm


def get_config(variant=''):
  config = build_on(__file__, 'deep_gmm:tiny' if variant == 'tiny' else 'deep_gmm')
  config.model.start = 'whitened'
  return with_variant(config, VARIANTS, variant)
