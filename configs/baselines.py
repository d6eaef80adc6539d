"""The rows that tables of likelihoods begin with: uniform, pixel histograms, one multivariate normal.

Paper: van den Oord et al. 2016, arXiv:1601.06759, CIFAR-10: uniform 8.00, multivariate Gaussian 4.70 bits/dim.
Command: python train.py --config=configs/baselines.py:gaussian --workdir=runs/gaussian_cifar10
Variants: uniform histogram position_histogram gaussian; tiny_... of each. Another set: --config.data.name=mnist.
Expected: uniform 8.00, gaussian 4.64 (maximum likelihood, all 50,000 images), histogram 7.91, position_histogram 7.88
bits per dimension of the test set; one pass over the data, half a minute on two cores.
"""

from dgm_jax.config import defaults, shrink

KINDS = ('uniform', 'histogram', 'position_histogram', 'gaussian')
TINY = ('tiny_uniform', 'tiny_histogram', 'tiny_position_histogram', 'tiny_gaussian')


def get_config(variant='gaussian'):
  tiny, kind = variant.startswith('tiny_'), variant.removeprefix('tiny_') or 'gaussian'
  if kind not in KINDS:
    raise ValueError(f"baselines has no variant '{variant}'; it has {' '.join((*KINDS, *TINY))}")
  config = defaults()
  config.system = f'baseline.{kind}'
  dense = kind == 'gaussian'
  config.data.update({'name': 'cifar10', 'preprocess': 'dequantize' if dense else 'scale'})
  config.model = {'ridge': 0.0} if dense else {'levels': 256}
  config.update({'batch_size': 500, 'epochs': 1.0, 'steps_per_call': 10, 'init_examples': 8})
  config.update({'log_every': 10, 'eval_every': 0, 'save_every': 100, 'picture_every': 100})
  if tiny:
    shrink(config)
    if dense:
      config.model.ridge = 100.0  # fewer examples than would fill the covariance
  return config
