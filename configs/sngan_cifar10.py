"""SN-GAN on CIFAR-10: spectral norms of a residual critic; with a projection, class-conditional.

Paper: Miyato et al. 2018, arXiv:1802.05957, appendix B.4, and pfnet-research/sngan_projection (hinge, 50,000 turns,
rates that fall from the start). The program moves the generator first; here the critic does.
Command: python train.py --config=configs/sngan_cifar10.py --workdir=runs/sngan_cifar10
Variants: (none), logistic, conditional (Miyato & Koyama 2018, arXiv:1802.05637), fq (with the codes of FQ-GAN's BigGAN
on CIFAR-10); tiny.
Expected: IS 8.22 and FID 21.7 (paper, 5,000 samples); 16.77 (mimicry, 50,000); conditional 17.5 (paper).
"""

from dgm_jax.config import build_on, optimizer, with_variant

FQ = {
  'layers': ('block_0', 'block_1', 'block_2', 'block_3'), 'codes': 1024, 'commitment': 1.0, 'decay': 0.8,
  'feed': False, 'start': 0.0, 'deviation': 1.0, 'both': True,
}  # fmt: skip
CONDITIONAL = {'conditional': True, 'evals': ('generated.classifier', 'classes.classes')}
VARIANTS = {
  '': {},
  'logistic': {'model.objective': 'nonsaturating'},
  'conditional': CONDITIONAL,
  'fq': {'model.quantize': FQ},
  'tiny': {},
}


def get_config(variant=''):
  tiny = variant == 'tiny'
  config = build_on(__file__, 'biggan_cifar10:tiny' if tiny else 'biggan_cifar10')
  config.system, config.conditional = 'gan.sngan', False
  config.data.preprocess = 'dequantize_symmetric'
  config.model.generator.initializer = config.model.critic.initializer = 'glorot'
  config.model.generator.constraints, config.model.generator.regularisers = {}, {}
  config.model.update({'average': 0.0, 'average_start': 0, 'ratio': 2, 'standing': 0})
  if not tiny:
    config.model.critic.channels = (128,) * 4
    config.model.critic_steps = 5
    adam = optimizer(learning_rate=2e-4, b1=0.0, b2=0.9, schedule='linear')
    config.optimizer = {'discriminator': adam, 'generator': adam}
    config.update({'batch_size': 5 * 64, 'epochs': 0.0, 'steps': 50_000})
  config.evals = ('generated.classifier',)
  return with_variant(config, VARIANTS, variant)
