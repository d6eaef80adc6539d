"""Rows of adversarial networks that know labels."""

from papers.row import Row, adam


def both(settings):
  return {'discriminator': settings, 'generator': settings}


def biggan(channels, critic, halvings, attention=(), initializer='normal', shared=0, spectral=True):
  """Both networks."""
  more = {'initializer': initializer, 'attention': attention, 'regularisers': {}}
  bound = {'spectral': 1.0}
  return {
    'generator': {
      'network': 'biggan', 'channels': channels, 'shared': shared, 'hierarchical': shared > 0, 'output': 'tanh',
      'constraints': bound if spectral else {}, **more,
    },
    'critic': {'network': 'biggan', 'channels': critic, 'halvings': halvings, 'constraints': bound, **more},
  }  # fmt: skip


def codes(number, commitment, decay, *blocks):
  return {
    'layers': tuple(f'block_{i}' for i in blocks or range(4)), 'codes': number, 'commitment': commitment,
    'decay': decay, 'feed': False, 'start': 0.0, 'deviation': 1.0, 'both': True,
  }  # fmt: skip


GAME = {
  'latents': 128, 'prior': 'normal', 'objective': 'hinge', 'classes': 10, 'critic_steps': 4, 'ratio': 1,
  'spectral': {'everywhere': True, 'free': ()}, 'quantize': {}, 'average': 0.9999, 'average_start': 1000,
  'momentum': 0.9, 'references': 0, 'standing': 16,
}  # fmt: skip
CIFAR10, CIFAR100 = ('cifar10', 'scale_symmetric', 0), ('cifar100', 'scale_symmetric', 0)
WIDE, TWIN = (256,) * 4, {'class_weight': 1.0, 'class_loss': 'cross_entropy'}
SLOW, FAST = adam(1e-4, 0.0, eps=1e-6), adam(4e-4, 0.0, eps=1e-6)
IMAGENET = GAME | {'latents': 120, 'classes': 1000, 'critic_steps': 1, 'average_start': 20_000}
MNIST = (
  GAME | biggan((32, 24, 24), (32,) * 4, 2, (), 'glorot', 32)
  | {'latents': 48, 'critic_steps': 1, 'average': 0.998, 'average_start': 200}
)  # fmt: skip


def imagenet(width, up, down, attention):
  of = lambda factors: tuple(width * factor for factor in factors)
  return IMAGENET | biggan(of(up), of(down), len(up) - 1, (attention,), 'orthogonal', 128)


