"""Rows of latents that are factors or codes, and of classifiers."""

from papers.row import Row, adam

CIFAR, SPRITES = ('cifar10', 'scale', 1000), ('sprites', 'scale', 10_000)


def residual(units, channels, kernels=(3, 3), **more):
  """ResNet or RevNet, as its program trains it: crops within 36 pixels, the rate a tenth twice."""
  network = {'units': units, 'channels': channels, 'kernels': kernels} | more
  model = {'network': network, 'classes': 10, 'l2': 2e-4, 'momentum': 0.9, 'reach': 2, 'flip': 'horizontal'}
  rates = {'schedule': 'stages', 'stage_rates': (0.1, 0.01, 0.001)}
  player = {'name': 'sgd', 'learning_rate': 0.1, 'momentum': 0.9} | rates
  stages = tuple(steps * 100 / 49_000 for steps in (40_000, 20_000, 20_000))
  source = 'Gomez et al. 2017, table 3, and renmengye/revnet-public; images held out are ours'
  system = 'classifier.revnet' if more else 'classifier.resnet'
  return Row(source, system, CIFAR, model, {'model': player}, {'batch_size': 100, 'stage_epochs': stages})


def on_100(row, parameters):
  """The same network for the classes of CIFAR-100."""
  return row._replace(
    data=('cifar100', 'scale', 1000), model=row.model | {'classes': 100}, parameters={'classifier': parameters}
  )


REVERSIBLE, BOTTLENECK = {'memory': 'reversible'}, (1, 3, 1)


def irevnet(stream, first):
  network = {'blocks': (18, 18, 18), 'strides': (1, 2, 2), 'stream': stream, 'first': first, 'kernels': (3, 3, 3)}
  network |= REVERSIBLE | {'unroll': 1}
  model = {'network': network, 'classes': 10, 'l2': 5e-4, 'decays': 'all', 'momentum': 0.9}
  model |= {'reach': 4, 'flip': 'horizontal'}
  rates = {'schedule': 'stages', 'stage_rates': (0.1, 0.02, 0.004, 0.0008)}
  player = {'name': 'sgd', 'learning_rate': 0.1, 'momentum': 0.9} | rates
  run = {'batch_size': 128, 'stage_epochs': (60.0, 60.0, 40.0, 40.0)}
  source = 'Jacobsen et al. 2018, and jhjacobsen/pytorch-i-revnet; images held out are ours'
  return Row(source, 'classifier.irevnet', CIFAR, model, {'model': player}, run)


def sprites(source, kind, weights, player, channels=(32, 32, 64, 64), hidden=256, layers=1, counts=None):
  """An autoencoder of the replications on sprites."""
  net = {'hidden': (hidden,) * layers, 'activation': 'relu'}
  model = {'channels': channels, 'encoder': net, 'decoder': net, 'latents': 10, 'likelihood': 'bernoulli'} | weights
  run = {'batch_size': 64, 'steps': 300_000}
  return Row(source, f'disentangle.{kind}_vae', SPRITES, model, {'model': player}, run, counts)


LOCATELLO = 'Locatello et al. 2019, appendix, tables of settings'
BURGESS = {'gamma': 1000.0, 'capacity': 25.0, 'capacity_steps': 100_000}
BETA = {
  'beta': 4.0, 'channels': (), 'latents': 10, 'likelihood': 'bernoulli',
  'encoder': {'hidden': (1200, 1200), 'activation': 'relu'},
  'decoder': {'hidden': (1200, 1200, 1200), 'activation': 'tanh'},
}  # fmt: skip


VQ = {'codes': 512, 'features': 64, 'blocks': 2}
VQ_2017 = VQ | {'strides': (4,), 'hidden': 256, 'width': 256}
VQ_MNIST = {'strides': (2, 4), 'codes': 128, 'features': 32, 'hidden': 64, 'blocks': 2, 'width': 32}
BY_GRADIENT = {'codebook': 'gradient', 'start': 'k_means', 'decay': 0.0, 'restart': 0.0, 'commitment': 0.25}
BY_MEANS = {'codebook': 'ema', 'start': 'k_means', 'decay': 0.99, 'restart': 0.03, 'commitment': 0.25}
FOLDER = ('folder:images', 'scale', 1000)
TOP, BOTTOM = {'network': 'pixelsnail'}, {'network': 'gated_pixelcnn'}
RAZAVI = 'Razavi et al. 2019, section 4 and tables of settings'


def vq(source, network, book, variance, data, run, rate, counts=None, **more):
  model = {'vqvae': network, 'variance': variance} | book
  return Row(source, 'vq.vae', data, model, {'model': adam(rate, **more)}, run, counts)


