"""TAC-GAN on CIFAR-100: BigGAN's networks, and in place of the projection a classifier and its twin.

Paper: Gong et al. 2019, arXiv:1907.02690, and batmanlab/twin-auxiliary-classifiers-gan (TAC-BigGAN). In its program the
gradients of the critic's two moves add up, since they are not set to zero between them; ours do not.
Command: python train.py --config=configs/tac_cifar100.py --workdir=runs/tac_cifar100
Variants: (none), fq (with the codes of FQ-GAN's BigGAN on CIFAR-100), ac (no twin); tiny, tiny_fq.
Expected: FID 7.22 and IS 9.34 (paper; projection 8.92 and 9.56, AC-GAN 82.45 and 5.37).
"""

from dgm_jax.config import build_on, with_variant

FQ = {
  'layers': ('block_0', 'block_1', 'block_2', 'block_3'), 'codes': 64, 'commitment': 10.0, 'decay': 0.9, 'feed': False,
  'start': 0.0, 'deviation': 1.0, 'both': True,
}  # fmt: skip
VARIANTS = {
  '': {},
  'fq': {'model.quantize': FQ},
  'ac': {'system': 'gan.acgan'},
  'tiny': {},
  'tiny_fq': {'model.quantize': FQ | {'layers': ('block_1',), 'codes': 8}},
}
TINY = ('tiny_fq',)  # the one without is a part of it


def get_config(variant=''):
  tiny = variant.startswith('tiny')
  config = build_on(__file__, 'biggan_cifar10:tiny' if tiny else 'biggan_cifar10:cifar100')
  config.system = 'gan.tac_gan'
  config.model.update({'class_weight': 1.0, 'class_loss': 'cross_entropy'})
  if tiny:
    for player in config.optimizer.values():
      player.eps = 0.01  # else Adam divides rounding by its own size
  else:
    config.model.update({'critic_steps': 2, 'average_start': 10_000})
    config.batch_size = 2 * 100
  return with_variant(config, VARIANTS, variant)
