"""DCGAN and the residual WGAN-GP on CIFAR-10.

Paper: Gulrajani et al. 2017, arXiv:1704.00028, appendix C (residual networks of 128 channels, Adam at 2e-4 with decays
0 and 0.9, falling to nothing over 100,000 steps, generator batches twice the critic's); Radford et al. 2016,
arXiv:1511.06434 (the rules, in the size of the pictures).
Command: python train.py --config=configs/cifar_gan.py --workdir=runs/wgan_gp_cifar10
then: python -m dgm_jax.evaluate --workdir=runs/wgan_gp_cifar10 --judge=inception:FILE#SHA256
Variants: (none) wgan_gp; dcgan; tiny. Cost: a GPU and hours.
Expected: Inception score 7.86 in the paper, of 50,000 samples in ten splits; it takes the weights of the Inception
network (python -m dgm_jax.prepare inception). No full run is recorded yet.
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

ADAM = optimizer(learning_rate=2e-4, b1=0.5)
DCGAN = {
  'system': 'gan.dcgan',
  'data.preprocess': 'scale_symmetric',
  'model': {
    'generator': {'network': 'dcgan', 'channels': (512, 256, 128), 'norm': 'batch', 'output': 'tanh'},
    'critic': {'network': 'dcgan', 'channels': (128, 256, 512), 'norm': 'batch', 'kernels': 0},
    'latents': 100, 'prior': 'uniform', 'real_label': 1.0, 'objective': 'nonsaturating',
    'average': 0.0, 'momentum': 0.9, 'references': 0,
  },
  'optimizer': {'discriminator': ADAM, 'generator': ADAM},
  'batch_size': 128, 'steps': 0, 'epochs': 100.0,
}  # fmt: skip
TINY_NETWORKS = {
  'model.generator.width': 4, 'model.generator.blocks': 1, 'model.critic.width': 4, 'model.latents': 4,
  'model.critic_steps': 2,
}  # fmt: skip
VARIANTS = {
  '': {},
  'wgan_gp': {},
  'dcgan': DCGAN,
  'tiny': (TINY_NETWORKS, shrink),
}


def get_config(variant=''):
  config = defaults()
  config.system = 'gan.wgan_gp'
  # All 50,000 training images: none is left to measure on in training.
  config.data.update({'name': 'cifar10', 'preprocess': 'dequantize_symmetric'})
  config.model = {
    'generator': {'network': 'resnet', 'width': 128, 'blocks': 3, 'norm': 'batch', 'output': 'tanh'},
    'critic': {'network': 'resnet', 'width': 128, 'norm': 'none'},
    'latents': 128, 'prior': 'normal', 'critic_steps': 5, 'ratio': 2, 'penalty': 10.0,
    'average': 0.0, 'momentum': 0.9, 'references': 0,
  }  # fmt: skip
  adam = optimizer(learning_rate=2e-4, b1=0.0, b2=0.9, schedule='linear')
  config.optimizer = {'critic': dict(adam), 'generator': dict(adam)}
  config.update({'batch_size': 5 * 64, 'steps': 100_000, 'steps_per_call': 100, 'log_every': 100, 'eval_every': 0})
  config.update({'save_every': 5000, 'picture_every': 5000})
  config.evals = ('mean.metrics', 'generated.classifier')
  config.generated.samples = 50_000
  return with_variant(config, VARIANTS, variant)
