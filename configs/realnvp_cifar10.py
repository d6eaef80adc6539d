"""RealNVP on CIFAR-10.

Paper: Dinh et al. 2017, arXiv:1605.08803, table 1: 3.49 bits/dim. Differences from its program: docs/results.md.
Command: python train.py --config=configs/realnvp_cifar10.py --workdir=runs/realnvp_cifar10
Variants: (none) as in the paper; fast: small networks that see the checkerboard squeezed, for a CPU; variational: with
learned noise of the pixels; tiny.
Cost: the full network wants a GPU; fast: 26 minutes on two cores.
Expected: `fast` has 4.23 bits/dim on the test images after 1,800 steps (ours).
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

FAST = {
  'model.network.width': 24, 'model.network.blocks': 1, 'model.network.geometry': 'squeezed',
  'model.network.memory': 'plain', 'optimizer.model.learning_rate': 2e-3, 'optimizer.model.warmup_steps': 100,
  'epochs': 0.0, 'steps': 1800, 'steps_per_call': 1, 'eval_every': 600, 'save_every': 300, 'picture_every': 600,
}  # fmt: skip
TINY_NETWORK = {
  'model.network.width': 4, 'model.network.blocks': 0, 'model.network.scales': 1, 'model.network.memory': 'plain',
  'model.momentum': 0.5, 'optimizer.model.clip_norm': 0.0,
}  # fmt: skip
VARIANTS = {
  '': {},
  'fast': FAST,
  'variational': {'model.dequantization': 'variational'},
  'tiny': (TINY_NETWORK, shrink),
}


def get_config(variant=''):
  config = defaults()
  config.system = 'flow.realnvp'
  config.data.update({'name': 'cifar10', 'preprocess': 'dequantize', 'valid_size': 5000})
  config.model = {
    'network': {
      'width': 64, 'blocks': 8, 'scales': 2, 'geometry': 'grid', 'channel_factor': 1.0, 'memory': 'reversible'
    },
    'noise': 'normal',
    'alpha': 0.05, 'dequantization': 'uniform', 'dequantizer_width': 32, 'momentum': 0.9, 'l2': 5e-5,
    'temperature': 1.0,
  }  # fmt: skip
  config.optimizer = {'model': optimizer(learning_rate=1e-3, clip_norm=100.0)}
  config.update({'batch_size': 64, 'epochs': 500.0, 'steps_per_call': 10, 'best': 'nll_nats', 'init_examples': 512})
  config.update(
    {'log_every': 50, 'eval_every': 2000, 'save_every': 1000, 'picture_every': 2000, 'eval_batch_size': 250}
  )
  return with_variant(config, VARIANTS, variant)
