"""DCGAN and the residual WGAN-GP on CIFAR-10.

Paper: Gulrajani et al. 2017, arXiv:1704.00028, appendix C (residual networks of 128 channels, Adam at 2e-4 with decays
0 and 0.9, falling to nothing over 100,000 steps, generator batches twice the critic's); Radford et al. 2016,
arXiv:1511.06434 (the rules, in the size of the pictures).
Command: python train.py --config=configs/cifar_gan.py --workdir=runs/wgan_gp_cifar10
Variants: (none) wgan_gp; dcgan; tiny.
then: python -m dgm_jax.evaluate --workdir=runs/wgan_gp_cifar10 --judge=inception:FILE#SHA256
Expected: Inception score 7.86 in the paper, of 50,000 samples in ten splits; it takes the weights of the Inception
network (python -m dgm_jax.prepare inception), a GPU and hours. No full run is recorded yet.
"""

from dgm_jax.config import defaults, optimizer, shrink


def get_config(variant=''):
  if variant not in ('', 'wgan_gp', 'dcgan', 'tiny'):
    raise ValueError(f"cifar_gan has no variant '{variant}'; it has wgan_gp dcgan and tiny")
  config = defaults()
  config.data.name = 'cifar10'  # all 50,000 training images: none is left to measure on in training
  config.update({'steps_per_call': 100, 'log_every': 100, 'eval_every': 0, 'save_every': 5000})
  config.update({'picture_every': 5000})
  config.evals = ('mean.metrics', 'generated.classifier')
  config.generated.samples = 50_000
  if variant == 'dcgan':
    _dcgan(config)
  else:
    _wgan_gp(config)
  if variant == 'tiny':
    shrink(config)
    config.model.generator.update({'width': 4, 'blocks': 1})
    config.model.critic.width = 4
    config.model.update({'latents': 4, 'critic_steps': 2})
  return config


def _wgan_gp(config):
  config.system = 'gan.wgan_gp'
  config.data.preprocess = 'dequantize_symmetric'
  config.model = {
    'generator': {'network': 'resnet', 'width': 128, 'blocks': 3, 'norm': 'batch', 'output': 'tanh'},
    'critic': {'network': 'resnet', 'width': 128, 'norm': 'none'},
    'latents': 128, 'prior': 'normal', 'critic_steps': 5, 'ratio': 2, 'penalty': 10.0,
    'average': 0.0, 'momentum': 0.9, 'references': 0,
  }  # fmt: skip
  rates = {'learning_rate': 2e-4, 'b1': 0.0, 'b2': 0.9, 'schedule': 'linear'}
  config.optimizer = {'critic': optimizer(**rates), 'generator': optimizer(**rates)}
  config.update({'batch_size': 5 * 64, 'steps': 100_000})


def _dcgan(config):
  config.system = 'gan.dcgan'
  config.data.preprocess = 'scale_symmetric'
  config.model = {
    'generator': {'network': 'dcgan', 'channels': (512, 256, 128), 'norm': 'batch', 'output': 'tanh'},
    'critic': {'network': 'dcgan', 'channels': (128, 256, 512), 'norm': 'batch', 'kernels': 0},
    'latents': 100, 'prior': 'uniform', 'real_label': 1.0, 'objective': 'nonsaturating',
    'average': 0.0, 'momentum': 0.9, 'references': 0,
  }  # fmt: skip
  rates = {'learning_rate': 2e-4, 'b1': 0.5}
  config.optimizer = {'discriminator': optimizer(**rates), 'generator': optimizer(**rates)}
  config.update({'batch_size': 128, 'epochs': 100.0})
