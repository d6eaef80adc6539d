"""Glow on CIFAR-10.

Paper: Kingma & Dhariwal 2018, arXiv:1807.03039, table 2: 3.35 bits/dim.
Command: python train.py --config=configs/glow_cifar10.py --workdir=runs/glow_cifar10
Variants: (none) three levels of 32 steps, 512 channels, as in the paper, and as in its program Adamax (the paper has
Adam), ten epochs of warm-up, an average of the parameters over one epoch, and a channel that tells padding; fast: three
levels of 3 steps and 48 channels, Adam, no average, for a CPU; tiny.
Otherwise than in its program, the average is what is measured (there the parameters as they are), images are not moved
by up to a tenth, 5,000 are held out, the last level's prior is a standard normal without a mean and deviation of its
own, and the scales of actnorm are learned as they are, where there three times a parameter is the logarithm.
Expected: `fast` has 4.24 bits/dim on the test images after 1,800 steps, 13 minutes on two cores. The full
network wants several GPUs: batch 512.
"""

from dgm_jax.config import defaults, optimizer, shrink


def get_config(variant=''):
  if variant not in ('', 'fast', 'tiny'):
    raise ValueError(f"glow_cifar10 has no variant '{variant}'; it has fast and tiny")
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
  if variant == 'fast':
    config.model.network.update({'width': 48, 'steps': 3, 'memory': 'plain', 'unroll': 3})
    config.model.average = 0.0
    config.optimizer = {'model': optimizer(learning_rate=2e-3, warmup_steps=100, clip_norm=100.0)}
    config.update({'epochs': 0.0, 'steps': 1800, 'steps_per_call': 1, 'eval_every': 600, 'save_every': 300})
    config.update({'picture_every': 600, 'batch_size': 64})
  if variant == 'tiny':
    shrink(config)
    config.model.network.update({'width': 8, 'steps': 1, 'levels': 2})
    config.model.average = 0.5
  return config
