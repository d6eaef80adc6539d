"""DCGAN on MNIST and, by the same convolutions, other objectives: WGAN-GP, WGAN, least squares, hinge.

Paper: Radford et al. 2016, arXiv:1511.06434 (networks of its code for MNIST, without labels); Gulrajani et al. 2017,
arXiv:1704.00028 (networks of its code for MNIST); Arjovsky et al. 2017, arXiv:1701.07875; Mao et al. 2017,
arXiv:1611.04076, equation 9 (least squares); Miyato et al. 2018, arXiv:1802.05957, equations 16 and 17 (hinge).
Command: python train.py --config=configs/dcgan_mnist.py --workdir=runs/dcgan_mnist
Variants: (none) dcgan; without_dense: no hidden dense layers, by the paper's rule, where its code for MNIST has them;
wgan_gp: with its paper's decays of Adam, 0 and 0.9 (the code for MNIST has 0.5); wgan;
least_squares, hinge: the objectives of their papers, which have no MNIST, with DCGAN's networks and rates; hinge has
spectral normalisation in place of the critic's batch normalisation;
small, without_dense_small, least_squares_small, hinge_small: a quarter of the widths and four times the rate, for
twenty minutes on two CPU cores; wgan_gp_small: three quarters of an hour, with the decays 0.5 and 0.9, a rate that
falls from 1e-3 to 0, and the generator's average; tiny.
Expected: every digit has a share of at least 2 % under a classifier whose mean top confidence is at least 0.85.
Ours, small: 8.6 % and 0.96, fid_classifier/10k 4.2 after 8,000 steps (real images: 1.2, noise: 479); wgan_gp_small:
8.5 % and 0.93, fid_classifier/10k 6.5 after 7,000 turns.
"""

from dgm_jax.config import defaults, optimizer, shrink

TINY = ('tiny', 'tiny_without_dense', 'tiny_wgan_gp', 'tiny_hinge')
KINDS = ('dcgan', 'without_dense', 'wgan_gp', 'wgan', 'least_squares', 'hinge')


def get_config(variant=''):
  size = next((size for size in ('tiny', 'small') if size in variant), '')
  kind = variant.replace(size, '').strip('_') or 'dcgan'
  if kind not in KINDS:
    raise ValueError(f"dcgan_mnist has no variant '{variant}'; it has {' '.join(KINDS[1:])} small ..._small tiny ...")
  config = defaults()
  config.system = f'gan.{kind}' if kind in ('wgan', 'wgan_gp') else 'gan.dcgan'
  config.data.update({'name': 'mnist', 'preprocess': 'scale', 'valid_size': 10_000})
  config.update({'steps_per_call': 1, 'log_every': 50, 'eval_every': 1000, 'save_every': 500, 'picture_every': 500})
  _dcgan(config) if config.system == 'gan.dcgan' else _wasserstein(config, kind)
  if kind == 'without_dense':
    config.model.generator.dense = config.model.critic.dense = ()
  if kind in ('least_squares', 'hinge'):
    config.model.objective = kind
  if kind == 'hinge':
    config.model.critic.update({'norm': 'none', 'constraints': {'spectral': 1.0}})
  config.evals = ('mean.metrics', 'generated.classifier')
  config.judge = 'runs/classifier_mnist'
  if size == 'small':
    _narrow(config, 4)
    if kind == 'wgan_gp':
      _short(config)
  if size == 'tiny':
    shrink(config)
    config.model.update({'latents': 4} | ({} if config.system == 'gan.dcgan' else {'critic_steps': 2}))
    config.model.generator.update({'channels': (8, 4), 'dense': (8,) if kind == 'dcgan' else ()})
    config.model.critic.update({'channels': (4, 8), 'dense': (8,) if kind == 'dcgan' else ()})
    if kind == 'hinge':  # with all that can be added to it
      config.model.update({'lazy': 2, 'critic_steps': 2, 'average': 0.9})
      config.model.critic.regularisers = {'r1': 0.5, 'orthogonal': 1e-4}
      config.model.generator.constraints = {'clip': 0.5}
  return config


def _dcgan(config):
  config.model = {
    'generator': {
      'network': 'dcgan', 'dense': (1024,), 'channels': (128, 64), 'norm': 'batch', 'output': 'sigmoid', 'bias': True
    },
    'critic': {
      'network': 'dcgan', 'channels': (64, 128), 'dense': (1024,), 'norm': 'batch', 'bias': True, 'kernels': 0
    },
    'latents': 100, 'prior': 'uniform', 'real_label': 1.0, 'objective': 'nonsaturating', 'average': 0.0,
    'momentum': 0.9, 'references': 0,
  }  # fmt: skip
  adam = optimizer(learning_rate=2e-4, b1=0.5)
  config.optimizer = {'discriminator': dict(adam), 'generator': dict(adam)}
  config.update({'batch_size': 128, 'epochs': 25.0})


def _wasserstein(config, kind):
  norm = 'batch' if kind == 'wgan' else 'none'
  config.model = {
    'generator': {'network': 'dcgan', 'channels': (256, 128, 64), 'norm': norm, 'output': 'sigmoid', 'bias': True},
    'critic': {'network': 'dcgan', 'channels': (64, 128, 256), 'norm': norm, 'bias': True},
    'latents': 128, 'prior': 'normal', 'critic_steps': 5, 'ratio': 1, 'penalty': 10.0, 'clip': 0.01,
    'average': 0.0, 'momentum': 0.9, 'references': 0,
  }  # fmt: skip
  adam = optimizer(learning_rate=1e-4, b1=0.0, b2=0.9)
  slow = optimizer(name='rmsprop', learning_rate=5e-5, b2=0.99)
  config.optimizer = {role: dict(slow if kind == 'wgan' else adam) for role in ('critic', 'generator')}
  config.update({'batch_size': 5 * 50, 'steps': 200_000})


def _short(config):
  config.model.average = 0.995
  for player in config.optimizer.values():
    player.update({'b1': 0.5, 'learning_rate': 1e-3, 'schedule': 'linear'})
  config.steps = 7000


def _narrow(config, by):
  for role in ('generator', 'critic'):
    network = config.model[role]
    network.channels = tuple(width // by for width in network.channels)
    if 'dense' in network:
      network.dense = tuple(width // by for width in network.dense)
  for player in config.optimizer.values():
    player.learning_rate *= by  # a step of Adam moves a unit's input by the number of weights that it has
  config.epochs, config.steps = 0.0, 8000 if config.system == 'gan.dcgan' else 4000