def priors(source, network, model, rate, data, run, **more):
  players = {name: adam(rate, **more) for name in model['train']}
  return Row(source, 'vq.prior', data, {'vqvae': network} | model, players, run)


REVNET = 'Gomez et al. 2017, sections 4 and 5, and renmengye/revnet-public; images held out are ours'
IREVNET = 'Jacobsen et al. 2018, section 4.1, and jhjacobsen/pytorch-i-revnet; images held out are ours'


def imagenet(source, system, network, parameters, **more):
  """RevNet's training on ImageNet: boxes of 256 x 256, the rate a tenth three times."""
  model = {'network': network, 'classes': 1000, 'l2': 1e-4, 'momentum': 0.9, 'reach': 0, 'flip': 'horizontal'}
  model |= {'crop': 224, 'colours': True} | more
  rates = {'schedule': 'stages', 'stage_rates': (0.1, 0.01, 0.001, 0.0001)}
  player = {'name': 'sgd', 'learning_rate': 0.1, 'momentum': 0.9} | rates
  stages = tuple(steps * 256 / 1_271_167 for steps in (160_000, 160_000, 160_000, 120_000))
  run = {'batch_size': 256, 'stage_epochs': stages, 'size': 256, 'channels': 3, 'test': 'validation'}
  data = ('imagenet2012', 'scale', 10_000)
  return Row(source, f'classifier.{system}', data, model, {'model': player}, run, {'classifier': parameters})


STEM = {'kernels': BOTTLENECK, 'large_stem': True}
REVNET_56 = STEM | REVERSIBLE | {'units': (2, 2, 3, 2), 'channels': (128, 128, 256, 512, 832)}
RESNET_50 = STEM | {'units': (3, 4, 6, 3), 'channels': (64, 64, 128, 256, 512)}
BIJECTIVE = REVERSIBLE | {'strides': (2,) * 4, 'stream': 24, 'first': 2, 'kernels': BOTTLENECK, 'unroll': 1}
INJECTIVE = BIJECTIVE | {'strides': (1, 2, 2, 2), 'stream': 48, 'first': 4, 'kernels': (3, 3, 3)}


