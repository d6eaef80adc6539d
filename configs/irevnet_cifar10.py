"""i-RevNet on CIFAR-10.

Paper: Jacobsen et al. 2018, arXiv:1802.07088; its program's CIFAR-10 network has 6,274,826 parameters, all of which
decay, and about 5.5 % errors after 200 epochs. Differences (dropout, normalisation, 1,000 held out): docs/results.md.
Command: python train.py --config=configs/irevnet_cifar10.py --workdir=runs/irevnet
Variants: (none) injective: zeros are put behind the three channels; bijective: squeezed twice instead; small: bijective
and narrow, for minutes on a CPU; tiny. Cost: 200 epochs want a GPU.
Expected: `small` errs on 46.3 % of the test images after its 3 epochs (ours). The pictures `reconstructions` have
images found again from the last features.
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

BIJECTIVE = {'model.network.stream': 6, 'model.network.first': 2}
SMALL = BIJECTIVE | {
  'model.network.blocks': (2, 2, 2),
  'optimizer.model': optimizer(name='sgd', momentum=0.9, learning_rate=0.05, schedule='cosine'),
  'stage_epochs': (), 'epochs': 3.0, 'steps_per_call': 1,
}  # fmt: skip
TINY_NETWORK = {
  'model.network.blocks': (1, 2), 'model.network.strides': (1, 2), 'model.network.stream': 2, 'model.network.first': 2,
  'model.reach': 1, 'model.flip': 'none', 'model.momentum': 0.5,
  'optimizer.model': optimizer(name='sgd', momentum=0.9, learning_rate=1e-3), 'stage_epochs': (),
}  # fmt: skip
VARIANTS = {
  '': {},
  'bijective': BIJECTIVE,
  'small': SMALL,
  'tiny': (TINY_NETWORK, shrink),
}


def get_config(variant=''):
  config = defaults()
  config.system = 'classifier.irevnet'
  config.data.update({'name': 'cifar10', 'preprocess': 'scale', 'valid_size': 1000})
  config.model = {
    'network': {
      'blocks': (18, 18, 18), 'strides': (1, 2, 2), 'stream': 16, 'first': 1, 'kernels': (3, 3, 3),
      'memory': 'reversible', 'unroll': 1,
    },
    'classes': 10, 'l2': 5e-4, 'decays': 'all', 'momentum': 0.9, 'reach': 4, 'flip': 'horizontal',
  }  # fmt: skip
  rates = (0.1, 0.02, 0.004, 0.0008)
  stages = optimizer(name='sgd', momentum=0.9, learning_rate=0.1, schedule='stages', stage_rates=rates)
  config.optimizer = {'model': stages}
  config.update({'batch_size': 128, 'stage_epochs': (60.0, 60.0, 40.0, 40.0), 'steps_per_call': 10})
  config.update({'log_every': 50, 'eval_every': 500, 'save_every': 500, 'picture_every': 500, 'init_examples': 256})
  config.update({'best': 'error_percent', 'eval_batch_size': 250})
  return with_variant(config, VARIANTS, variant)
