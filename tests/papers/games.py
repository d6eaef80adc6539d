"""Rows of adversarial networks."""

from papers.row import Row, adam


def both(first, second, settings):
  return {first: settings, second: settings}


MNIST, POINTS = ('mnist', 'scale', 10_000), ('points:25gaussians', 'identity', 0)
GAME = {'average': 0.0, 'momentum': 0.9, 'references': 0}
GAN = GAME | {'real_label': 1.0, 'objective': 'nonsaturating'}
PLAYERS, CRITICS = ('discriminator', 'generator'), ('critic', 'generator')
WGAN = {'critic_steps': 5, 'ratio': 1, 'clip': 0.01}
SLOW = {'name': 'rmsprop', 'learning_rate': 5e-5, 'b2': 0.99}


def dense(hidden, **more):
  return {'network': 'dense', 'hidden': hidden, 'norm': 'none'} | more


def dcgan(channels, **more):
  return {'network': 'dcgan', 'channels': channels, 'norm': 'batch'} | more


def styles(**more):
  """Networks and settings of NVlabs/stylegan, training/networks_stylegan.py and train.py."""
  widths = {'base': 8192, 'most': 512}
  return {
    'generator': {
      'network': 'style', 'width': 512, 'layers': 8, 'multiplier': 0.01, 'mixing': 0.9, 'truncated': 8
    } | widths,
    'critic': {'network': 'style', 'group': 4, 'regularisers': {'r1': 10.0}} | widths, 'latents': 512,
    'prior': 'normal', 'objective': 'nonsaturating', 'lazy': 1, 'half_life': 10_000, 'momentum': 0.995,
    'quantize': {},
  } | more  # fmt: skip