AT_64 = imagenet(64, (16, 16, 8, 4, 2), (1, 2, 4, 8, 16), 32)
AT_128 = {width: imagenet(width, (16, 16, 8, 4, 2, 1), (1, 2, 4, 8, 16, 16), 64) for width in (64, 96)}
LARGE = {'conditional': True, 'size': 128, 'channels': 3}
TABLE = {
  'biggan_cifar10:': Row(
    'ajbrock/BigGAN-PyTorch, scripts/launch_cifar_ema.sh; Brock et al. 2019, arXiv:1809.11096, appendix B',
    'gan.biggan', CIFAR10, GAME | biggan(WIDE, WIDE, 2), both(adam(2e-4, 0.0)),
    {'batch_size': 4 * 50, 'epochs': 500.0, 'conditional': True}, {'generator': 4_304_387, 'critic': 4_207_361},
  ),
  'biggan_cifar10:fq': Row(
    'Zhao et al. 2020, arXiv:2004.02088, and YangNaruto/FQ-GAN, FQ-BigGAN, script of CIFAR-10',
    'gan.biggan', CIFAR10, GAME | biggan(WIDE, WIDE, 2) | {'quantize': codes(1024, 1.0, 0.8)}, both(adam(2e-4, 0.0)),
    {'batch_size': 4 * 64, 'epochs': 500.0, 'conditional': True},
  ),
  'biggan_cifar10:cifar100_fq': Row(
    'Zhao et al. 2020, arXiv:2004.02088, and YangNaruto/FQ-GAN, FQ-BigGAN, script of CIFAR-100',
    'gan.biggan', CIFAR100, GAME | biggan(WIDE, WIDE, 2) | {'classes': 100, 'quantize': codes(64, 10.0, 0.9)},
    both(adam(2e-4, 0.0)), {'batch_size': 4 * 64, 'epochs': 500.0, 'conditional': True},
  ),
  'biggan_imagenet:128': Row(
    'ajbrock/BigGAN-PyTorch, scripts/launch_BigGAN_bs256x8.sh; 256,000 turns are FQ-GAN\'s',
    'gan.biggan', ('imagenet2012', 'scale_symmetric', 0), AT_128[96], {'discriminator': FAST, 'generator': SLOW},
    LARGE | {'batch_size': 2048, 'accumulate': 8, 'steps': 256_000},
  ),
  'biggan_imagenet:64_half_fq': Row(
    'Zhao et al. 2020, arXiv:2004.02088, table 3, and YangNaruto/FQ-GAN, script of ImageNet at 64; half the turns',
    'gan.biggan', ('imagenet_resized/64x64', 'scale_symmetric', 0), AT_64 | {'quantize': codes(1024, 0.5, 0.7, 2)},
    {'discriminator': FAST, 'generator': SLOW},
    {'batch_size': 512, 'accumulate': 4, 'steps': 128_000, 'conditional': True},
  ),
  'biggan_imagenet:128_fq': Row(
    'Zhao et al. 2020, arXiv:2004.02088, and YangNaruto/FQ-GAN, script of ImageNet at 128; its shared embedding',
    'gan.biggan', ('imagenet2012', 'scale_symmetric', 0), AT_128[64] | {'quantize': codes(1024, 15.0, 0.8)},
    {'discriminator': FAST, 'generator': SLOW},
    LARGE | {'batch_size': 1024, 'accumulate': 4, 'steps': 256_000},
  ),
  'biggan_imagenet:tac_128': Row(
    'Gong et al. 2019, arXiv:1907.02690, and its program for ImageNet; one move of the generator, and the length',
    'gan.tac_gan', ('imagenet2012', 'scale_symmetric', 0), AT_128[64] | TWIN | {'critic_steps': 2},
    {'discriminator': FAST, 'generator': SLOW},
    LARGE | {'batch_size': 2 * 1024, 'accumulate': 4, 'steps': 128_000},
  ),
  'tac_cifar100:': Row(
    'Gong et al. 2019, arXiv:1907.02690, and its program, TAC-BigGAN, script of CIFAR-100',
    'gan.tac_gan', CIFAR100,
    GAME | TWIN | biggan(WIDE, WIDE, 2) | {'classes': 100, 'critic_steps': 2, 'average_start': 10_000},
    both(adam(2e-4, 0.0)), {'batch_size': 2 * 100, 'epochs': 500.0, 'conditional': True},
  ),
  'sngan_cifar10:': Row(
    'Miyato et al. 2018, arXiv:1802.05957, appendix B.4, and pfnet-research/sngan_projection, sn_cifar10_unconditional',
    'gan.sngan', ('cifar10', 'dequantize_symmetric', 0),
    GAME | biggan(WIDE, (128,) * 4, 2, initializer='glorot', spectral=False)
    | {'critic_steps': 5, 'ratio': 2, 'average': 0.0, 'average_start': 0, 'standing': 0},
    both(adam(2e-4, 0.0, 0.9, schedule='linear')), {'batch_size': 5 * 64, 'steps': 50_000},
    {'generator': 4_276_739, 'critic': 1_053_825},
  ),
  'biggan_mnist:small': Row(
    'Brock et al. 2019, arXiv:1809.11096, objective and parts; sizes, rates and length are ours',
    'gan.biggan', ('mnist', 'scale_symmetric', 10_000), MNIST,
    {'discriminator': adam(1e-3, 0.0, 0.99), 'generator': adam(5e-4, 0.0, 0.99)},
    {'batch_size': 64, 'steps': 3600, 'conditional': True},
  ),
  'tac_mnist:small': Row(
    'Gong et al. 2019, arXiv:1907.02690, equation 6; sizes, rates, length, and classifiers without a norm are ours',
    'gan.tac_gan', ('mnist', 'scale_symmetric', 10_000),
    MNIST | TWIN | {'spectral': {'everywhere': True, 'free': ('classifier', 'twin')}},
    {'discriminator': adam(1e-3, 0.0, 0.99), 'generator': adam(5e-4, 0.0, 0.99)},
    {'batch_size': 64, 'steps': 3600, 'conditional': True},
  ),
  'class_mixture:tac': Row(
    'Gong et al. 2019, arXiv:1907.02690, section 4.1, and its program, One_Dimensional_MOG.py; the average is ours',
    'gan.tac_gan', ('points:3classes', 'identity', 0),
    {name: GAME[name] for name in ('prior', 'ratio', 'quantize', 'momentum', 'references')} | TWIN | {
      'generator': {'network': 'dense_classes', 'hidden': (10, 10, 10), 'size': 2, 'output': 'linear'},
      'critic': {'network': 'dense_classes', 'hidden': (10, 10, 10)}, 'latents': 2, 'objective': 'nonsaturating',
      'real_label': 1.0, 'classes': 3, 'critic_steps': 10, 'average': 0.998, 'average_start': 1000, 'standing': 0,
    },
    both(adam(2e-3, 0.5)), {'batch_size': 10 * 384, 'steps': 2000, 'conditional': True},
  ),
}  # fmt: skip
