"""The first GAN on MNIST: dense layers against maxout.

Paper: Goodfellow et al. 2014, arXiv:1406.2661; settings of its released code. Here momentum and rate are constant and
the generator starts at grey (docs/results.md).
Command: python train.py --config=configs/gan_mnist.py --workdir=runs/gan_mnist
Variants: (none); improved: virtual batch normalisation, minibatch discrimination, historical averaging and smoothed
labels on the same task, Adam as in DCGAN; tiny, tiny_improved. Cost: minutes an epoch on two CPU cores.
Expected: a Parzen-window log-likelihood of 225 nats in the paper, of 10,000 samples (evals/parzen.py). No full run is
recorded yet.
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

ADAM = optimizer(learning_rate=2e-4, b1=0.5)
IMPROVED = {
  'system': 'gan.improved_gan', 'model.generator.norm': 'virtual', 'model.critic.kernels': 100,
  # The paper's target of real examples is the number itself; the deck's alpha is one minus it.
  'model.real_label': 0.9,
  'model.references': 100, 'optimizer': {'discriminator': ADAM, 'generator': ADAM},
}  # fmt: skip
TINY_NETWORKS = {'model.generator.hidden': (16,), 'model.critic.hidden': (8,), 'model.latents': 4}


def historical(config):
  config.model.historical = 0.01


VARIANTS = {
  '': {},
  'improved': (IMPROVED, historical),
  'tiny': (TINY_NETWORKS, shrink),
  'tiny_improved': (IMPROVED, historical, TINY_NETWORKS, {'model.critic.kernels': 3, 'model.references': 4}, shrink),
}
TINY = ('tiny', 'tiny_improved')  # the variants that tests run


def get_config(variant=''):
  config = defaults()
  config.system = 'gan.gan'
  config.data.update({'name': 'mnist', 'preprocess': 'scale', 'valid_size': 10_000})
  config.model = {
    'generator': {'network': 'dense', 'hidden': (1200, 1200), 'norm': 'none', 'output': 'sigmoid'},
    'critic': {'network': 'maxout', 'hidden': (240, 240), 'kernels': 0},
    'latents': 100, 'prior': 'wide_uniform', 'real_label': 1.0, 'objective': 'nonsaturating',
    'average': 0.0, 'momentum': 0.9, 'references': 0,
  }  # fmt: skip
  sgd = optimizer(name='sgd', learning_rate=0.1, momentum=0.5)
  # The released code halves the discriminator's loss; under SGD half the rate is the same.
  config.optimizer = {'discriminator': sgd | {'learning_rate': 0.05}, 'generator': sgd}
  config.update({'batch_size': 100, 'epochs': 100.0, 'steps_per_call': 100})
  config.update({'log_every': 500, 'eval_every': 2500, 'save_every': 2500, 'picture_every': 2500})
  config.evals = ('mean.metrics', 'generated.classifier', 'parzen.parzen')
  config.judge = 'runs/classifier_mnist'
  return with_variant(config, VARIANTS, variant)
