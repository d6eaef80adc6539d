"""NICE on MNIST.

Paper: Dinh et al. 2014, arXiv:1410.8516, table 1: 1980.50 nats after 1500 epochs (likelihood of pixels in [0, 1]).
Command: python train.py --config=configs/nice_mnist.py --workdir=runs/nice_mnist
then, since the paper's figure is of the parameters that validate best:
         python -m dgm_jax.evaluate --workdir=runs/nice_mnist --checkpoint=best
Variants: (none) as in the paper; fast: the scaling starts at the width of the data and the rate falls, for a CPU; tiny.
Expected: a full-covariance normal has 1471 nats (nll_nats = -1471). Ours, fast: 1671.9 nats; docs/results.md.
Cost: fast 44 minutes on two busy CPU cores.
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

FAST = {
  'model.network.start': 'data', 'optimizer.model.eps': 1e-8, 'optimizer.model.schedule': 'cosine', 'epochs': 16.0
}  # fmt: skip
VARIANTS = {
  '': {},
  'fast': FAST,
  'tiny': ({'model.network.hidden': (16,), 'model.network.start': 'data'}, shrink),
}


def get_config(variant=''):
  config = defaults()
  config.system = 'flow.nice'
  config.data.update({'name': 'mnist', 'preprocess': 'dequantize', 'valid_size': 10_000})
  config.model = {
    'network': {'hidden': (1000,) * 5, 'couplings': 4, 'start': 'zeros', 'memory': 'plain'}, 'noise': 'logistic',
    'alpha': 0.0, 'dequantization': 'uniform', 'dequantizer_width': 32, 'momentum': 0.99, 'l2': 0.0, 'temperature': 1.0,
  }  # fmt: skip
  config.optimizer = {'model': optimizer(learning_rate=1e-3, b1=0.9, b2=0.99, eps=1e-4)}
  config.update({'batch_size': 200, 'epochs': 1500.0, 'steps_per_call': 50, 'best': 'nll_nats'})
  config.update({'log_every': 50, 'eval_every': 500, 'save_every': 500, 'picture_every': 1000})
  return with_variant(config, VARIANTS, variant)
