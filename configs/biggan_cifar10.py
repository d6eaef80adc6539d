"""BigGAN on CIFAR-10 and CIFAR-100: a projection, conditional batch norms, spectral norms of both networks.

Paper: Brock et al. 2019, arXiv:1809.11096, in the sizes and the schedule of ajbrock/BigGAN-PyTorch (CIFAR script); with
features quantized: Zhao et al. 2020, arXiv:2004.02088, and its scripts. The stabiliser of spectral norms is 1e-12,
there 1e-8. Generated batches of the critic's moves do not count in the generator's running statistics.
Command: python train.py --config=configs/biggan_cifar10.py --workdir=runs/biggan_cifar10
Variants: (none), fq, cifar100, cifar100_fq; tiny, tiny_fq.
Expected: FID 8 to 10 in other programs; fq 5.59 against 6.30 in the authors' own (PyTorch's Inception).
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

BLOCKS = ('block_0', 'block_1', 'block_2', 'block_3')
# As the program quantizes: the features go on, counts begin at 0, and the generator's move moves the codebooks, too.
FQ = {
  'layers': BLOCKS, 'codes': 1024, 'commitment': 1.0, 'decay': 0.8, 'feed': False, 'start': 0.0, 'deviation': 1.0,
  'both': True,
}  # fmt: skip
CIFAR100 = {'data.name': 'cifar100', 'model.classes': 100}


def quantized(**changes):
  """The authors' batch, and their codes."""
  return {'model.quantize': FQ | changes, 'batch_size': 4 * 64}


def tiny(config):
  shrink(config)
  config.model.update({'latents': 6, 'critic_steps': 2, 'average': 0.9, 'average_start': 2, 'standing': 2})
  config.model.generator.update({'channels': (4, 4), 'shared': 3, 'hierarchical': True, 'attention': (8,)})
  config.model.critic.update({'channels': (4, 4), 'halvings': 1, 'attention': (4,)})
  config.model.generator.regularisers = {'orthogonal': 1e-4}
  for network in (config.model.generator, config.model.critic):
    network.initializer = 'orthogonal'  # slopes of spectral norms are divided by the weights' own, here of one
  for player in config.optimizer.values():
    player.update({'eps': 0.1, 'b1': 0.95, 'learning_rate': 2e-4})


VARIANTS = {
  '': {},
  'fq': quantized(),
  'cifar100': CIFAR100,
  'cifar100_fq': (CIFAR100, quantized(codes=64, commitment=10.0, decay=0.9)),
  'tiny': tiny,
  'tiny_fq': (tiny, {'model.quantize': FQ | {'layers': BLOCKS[:2], 'codes': 8, 'feed': True, 'both': False}}),
}
TINY = ('tiny_fq',)


def get_config(variant=''):
  config = defaults()
  config.system = 'gan.biggan'
  config.data.update({'name': 'cifar10', 'preprocess': 'scale_symmetric'})
  config.model = {
    'generator': {
      'network': 'biggan', 'channels': (256,) * 4, 'shared': 0, 'hierarchical': False, 'attention': (),
      'initializer': 'normal', 'output': 'tanh', 'constraints': {'spectral': 1.0}, 'regularisers': {},
    },
    'critic': {
      'network': 'biggan', 'channels': (256,) * 4, 'halvings': 2, 'attention': (), 'initializer': 'normal',
      'constraints': {'spectral': 1.0}, 'regularisers': {},
    },
    'latents': 128, 'prior': 'normal', 'objective': 'hinge', 'classes': 10, 'critic_steps': 4, 'ratio': 1,
    'spectral': {'everywhere': True, 'free': ()}, 'quantize': {}, 'average': 0.9999, 'average_start': 1000,
    'momentum': 0.9, 'references': 0, 'standing': 16,
  }  # fmt: skip
  adam = optimizer(learning_rate=2e-4, b1=0.0)
  config.optimizer = {'discriminator': adam, 'generator': adam}
  config.update({'conditional': True, 'batch_size': 4 * 50, 'epochs': 500.0, 'steps_per_call': 1})
  config.update({'log_every': 100, 'eval_every': 0, 'save_every': 1000, 'picture_every': 1000, 'pictures': 100})
  config.evals = ('generated.classifier', 'classes.classes')
  return with_variant(config, VARIANTS, variant)
