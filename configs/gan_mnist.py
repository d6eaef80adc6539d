"""The first GAN on MNIST: dense layers against maxout.

Paper: Goodfellow et al. 2014, arXiv:1406.2661; settings of its released code, which halves the discriminator's loss
(here its rate, the same under SGD). Its momentum rises from 0.5 to 0.7 and its rate falls by a factor of 1.000004 a
step; both are held at their start here. Its generator starts at the mean image, ours at grey.
Command: python train.py --config=configs/gan_mnist.py --workdir=runs/gan_mnist
Variants: (none); improved: virtual batch normalisation, minibatch discrimination, historical averaging and smoothed
labels on the same task, Adam as in DCGAN; tiny, tiny_improved.
Expected: a Parzen-window log-likelihood of 225 nats in the paper, of 10,000 samples (evals/parzen.py). No full run is
recorded yet. Minutes an epoch on two CPU cores.
"""

from dgm_jax.config import defaults, optimizer, shrink

TINY = ('tiny', 'tiny_improved')


def get_config(variant=''):
  if variant not in ('', 'improved', *TINY):
    raise ValueError(f"gan_mnist has no variant '{variant}'; it has improved tiny tiny_improved")
  improved = variant.endswith('improved')
  config = defaults()
  config.system = 'gan.improved_gan' if improved else 'gan.gan'
  config.data.update({'name': 'mnist', 'preprocess': 'scale', 'valid_size': 10_000})
  config.model = {
    'generator': {'network': 'dense', 'hidden': (1200, 1200), 'norm': 'none', 'output': 'sigmoid'},
    'critic': {'network': 'maxout', 'hidden': (240, 240), 'kernels': 0},
    'latents': 100, 'prior': 'wide_uniform', 'real_label': 1.0, 'objective': 'nonsaturating',
    'average': 0.0, 'momentum': 0.9, 'references': 0,
  }  # fmt: skip
  rates = {'name': 'sgd', 'learning_rate': 0.1, 'momentum': 0.5}
  if improved:
    # The paper's target of real examples is the number itself; the deck's alpha is one minus it.
    config.model.update({'real_label': 0.9, 'historical': 0.01, 'references': 100})
    config.model.generator.norm, config.model.critic.kernels = 'virtual', 100
    rates = {'learning_rate': 2e-4, 'b1': 0.5}
  config.optimizer = {'discriminator': optimizer(**rates), 'generator': optimizer(**rates)}
  if not improved:
    config.optimizer['discriminator'].learning_rate /= 2
  config.update({'batch_size': 100, 'epochs': 100.0, 'steps_per_call': 100})
  config.update({'log_every': 500, 'eval_every': 2500, 'save_every': 2500, 'picture_every': 2500})
  config.evals = ('mean.metrics', 'generated.classifier', 'parzen.parzen')
  config.judge = 'runs/classifier_mnist'
  if variant in TINY:
    shrink(config)
    config.model.generator.hidden, config.model.critic.hidden = (16,), (8,)
    config.model.latents = 4
    config.model.critic.kernels, config.model.references = (3, 4) if improved else (0, 0)
  return config