CODES = {
  'layers': ('layers_16', 'layers_32'), 'codes': 128, 'commitment': 0.25, 'decay': 0.8, 'feed': False, 'start': 0.0,
  'deviation': 1.0, 'both': True,
}  # fmt: skip
STYLEGAN = 'Karras et al. 2019, arXiv:1812.04948, section 2 and appendix C, and NVlabs/stylegan, train.py (FFHQ)'
FACES = ('folder:ffhq', 'scale_symmetric', 1000)
TABLE = {
  'stylegan_ffhq:': Row(
    STYLEGAN, 'gan.stylegan', FACES, styles(fade=600_000, mirror=True), both(*PLAYERS, adam(3e-3, 0.0, 0.99)),
    {'batch_size': 32, 'steps': (25_000_000 - 7_800_000) // 32, 'size': 1024, 'channels': 3},
    {'generator': 26_219_627, 'critic': 23_087_249},
  ),
  'stylegan_ffhq:8': Row(
    STYLEGAN, 'gan.stylegan', FACES, styles(fade=0, mirror=True), both(*PLAYERS, adam(1e-3, 0.0, 0.99)),
    {'batch_size': 256, 'steps': 600_000 // 256, 'size': 8, 'channels': 3},
  ),
  'stylegan_ffhq:128': Row(
    STYLEGAN, 'gan.stylegan', FACES, styles(fade=600_000, mirror=True), both(*PLAYERS, adam(1.5e-3, 0.0, 0.99)),
    {'batch_size': 32, 'steps': 1_200_000 // 32, 'size': 128, 'channels': 3},
    {'generator': 25_843_858, 'critic': 22_941_313},
  ),
  'stylegan_ffhq:fq_64': Row(
    'Zhao et al. 2020, arXiv:2004.02088, and YangNaruto/FQ-GAN, FQ-StyleGAN, script of FFHQ; the networks of StyleGAN',
    'gan.stylegan', FACES, styles(fade=600_000, mirror=True, quantize=CODES), both(*PLAYERS, adam(1e-3, 0.0, 0.99)),
    {'batch_size': 32, 'steps': 1_200_000 // 32, 'size': 64, 'channels': 3},
  ),
  'stylegan_mnist:': Row(
    f'{STYLEGAN}, at 32 x 32; MNIST, its frame and the number of steps are ours',
    'gan.stylegan', ('mnist', 'scale_symmetric', 10_000), styles(fade=0, mirror=False),
    both(*PLAYERS, adam(1e-3, 0.0, 0.99)), {'batch_size': 64, 'steps': 100_000, 'pad': 2},
  ),
  'cifar_gan:': Row(
    'Gulrajani et al. 2017, arXiv:1704.00028, appendix C',
    'gan.wgan_gp', ('cifar10', 'dequantize_symmetric', 0),
    GAME | {
      'generator': {'network': 'resnet', 'width': 128, 'blocks': 3, 'norm': 'batch', 'output': 'tanh'},
      'critic': {'network': 'resnet', 'width': 128, 'norm': 'none'},
      'latents': 128, 'prior': 'normal', 'critic_steps': 5, 'ratio': 2, 'penalty': 10.0,
    },
    both(*CRITICS, adam(2e-4, 0.0, 0.9, schedule='linear')), {'batch_size': 5 * 64, 'steps': 100_000},
  ),
  'cifar_gan:dcgan': Row(
    'Radford et al. 2016, arXiv:1511.06434, section 3; widths and epochs are ours',
    'gan.dcgan', ('cifar10', 'scale_symmetric', 0),
    GAN | {
      'generator': dcgan((512, 256, 128), output='tanh'), 'critic': dcgan((128, 256, 512), kernels=0),
      'latents': 100, 'prior': 'uniform',
    },
    both(*PLAYERS, adam(2e-4, 0.5)), {'batch_size': 128, 'epochs': 100.0},
  ),
  'dcgan_64:': Row(
    'Radford et al. 2016, arXiv:1511.06434, sections 3 and 4, and Newmu/dcgan_code (faces)',
    'gan.dcgan', ('folder:images', 'scale_symmetric', 1000),
    GAN | {
      'generator': dcgan((1024, 512, 256, 128), output='tanh'), 'critic': dcgan((128, 256, 512, 1024), kernels=0),
      'latents': 100, 'prior': 'uniform',
    },
    both(*PLAYERS, adam(2e-4, 0.5)), {'batch_size': 128, 'epochs': 25.0, 'size': 64, 'channels': 3},
    {'generator': 18_855_040, 'critic': 17_232_768},
  ),
  'dcgan_64:bedrooms': Row(
    'Radford et al. 2016, arXiv:1511.06434, sections 3 and 4.1, and Newmu/dcgan_code; five epochs are of figure 3',
    'gan.dcgan', ('lsun/bedroom', 'scale_symmetric', 1000),
    GAN | {
      'generator': dcgan((1024, 512, 256, 128), output='tanh'), 'critic': dcgan((128, 256, 512, 1024), kernels=0),
      'latents': 100, 'prior': 'uniform',
    },
    both(*PLAYERS, adam(2e-4, 0.5)), {'batch_size': 128, 'epochs': 5.0, 'size': 64, 'channels': 3},
    {'generator': 18_855_040, 'critic': 17_232_768},
  ),
  'dcgan_mnist:': Row(
    'Radford et al. 2016, arXiv:1511.06434, and Newmu/dcgan_code (mnist), without its labels; epochs are of its faces',
    'gan.dcgan', MNIST,
    GAN | {
      'generator': dcgan((128, 64), dense=(1024,), output='sigmoid', bias=True),
      'critic': dcgan((64, 128), dense=(1024,), bias=True, kernels=0), 'latents': 100, 'prior': 'uniform',
    },
    both(*PLAYERS, adam(2e-4, 0.5)), {'batch_size': 128, 'epochs': 25.0},
  ),
  'dcgan_mnist:least_squares': Row(
    'Mao et al. 2017, arXiv:1611.04076, equation 9, with the networks and rates of Newmu/dcgan_code (mnist)',
    'gan.dcgan', MNIST,
    GAN | {
      'generator': dcgan((128, 64), dense=(1024,), output='sigmoid', bias=True),
      'critic': dcgan((64, 128), dense=(1024,), bias=True, kernels=0), 'latents': 100, 'prior': 'uniform',
      'objective': 'least_squares',
    },
    both(*PLAYERS, adam(2e-4, 0.5)), {'batch_size': 128, 'epochs': 25.0},
  ),
  'dcgan_mnist:hinge': Row(
    'Miyato et al. 2018, arXiv:1802.05957, equations 16 and 17, algorithm 1; the rest is of Newmu/dcgan_code (mnist)',
    'gan.dcgan', MNIST,
    GAN | {
      'generator': dcgan((128, 64), dense=(1024,), output='sigmoid', bias=True), 'objective': 'hinge',
      'critic': dcgan((64, 128), dense=(1024,), bias=True, kernels=0, norm='none') | {'constraints': {'spectral': 1.0}},
      'latents': 100, 'prior': 'uniform',
    },
    both(*PLAYERS, adam(2e-4, 0.5)), {'batch_size': 128, 'epochs': 25.0},
  ),
  'dcgan_mnist:wgan_gp': Row(
    'Gulrajani et al. 2017, arXiv:1704.00028, algorithm 1, and igul222/improved_wgan_training, gan_mnist.py',
    'gan.wgan_gp', MNIST,
    GAME | WGAN | {
      'generator': dcgan((256, 128, 64), norm='none', output='sigmoid', bias=True),
      'critic': dcgan((64, 128, 256), norm='none', bias=True), 'latents': 128, 'prior': 'normal', 'penalty': 10.0,
    },
    both(*CRITICS, adam(1e-4, 0.0, 0.9)), {'batch_size': 5 * 50, 'steps': 200_000},
  ),
  'dcgan_mnist:wgan': Row(
    'Arjovsky et al. 2017, arXiv:1701.07875, algorithm 1; networks, batch and steps are those of WGAN-GP',
    'gan.wgan', MNIST,
    GAME | WGAN | {
      'generator': dcgan((256, 128, 64), output='sigmoid', bias=True), 'critic': dcgan((64, 128, 256), bias=True),
      'latents': 128, 'prior': 'normal', 'penalty': 10.0,
    },
    both(*CRITICS, SLOW), {'batch_size': 5 * 50, 'steps': 200_000},
  ),
  'gan_mnist:': Row(
    'Goodfellow et al. 2014, arXiv:1406.2661, and goodfeli/adversarial, mnist.yaml; epochs are ours',
    'gan.gan', MNIST,
    GAN | {
      'generator': dense((1200, 1200), output='sigmoid'), 'latents': 100, 'prior': 'wide_uniform',
      'critic': {'network': 'maxout', 'hidden': (240, 240), 'kernels': 0},
    },
    {
      'discriminator': {'name': 'sgd', 'learning_rate': 0.05, 'momentum': 0.5},
      'generator': {'name': 'sgd', 'learning_rate': 0.1, 'momentum': 0.5},
    },
    {'batch_size': 100, 'epochs': 100.0}, {'generator': 2_503_984, 'critic': 1_231_441},
  ),
  'gan_mnist:improved': Row(
    'Salimans et al. 2016, arXiv:1606.03498, section 3; networks of the first GAN, Adam of DCGAN, weights are ours',
    'gan.improved_gan', MNIST,
    GAN | {
      'generator': dense((1200, 1200), norm='virtual', output='sigmoid'), 'latents': 100, 'prior': 'wide_uniform',
      'critic': {'network': 'maxout', 'hidden': (240, 240), 'kernels': 100}, 'real_label': 0.9, 'historical': 0.01,
      'references': 100,
    },
    both(*PLAYERS, adam(2e-4, 0.5)), {'batch_size': 100, 'epochs': 100.0},
  ),
  'gan_points:gan_25gaussians': Row(
    'Goodfellow et al. 2014; networks and rates of the toys of igul222/improved_wgan_training, a quarter as wide',
    'gan.gan', POINTS,
    GAN | {
      'generator': dense((128,) * 3, output='linear'), 'critic': dense((128,) * 3), 'latents': 2, 'prior': 'normal'
    },
    both(*PLAYERS, adam(1e-4, 0.5, 0.9)), {'batch_size': 256, 'steps': 6000},
  ),
  'gan_points:wgan_25gaussians': Row(
    'Arjovsky et al. 2017, arXiv:1701.07875, algorithm 1; networks of igul222/improved_wgan_training, narrower',
    'gan.wgan', POINTS,
    GAME | WGAN | {
      'generator': dense((128,) * 3, output='linear'), 'critic': dense((128,) * 3), 'latents': 2, 'prior': 'normal',
      'penalty': 0.1,
    },
    both(*CRITICS, SLOW), {'batch_size': 5 * 256, 'steps': 6000},
  ),
  'improved_gan_mnist:paper': Row(
    'Salimans et al. 2016, arXiv:1606.03498, table 1, and openai/improved-gan, mnist_svhn_cifar10',
    'semi_supervised.feature_matching', ('mnist', 'scale', 1000),
    {
      'labels': 100, 'classes': 10, 'latents': 100, 'critic_hidden': (1000, 500, 250, 250, 250),
      'generator_hidden': (500, 500), 'average': 0.999,
    },
    both(*PLAYERS, adam(3e-3, 0.5, eps=0.0, eps_root=1e-8)), {'batch_size': 200, 'steps': 180_000},
  ),
  'infogan_faces:': Row(
    'Chen et al. 2016, arXiv:1606.03657, section 7.2 and appendix C, as recalled; batch and steps are of its MNIST',
    'gan.infogan', ('folder:faces', 'scale', 1000),
    GAME | {
      'generator': dcgan((128, 64), kernel=4, dense=(1024,), bias=True, output='sigmoid'),
      'critic': dcgan((64, 128), kernel=4, dense=(1024,), bias=True, slope=0.1),
      'recognizer': {'hidden': 128, 'slope': 0.1}, 'latents': 128, 'classes': 0, 'continuous': 5, 'prior': 'uniform',
      'weight': 0.0, 'gaussian_weight': 0.2,
    },
    {'discriminator': adam(2e-4, 0.5), 'generator': adam(5e-4, 0.5)},
    {'batch_size': 128, 'steps': 5000, 'size': 32, 'channels': 1},
  ),
  'infogan_mnist:': Row(
    'Chen et al. 2016, arXiv:1606.03657, section 7 and appendix C.1, and openai/InfoGAN',
    'gan.infogan', MNIST,
    GAME | {
      'generator': dcgan((128, 64), kernel=4, dense=(1024,), bias=True, output='sigmoid'),
      'critic': dcgan((64, 128), kernel=4, dense=(1024,), bias=True, slope=0.1),
      'recognizer': {'hidden': 128, 'slope': 0.1}, 'latents': 62, 'classes': 10, 'continuous': 2, 'prior': 'uniform',
      'weight': 1.0, 'gaussian_weight': 1.0,
    },
    {'discriminator': adam(2e-4, 0.5), 'generator': adam(1e-3, 0.5)}, {'batch_size': 128, 'steps': 5000},
  ),
  'wgan_gp_25gaussians:paper': Row(
    'Gulrajani et al. 2017, arXiv:1704.00028, section 4.1, and igul222/improved_wgan_training, gan_toy.py',
    'gan.wgan_gp', POINTS,
    GAME | {
      'generator': dense((512,) * 3, output='linear'), 'critic': dense((512,) * 3), 'latents': 2, 'prior': 'normal',
      'critic_steps': 5, 'ratio': 1, 'penalty': 0.1,
    },
    both(*CRITICS, adam(1e-4, 0.5, 0.9)), {'batch_size': 5 * 256, 'steps': 100_000},
  ),
}  # fmt: skip
