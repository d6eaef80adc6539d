"""RealNVP on CIFAR-10.

Paper: Dinh et al. 2017, arXiv:1605.08803, table 1: 3.49 bits/dim.
Command: python train.py --config=configs/realnvp_cifar10.py --workdir=runs/realnvp_cifar10
Variants: (none) as in the paper; fast: small networks that see the checkerboard squeezed, for a
CPU; variational: with learned noise of the pixels; tiny.
Otherwise than in its program, images are not flipped, 5,000 are held out, the gains of convolutions start at one, and
the statistics after a coupling are of the pixels that it moves; there, zeros in the others' places count, too. The
colours of a checkerboard pass its network's first normalisation with the pixels; there they join them behind it.
Expected: `fast` has 4.23 bits/dim on the test images after 1,800 steps, 26 minutes on two cores.
The full network wants a GPU.
"""

from dgm_jax.config import defaults, optimizer, shrink


def get_config(variant=''):
  if variant not in ('', 'fast', 'variational', 'tiny'):
    raise ValueError(f"realnvp_cifar10 has no variant '{variant}'; it has fast variational tiny")
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
  if variant == 'variational':
    config.model.dequantization = 'variational'
  if variant == 'fast':
    config.model.network.update({'width': 24, 'blocks': 1, 'geometry': 'squeezed', 'memory': 'plain'})
    config.optimizer = {'model': optimizer(learning_rate=2e-3, clip_norm=100.0, warmup_steps=100)}
    config.update({'epochs': 0.0, 'steps': 1800, 'steps_per_call': 1, 'eval_every': 600, 'save_every': 300})
    config.update({'picture_every': 600, 'batch_size': 64})
  if variant == 'tiny':
    shrink(config)
    config.model.network.update({'width': 4, 'blocks': 0, 'scales': 1, 'memory': 'plain'})
    config.model.momentum = 0.5
    config.optimizer = {'model': optimizer(learning_rate=1e-3)}
  return config
