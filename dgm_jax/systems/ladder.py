"""Hierarchical variational autoencoders: a ladder of levels, and three orders in which they are inferred."""

from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax.core import System
from dgm_jax.models import ladder as networks
from dgm_jax.nn.blocks import VARIANCES
from dgm_jax.systems.parts import bounds, ladders, posteriors
from dgm_jax.systems.parts.likelihoods import LIKELIHOODS

__all__ = ['bottom_up', 'factorised', 'top_down']


def factorised(config: ConfigDict) -> System:
  """Builds the system whose posterior is a product over levels, each computed from x alone.

  With levels 1 to L its bound is E log p(x|z_1) less the sum over l of E KL(q(z_l|x) || p(z_l|z_(l+1))), where the top
  level has the prior p(z_L).

  Reference: Gulrajani et al. 2017, arXiv:1611.05013, section 3.2, of posteriors that do not depend on one another.
  """
  return _system(config, 'factorised')


def bottom_up(config: ConfigDict) -> System:
  """Builds the system whose posterior samples each level given the level below.

  Reference: Burda et al. 2016, arXiv:1509.00519, equation 1.
  """
  return _system(config, 'bottom_up')


def top_down(config: ConfigDict) -> System:
  """Builds the system whose posterior samples each level given x and the level above.

  `config.model.merge` says how what x tells of a level is merged with the prior given the level above.

  Reference: Sonderby et al. 2016, arXiv:1602.02282, equations 13 to 18.
  """
  return _system(config, 'top_down')


def _system(config: ConfigDict, order: str) -> System:
  """Returns the System of dense layers for an order of inference."""
  model, shape = config.model, tuple(config.data.shape)
  _check(config, order)
  likelihood = experiment.choose('config.model.likelihood', model.likelihood, LIKELIHOODS)(config.data.levels)
  module = networks.Ladder(
    tuple(map(tuple, model.hidden)), tuple(model.latents), shape, likelihood.num_parameters, order,
    model.get('merge', 'precision'), model.activation, model.norm, model.variance, config.dtype,
  )  # fmt: skip

  def set_bias(decoder, x):
    bias = likelihood.init_bias(x.mean(0).ravel()).ravel()
    return decoder | {'output': decoder['output'] | {'bias': bias}}

  shapes = [(size,) for size in model.latents]
  closed = order != 'bottom_up' or len(shapes) == 1
  composed = ladders.compose(ladders.Ladder(module, shapes, likelihood, shape, set_bias, closed))

  def figures(terms):
    return bounds.neg_bound(terms) | ladders.kl_by_level(terms)

  return bounds.system(config, composed, 'elbo', figures)


def _check(config: ConfigDict, order: str) -> None:
  """Refuses levels and widths of different length, and parts that do not exist.

  Raises:
    UserError: it names the setting.
  """
  model = config.model
  experiment.require(
    len(model.hidden) == len(model.latents) >= 1,
    f'config.model.hidden={model.hidden} must list the widths of as many levels as config.model.latents='
    f'{model.latents} has',
  )
  posteriors.check_network(config, model.latents, model.activation)
  experiment.one_of('config.model.variance', model.variance, VARIANCES)
  experiment.require(isinstance(model.norm, bool), f'config.model.norm must be True or False, got {model.norm!r}')
  experiment.require(
    not model.norm or model.activation not in ('gated', 'maxout'),
    f'config.model.activation={model.activation} is without batch normalisation: set config.model.norm=False',
  )
  experiment.require(
    ('merge' in model) == (order == 'top_down'),
    f'config.model.merge is of ladder.top_down alone, and ladder.top_down needs it: {", ".join(networks.MERGES)}',
  )
  if order == 'top_down':
    experiment.one_of('config.model.merge', model.merge, networks.MERGES)
