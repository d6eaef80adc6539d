"""NICE on CIFAR-10.

Paper: Dinh et al. 2014, arXiv:1410.8516, table 1 and section 5.1: whitened images, four couplings of 4 x 2000 units.
The program's file has eight couplings of one to three layers, no whitening and a normal prior.
Command: python train.py --config=configs/nice_cifar10.py --workdir=runs/nice_cifar10
         python -m dgm_jax.evaluate --workdir=runs/nice_cifar10 --checkpoint=best
Variants: (none); small: narrower, for minutes on a CPU; tiny. Cost: 1500 epochs want an accelerator.
Expected: 4.48 bits per dimension (5371.78 nats of pixels in [-1, 1]), published; a normal of full covariance has 4.64.
Ours, small: 4.55 after its best 200 steps.
"""

from dgm_jax.config import build_on, optimizer, with_variant

SMALL = {
  'model.network.hidden': (300, 300), 'model.network.start': 'data', 'init_examples': 20_000,
  'optimizer.model': optimizer(learning_rate=1e-3, schedule='cosine', warmup_steps=50), 'epochs': 4.0,
  'steps_per_call': 10, 'log_every': 50, 'eval_every': 100, 'save_every': 200, 'picture_every': 400,
}  # fmt: skip
VARIANTS = {'': {}, 'small': SMALL, 'tiny': {'model.network.start': 'data', 'init_examples': 1000}}
TINY = ()  # the programs are those of nice_mnist, behind a map that is not trained


def get_config(variant=''):
  config = build_on(__file__, 'nice_mnist:tiny' if variant == 'tiny' else 'nice_mnist')
  if variant != 'tiny':
    config.data.name = 'cifar10'
    config.model.network.hidden = (2000,) * 4
    config.init_examples = 40_000
  config.model.network.whitening = True
  return with_variant(config, VARIANTS, variant)
