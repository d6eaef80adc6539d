"""DCGAN on MNIST and, by the same convolutions, other objectives: WGAN-GP, WGAN, least squares, hinge.

Paper: Radford et al. 2016, arXiv:1511.06434 and Gulrajani et al. 2017, arXiv:1704.00028 (networks of their code for
MNIST); Arjovsky et al. 2017, arXiv:1701.07875; Mao et al. 2017, arXiv:1611.04076; Miyato et al. 2018, arXiv:1802.05957.
Command: python train.py --config=configs/dcgan_mnist.py --workdir=runs/dcgan_mnist
Variants: (none) dcgan; without_dense, wgan_gp, wgan, least_squares, hinge; _small of each; tiny. What each is,
and where it differs from its paper: docs/results.md. Cost, on two CPU cores: small twenty minutes, wgan_gp_small 45.
Expected: every digit has a share of at least 2 % under a classifier whose mean top confidence is at least 0.85.
Ours, small: 8.6 % and 0.96, fid_classifier/10k 4.2 after 8,000 steps (real images: 1.2, noise: 479); wgan_gp_small:
8.5 % and 0.93, fid_classifier/10k 6.5 after 7,000 turns.
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant


def players(critic, **settings):
  return {critic: optimizer(**settings), 'generator': optimizer(**settings)}


def narrow(config):
  """A quarter of the widths and four times the rate."""
  for network in (config.model.generator, config.model.critic):
    for layers in {'channels', 'dense'} & set(network):
      network[layers] = tuple(width // 4 for width in network[layers])
  for player in config.optimizer.values():
    player.learning_rate *= 4  # a step of Adam moves a unit's input by the number of weights that it has


def tiny(config):
  shrink(config)
  config.model.latents = 4
  config.model.generator.update({'channels': (8, 4), 'dense': ()})
  config.model.critic.update({'channels': (4, 8), 'dense': ()})


def everything(config):
  """All that can be added to a game."""
  config.model.update({'lazy': 2, 'critic_steps': 2, 'average': 0.9})
  config.model.critic.regularisers = {'r1': 0.5, 'orthogonal': 1e-4}
  config.model.generator.constraints = {'clip': 0.5}


CRITIC = {'network': 'dcgan', 'channels': (64, 128), 'dense': (1024,), 'norm': 'batch', 'bias': True, 'kernels': 0}
WITHOUT_DENSE = {'model.generator.dense': (), 'model.critic.dense': ()}
LEAST_SQUARES = {'model.objective': 'least_squares'}
HINGE = {'model.objective': 'hinge', 'model.critic': CRITIC | {'norm': 'none', 'constraints': {'spectral': 1.0}}}
WGAN_GP = {
  'system': 'gan.wgan_gp',
  'model': {
    'generator': {'network': 'dcgan', 'channels': (256, 128, 64), 'norm': 'none', 'output': 'sigmoid', 'bias': True},
    'critic': {'network': 'dcgan', 'channels': (64, 128, 256), 'norm': 'none', 'bias': True},
    'latents': 128, 'prior': 'normal', 'critic_steps': 5, 'ratio': 1, 'penalty': 10.0, 'clip': 0.01,
    'average': 0.0, 'momentum': 0.9, 'references': 0,
  },
  'optimizer': players('critic', learning_rate=1e-4, b1=0.0, b2=0.9),
  'batch_size': 5 * 50, 'epochs': 0.0, 'steps': 200_000,
}  # fmt: skip
WGAN = WGAN_GP | {
  'system': 'gan.wgan',
  'optimizer': players('critic', name='rmsprop', learning_rate=5e-5, b2=0.99),
  'model.generator.norm': 'batch', 'model.critic.norm': 'batch',
}  # fmt: skip
SHORT = {'epochs': 0.0, 'steps': 8000}
SHORT_WGAN_GP = {
  'optimizer': players('critic', learning_rate=1e-3, b1=0.5, b2=0.9, schedule='linear'),
  'model.average': 0.995, 'steps': 7000,
}  # fmt: skip
VARIANTS = {
  '': {},
  'dcgan': {},
  'without_dense': WITHOUT_DENSE,
  'least_squares': LEAST_SQUARES,
  'hinge': HINGE,
  'wgan_gp': WGAN_GP,
  'wgan': WGAN,
  'small': (narrow, SHORT),
  'without_dense_small': (WITHOUT_DENSE, narrow, SHORT),
  'least_squares_small': (LEAST_SQUARES, narrow, SHORT),
  'hinge_small': (HINGE, narrow, SHORT),
  'wgan_gp_small': (WGAN_GP, narrow, SHORT_WGAN_GP),
  'wgan_small': (WGAN, narrow, {'steps': 4000}),
  'tiny': (tiny, {'model.generator.dense': (8,), 'model.critic.dense': (8,)}),
  'tiny_without_dense': tiny,
  'tiny_hinge': (HINGE, tiny, everything),
  'tiny_wgan_gp': (WGAN_GP, tiny, {'model.critic_steps': 2}),
  'tiny_wgan': (WGAN, tiny, {'model.critic_steps': 2}),
}
TINY = ('tiny', 'tiny_without_dense', 'tiny_wgan_gp', 'tiny_hinge')  # the variants that tests run


def get_config(variant=''):
  config = defaults()
  config.system = 'gan.dcgan'
  config.data.update({'name': 'mnist', 'preprocess': 'scale', 'valid_size': 10_000})
  config.model = {
    'generator': {
      'network': 'dcgan', 'dense': (1024,), 'channels': (128, 64), 'norm': 'batch', 'output': 'sigmoid', 'bias': True
    },
    'critic': CRITIC,
    'latents': 100, 'prior': 'uniform', 'real_label': 1.0, 'objective': 'nonsaturating', 'average': 0.0,
    'momentum': 0.9, 'references': 0,
  }  # fmt: skip
  config.optimizer = players('discriminator', learning_rate=2e-4, b1=0.5)
  config.update({'batch_size': 128, 'epochs': 25.0})
  config.update({'steps_per_call': 1, 'log_every': 50, 'eval_every': 1000, 'save_every': 500, 'picture_every': 500})
  config.evals = ('mean.metrics', 'generated.classifier')
  config.judge = 'runs/classifier_mnist'
  return with_variant(config, VARIANTS, variant)