TABLE = {
  'classifier_mnist:': Row(
    'none; all is ours', 'classifier.classifier', ('mnist', 'scale', 5000),
    {'network': {'channels': (32, 64), 'features': 128, 'classes': 10}, 'average': 0.99},
    {'model': adam(schedule='cosine')}, {'batch_size': 128, 'steps': 2500},
  ),
  'disentangle:beta': Row(
    'Higgins et al. 2017, appendix, table 1; batch and steps are those of Locatello et al. 2019',
    'disentangle.beta_vae', SPRITES, BETA, {'model': {'name': 'adagrad', 'learning_rate': 1e-2}},
    {'batch_size': 64, 'steps': 300_000}, {'encoder': 6_381_620, 'decoder': 7_814_896},
  ),
  'disentangle:beta_conv': sprites(
    LOCATELLO, 'beta', {'beta': 4.0}, adam(1e-4), counts={'encoder': 382_932, 'decoder': 381_313}
  ),
  'disentangle:beta_1': sprites(
    'Burgess et al. 2018, arXiv:1804.03599, figures 1 and 2, appendix; steps are of Locatello et al. 2019', 'beta',
    {'beta': 1.0}, adam(5e-4), (32,) * 4, 256, 2,
  ),
  'disentangle:beta_150': sprites(
    'Burgess et al. 2018, arXiv:1804.03599, figures 1 and 2, appendix; steps are of Locatello et al. 2019', 'beta',
    {'beta': 150.0}, adam(5e-4), (32,) * 4, 256, 2,
  ),
  'disentangle:beta_8': sprites(
    'Kim & Mnih 2018, arXiv:1802.05983, traversals of figures, and appendix A', 'beta', {'beta': 8.0}, adam(1e-4),
    hidden=128, counts={'encoder': 249_172, 'decoder': 248_833},
  ),
  'disentangle:factor_10': sprites(
    'Kim & Mnih 2018, arXiv:1802.05983, appendix A; gamma of the deck', 'factor',
    {'gamma': 10.0, 'discriminator': (1000,) * 6}, adam(1e-4), hidden=128,
  )._replace(
    players={'model': adam(1e-4), 'discriminator': adam(1e-4, 0.5, 0.9)}, run={'batch_size': 2 * 64, 'steps': 300_000}
  ),
  'disentangle:capacity': sprites(
    'Burgess et al. 2018, arXiv:1804.03599, appendix; steps are those of Locatello et al. 2019', 'capacity', BURGESS,
    adam(5e-4), (32,) * 4, 256, 2, {'encoder': 252_052, 'decoder': 249_953},
  ),
  'disentangle:capacity_conv': sprites(LOCATELLO, 'capacity', BURGESS, adam(1e-4)),
  'disentangle:factor': sprites(
    'Kim & Mnih 2018, arXiv:1802.05983, appendix A', 'factor', {'gamma': 35.0, 'discriminator': (1000,) * 6},
    adam(1e-4), hidden=128, counts={'encoder': 249_172, 'decoder': 248_833, 'discriminator': 5_018_002},
  )._replace(
    players={'model': adam(1e-4), 'discriminator': adam(1e-4, 0.5, 0.9)}, run={'batch_size': 2 * 64, 'steps': 300_000}
  ),
  'disentangle:tc': sprites(
    LOCATELLO, 'tc', {'beta': 6.0, 'estimator': 'minibatch', 'divergence': 'closed'}, adam(1e-4)
  ),
  'disentangle:dip_i': sprites(
    LOCATELLO, 'dip', {'off_diagonal': 10.0, 'diagonal_ratio': 10.0, 'covariance': 'means'}, adam(1e-4)
  ),
  'disentangle:dip_ii': sprites(
    LOCATELLO, 'dip', {'off_diagonal': 10.0, 'diagonal_ratio': 1.0, 'covariance': 'aggregate'}, adam(1e-4)
  ),
  'irevnet_cifar10:': irevnet(16, 1),
  'irevnet_imagenet:bijective': imagenet(
    IREVNET, 'irevnet', BIJECTIVE | {'blocks': (6, 16, 72, 6)}, 29_201_092, decays='all', colours=False
  ),
  'irevnet_imagenet:injective': imagenet(
    IREVNET, 'irevnet', INJECTIVE | {'blocks': (4, 4, 6, 4)}, 199_033_960, decays='all', colours=False
  ),
  'resnet_imagenet:resnet_50': imagenet(REVNET, 'resnet', RESNET_50, 25_549_352),
  'resnet_imagenet:resnet_101': imagenet(REVNET, 'resnet', RESNET_50 | {'units': (3, 4, 23, 3)}, 44_541_480),
  'revnet_imagenet:revnet_56': imagenet(REVNET, 'revnet', REVNET_56, 27_553_128),
  'revnet_imagenet:revnet_104': imagenet(REVNET, 'revnet', REVNET_56 | {'units': (2, 2, 11, 2)}, 45_428_072),
  'irevnet_cifar10:bijective': irevnet(6, 2),
  'revnet_cifar10:resnet_32': residual((5, 5, 5), (16, 16, 32, 64)),
  'revnet_cifar10:resnet_110': residual((18, 18, 18), (16, 16, 32, 64)),
  'revnet_cifar10:resnet_164': residual((18, 18, 18), (16, 16, 32, 64), BOTTLENECK),
  'revnet_cifar10:revnet_38': residual((3, 3, 3), (32, 32, 64, 112), **REVERSIBLE),
  'revnet_cifar10:cifar100_revnet_38': on_100(residual((3, 3, 3), (32, 32, 64, 112), **REVERSIBLE), 475_060),
  'revnet_cifar10:cifar100_resnet_164': on_100(residual((18,) * 3, (16, 16, 32, 64), BOTTLENECK), 1_726_388),
  'revnet_cifar10:revnet_110': residual((9, 9, 9), (32, 32, 64, 128), **REVERSIBLE),
  'revnet_cifar10:revnet_164': residual((9, 9, 9), (32, 32, 64, 128), BOTTLENECK, **REVERSIBLE),
  'vqvae2_256:': vq(
    RAZAVI + ' (batch, steps, widths; pixels in [-1, 1])', VQ | {'strides': (2, 4), 'hidden': 128, 'width': 64},
    BY_MEANS, 0.25, FOLDER, {'batch_size': 128, 'steps': 2_207_444, 'size': 256, 'channels': 3}, 3e-4,
  ),
  'vqvae2_256:prior': priors(
    RAZAVI + '; keys, head and average are ours', VQ | {'strides': (2, 4), 'hidden': 128, 'width': 64},
    {
      'train': ('top', 'bottom'), 'classes': 0, 'embedding': 512, 'average': 0.9999,
      'conditioner': {'features': 512, 'blocks': 20, 'width': 1024},
      'top': TOP | {
        'features': 512, 'blocks': 4, 'resnets': 5, 'keys': 64, 'values': 512, 'dropout': 0.1, 'chunk': 1024
      },
      'bottom': BOTTOM | {'features': 512, 'layers': 20, 'head': 1024, 'first': 7, 'size': 5, 'dropout': 0.1},
    },
    3e-4, FOLDER, {'batch_size': 512, 'steps': 754_000, 'size': 256, 'channels': 3},
  ),
  'vqvae2_cifar10:': vq(
    RAZAVI + ' (its networks); levels, variance and steps are ours',
    VQ | {'strides': (2, 2), 'hidden': 128, 'width': 32}, BY_MEANS, 0.0633, CIFAR,
    {'batch_size': 128, 'steps': 100_000}, 3e-4,
  ),
  'vqvae2_cifar10:prior': priors(
    RAZAVI + ' (kinds of networks); sizes are those of the replication rosinality/vq-vae-2-pytorch, steps are ours',
    VQ | {'strides': (2, 2), 'hidden': 128, 'width': 32},
    {
      'train': ('top', 'bottom'), 'classes': 10, 'embedding': 64, 'average': 0.9995,
      'conditioner': {'features': 256, 'blocks': 3, 'width': 256},
      'top': TOP | {'features': 256, 'blocks': 4, 'resnets': 4, 'keys': 32, 'values': 128, 'dropout': 0.1},
      'bottom': BOTTOM | {'features': 256, 'layers': 16, 'head': 512, 'first': 7, 'size': 5, 'dropout': 0.1},
    },
    3e-4, CIFAR, {'batch_size': 128, 'steps': 200_000, 'conditional': True},
  ),
  'vqvae2_cifar10:prior_pp': priors(
    RAZAVI + ' (kinds of networks; PixelCNN++ is the deck); sizes are those of rosinality/vq-vae-2-pytorch and ours',
    VQ | {'strides': (2, 2), 'hidden': 128, 'width': 32},
    {
      'train': ('top', 'bottom'), 'classes': 10, 'embedding': 64, 'average': 0.9995,
      'conditioner': {'features': 256, 'blocks': 3, 'width': 256},
      'top': TOP | {'features': 256, 'blocks': 4, 'resnets': 4, 'keys': 32, 'values': 128, 'dropout': 0.1},
      'bottom': {'network': 'pixelcnn_pp', 'features': 192, 'blocks': 5, 'levels': 3, 'dropout': 0.1},
    },
    3e-4, CIFAR, {'batch_size': 128, 'steps': 200_000, 'conditional': True},
  ),
  'vqvae2_mnist:': vq(
    RAZAVI + ' (kinds of networks); all sizes are ours', VQ_MNIST, BY_MEANS, 0.095, ('mnist', 'scale', 1000),
    {'batch_size': 64, 'steps': 3000}, 1e-3, schedule='cosine', warmup_steps=100,
  ),
  'vqvae2_mnist:prior': priors(
    RAZAVI + ' (kinds of networks); all sizes are ours', VQ_MNIST,
    {
      'train': ('top', 'bottom'), 'classes': 10, 'embedding': 32, 'average': 0.998,
      'conditioner': {'features': 64, 'blocks': 2, 'width': 64},
      'top': TOP | {'features': 64, 'blocks': 2, 'resnets': 2, 'keys': 8, 'values': 32, 'dropout': 0.1},
      'bottom': BOTTOM | {'features': 48, 'layers': 4, 'head': 128, 'first': 5, 'size': 3},
    },
    1e-3, ('mnist', 'scale', 1000), {'batch_size': 32, 'steps': 3000, 'conditional': True},
    schedule='cosine', warmup_steps=100,
  ),
  'vqvae_cifar10:': vq(
    'van den Oord et al. 2017, arXiv:1711.00937, section 4; features and variance of deepmind/sonnet, start is ours',
    VQ_2017 | {'per_place': 10}, BY_GRADIENT, 0.0633, CIFAR, {'batch_size': 128, 'steps': 250_000}, 2e-4,
    {'vqvae': 5_947_011},
  ),
  'vqvae_mnist:': vq(
    'van den Oord et al. 2017, arXiv:1711.00937, section 4 (CIFAR-10); features of deepmind/sonnet, start is ours',
    VQ_2017, BY_GRADIENT, 0.095, ('mnist', 'scale', 1000), {'batch_size': 128, 'steps': 250_000}, 2e-4,
  ),
  'vqvae_mnist:prior': priors(
    'van den Oord et al. 2017, arXiv:1711.00937 (a PixelCNN); sizes, rate and steps are ours', VQ_2017,
    {
      'train': ('top',), 'classes': 10, 'embedding': 64, 'average': 0.999, 'conditioner': {},
      'top': BOTTOM | {'features': 128, 'layers': 10, 'head': 256, 'first': 7, 'size': 3},
    },
    3e-4, ('mnist', 'scale', 1000), {'batch_size': 128, 'steps': 25_000, 'conditional': True},
  ),
}  # fmt: skip
