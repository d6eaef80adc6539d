"""The rows that tables of likelihoods begin with: uniform, pixel histograms, one multivariate normal.

Paper: van den Oord et al. 2016, arXiv:1601.06759, CIFAR-10: uniform 8.00, multivariate Gaussian 4.70 bits/dim.
Command: python train.py --config=configs/baselines.py:gaussian --workdir=runs/gaussian_cifar10
Variants: uniform histogram position_histogram gaussian; tiny_... of each. Another set: --config.data.name=mnist.
Cost: one pass over the data, half a minute on two cores.
Expected: uniform 8.00, gaussian 4.64 (maximum likelihood, all 50,000 images), histogram 7.91, position_histogram 7.88
bits per dimension of the test set (ours).
"""

from dgm_jax.config import defaults, shrink, with_variant

LEVELS = {'data.preprocess': 'scale', 'model': {'levels': 256}}
UNIFORM = LEVELS | {'system': 'baseline.uniform'}
HISTOGRAM = LEVELS | {'system': 'baseline.histogram'}
POSITION_HISTOGRAM = LEVELS | {'system': 'baseline.position_histogram'}
VARIANTS = {
  'gaussian': {},
  'uniform': UNIFORM,
  'histogram': HISTOGRAM,
  'position_histogram': POSITION_HISTOGRAM,
  'tiny_gaussian': ({'model.ridge': 100.0}, shrink),  # fewer examples than would fill the covariance
  'tiny_uniform': (UNIFORM, shrink),
  'tiny_histogram': (HISTOGRAM, shrink),
  'tiny_position_histogram': (POSITION_HISTOGRAM, shrink),
}
TINY = ('tiny_uniform', 'tiny_histogram', 'tiny_position_histogram', 'tiny_gaussian')  # the variants that tests run


def get_config(variant='gaussian'):
  config = defaults()
  config.system = 'baseline.gaussian'
  config.data.update({'name': 'cifar10', 'preprocess': 'dequantize'})
  config.model = {'ridge': 0.0}
  config.update({'batch_size': 500, 'epochs': 1.0, 'steps_per_call': 10, 'init_examples': 8})
  config.update({'log_every': 10, 'eval_every': 0, 'save_every': 100, 'picture_every': 100})
  return with_variant(config, VARIANTS, variant or 'gaussian')
