"""i-RevNet on ImageNet.

Paper: Jacobsen et al. 2018, arXiv:1802.07088, table 1, section 4: (b) bijective, 29M parameters; (a) injective, 181M.
The text does not determine (a): its widths, depth and reshufflings with the program's 3x3 kernels make 199M.
Images are cut and mirrored. Differences: docs/results.md.
Command: python train.py --config=configs/irevnet_imagenet.py:bijective --workdir=runs/irevnet_imagenet
Variants: bijective (also without a name), injective; tiny. TFDS imagenet2012 as in configs/revnet_imagenet.py.
Expected: top-1 errors of 26.7 % (b) and 24.7 % (a) on the validation images. No run is recorded. Cost: a pod.
"""

from dgm_jax.config import build_on, with_variant

TINY_NETWORK = {'model.network.blocks': (1, 2), 'model.network.strides': (2, 1), 'model.network.stream': 8}
INJECTIVE = {
  'model.network.blocks': (4, 4, 6, 4), 'model.network.strides': (1, 2, 2, 2), 'model.network.stream': 48,
  'model.network.first': 4, 'model.network.kernels': (3, 3, 3),
}  # fmt: skip
VARIANTS = {'bijective': {}, 'injective': INJECTIVE, 'tiny': TINY_NETWORK | {'model.crop': 8}}
TINY = ()  # the programs are those of irevnet_cifar10 and revnet_imagenet


def get_config(variant='bijective'):
  config = build_on(__file__, 'revnet_imagenet:tiny' if variant == 'tiny' else 'revnet_imagenet')
  config.system = 'classifier.irevnet'
  config.model.network = {
    'blocks': (6, 16, 72, 6), 'strides': (2, 2, 2, 2), 'stream': 24, 'first': 2, 'kernels': (1, 3, 1),
    'memory': 'reversible', 'unroll': 1,
  }  # fmt: skip
  config.model.update({'decays': 'all', 'colours': False})
  return with_variant(config, VARIANTS, variant or 'bijective')
