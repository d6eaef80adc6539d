"""RealNVP with dense couplings on MNIST, in logit space as the table of MAF has it.

Paper: Papamakarios et al. 2017, arXiv:1705.07057, table 2, logit space (here nll_logit_nats, positive): RealNVP of 5
couplings -1323.2 nats, of 10 -1370.7; MAF of 5 layers -1300.5; a normal -1366.9. Two hidden layers of 1024 are settings
of the released program. Differences from it: docs/results.md.
Command: python train.py --config=configs/realnvp_mnist.py --workdir=runs/realnvp_mnist
then: python -m dgm_jax.evaluate --workdir=runs/realnvp_mnist --checkpoint=best
Variants: (none) 5 couplings; fast: 8 of 512 hidden units, for a CPU; maf: masked autoregressive; tiny.
Expected: ours, fast, 1287.4 nats after 2,000 of its then 5,400 steps. Cost: 42 minutes on two busy CPU cores.
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

NETWORK = {'hidden': (1024, 1024), 'couplings': 5, 'activation': 'relu', 'elementwise': 'affine', 'memory': 'plain'}
FAST = {
  'model.network': NETWORK | {'hidden': (512, 512), 'couplings': 8, 'unroll': 4},
  'optimizer.model': optimizer(learning_rate=1e-3, schedule='cosine', warmup_steps=200, clip_norm=100.0),
  'batch_size': 200, 'epochs': 20.0,
}  # fmt: skip
MAF = {
  'system': 'flow.maf', 'model.momentum': 1 - 1 / 500,
  'model.network': {'hidden': (1024, 1024), 'layers': 5, 'activation': 'relu', 'unroll': 1},
}  # fmt: skip
TINY_NETWORK = {
  'model.network.hidden': (16,), 'model.network.couplings': 2, 'model.network.memory': 'reversible',
  'model.alpha': 0.05, 'model.dequantization': 'variational', 'model.dequantizer_width': 4,
}  # fmt: skip
VARIANTS = {
  '': {},
  'fast': FAST,
  'maf': MAF,
  'tiny': (TINY_NETWORK, shrink),
}


def get_config(variant=''):
  config = defaults()
  config.system = 'flow.realnvp_dense'
  config.data.update({'name': 'mnist', 'preprocess': 'dequantize', 'valid_size': 10_000})
  config.model = {
    'network': NETWORK, 'noise': 'normal', 'alpha': 1e-6, 'dequantization': 'uniform', 'dequantizer_width': 32,
    'momentum': 0.99, 'l2': 0.0, 'temperature': 1.0,
  }  # fmt: skip
  config.optimizer = {'model': optimizer(learning_rate=1e-4)}
  config.update({'batch_size': 100, 'epochs': 100.0, 'steps_per_call': 100, 'best': 'nll_nats'})
  config.update({'log_every': 100, 'eval_every': 500, 'save_every': 500, 'picture_every': 1000})
  return with_variant(config, VARIANTS, variant)
