"""Glow on CIFAR-10.

Paper: Kingma & Dhariwal 2018, arXiv:1807.03039, table 2: 3.35 bits/dim.
Command: python train.py --config=configs/glow_cifar10.py --workdir=runs/glow_cifar10
Variants: (none) three levels of 32 steps, 512 channels, as in the paper, with Adamax as in its program; fast: three
levels of 3 steps and 48 channels, Adam, no average, for a CPU; tiny. Differences from the program: docs/results.md.
Cost: the full network wants several GPUs: batch 512; fast: 13 minutes on two cores.
Expected: `fast` has 4.24 bits/dim on the test images after 1,800 steps (ours).
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

FAST = {
  'model.network.width': 48, 'model.network.steps': 3, 'model.network.memory': 'plain', 'model.network.unroll': 3,
  'model.average': 0.0, 'optimizer.model': optimizer(learning_rate=2e-3, warmup_steps=100, clip_norm=100.0),
  'batch_size': 64, 'epochs': 0.0, 'steps': 1800, 'steps_per_call': 1, 'eval_every': 600, 'save_every': 300,
  'picture_every': 600,
}  # fmt: skip
TINY_NETWORK = {
  'model.network.width': 8, 'model.network.steps': 1, 'model.network.levels': 2, 'model.average': 0.5
}  # fmt: skip
VARIANTS = {
  '': {},
  'fast': FAST,
  'tiny': (TINY_NETWORK, shrink),
}


def get_config(variant=''):
  config = defaults()
  config.system = 'flow.glow'
  config.data.update({'name': 'cifar10', 'preprocess': 'dequantize', 'valid_size': 5000})
  config.model = {
    'network': {'width': 512, 'steps': 32, 'levels': 3, 'memory': 'reversible', 'unroll': 1, 'edge': 'padding'},
    'noise': 'normal',
    'alpha': 0.0, 'dequantization': 'uniform', 'dequantizer_width': 32, 'momentum': 0.99, 'l2': 0.0, 'temperature': 1.0,
    'average': 1 - 1 / 88,
  }  # fmt: skip
  # Ten epochs of warm-up; Adamax and the average look back one epoch.
  config.optimizer = {'model': optimizer(name='adamax', learning_rate=1e-3, b2=1 - 1 / 88, warmup_steps=880)}
  config.update({'batch_size': 512, 'epochs': 1000.0, 'steps_per_call': 10, 'best': 'nll_nats', 'init_examples': 256})
  config.update(
    {'log_every': 50, 'eval_every': 1000, 'save_every': 1000, 'picture_every': 1000, 'eval_batch_size': 250}
  )
  return with_variant(config, VARIANTS, variant)
