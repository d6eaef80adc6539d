"""TAC-GAN on MNIST for a CPU of two cores, with and without quantized features.

Paper: Gong et al. 2019, arXiv:1907.02690. Networks and rates are those of biggan_mnist; the two classifiers have no
spectral norm, with which they learn the classes late.
Command: python train.py --config=configs/tac_mnist.py:small --workdir=runs/tac_mnist
Variants: small, small_fq. Cost: 25 minutes.
Expected: as biggan_mnist.
"""

from dgm_jax.config import build_on, with_variant

TERMS = {'class_weight': 1.0, 'class_loss': 'cross_entropy'}
VARIANTS = {name: {} for name in ('small', 'small_fq')}
TINY = ()  # the networks are tested by biggan_cifar10 and tac_cifar100


def get_config(variant='small'):
  config = build_on(__file__, f'biggan_mnist:{variant or "small"}')
  config.system = 'gan.tac_gan'
  config.model.update(TERMS)
  config.model.spectral.free = ('classifier', 'twin')
  return with_variant(config, VARIANTS, variant or 'small')
