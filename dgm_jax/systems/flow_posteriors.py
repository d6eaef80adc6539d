"""Variational autoencoders with a flow: in the posterior (`nf_vae`, `iaf_vae`), or in the prior (`af_vae`)."""

from collections.abc import Sequence

from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax.core import System
from dgm_jax.systems.parts import bounds, priors, transformed

__all__ = ['af_vae', 'iaf_vae', 'nf_vae']


def nf_vae(config: ConfigDict) -> System:
  """Builds the system whose posterior is moved by planar, radial or Sylvester maps with parameters from the encoder.

  Reference: Rezende & Mohamed 2015, arXiv:1505.05770, equation 15 and section 4.2.
  """
  return _system(config, ('planar', 'radial', 'sylvester', 'diagonal'))


def iaf_vae(config: ConfigDict) -> System:
  """Builds the system whose posterior is moved by inverse autoregressive steps with a context from the encoder.

  Reference: Kingma et al. 2016, arXiv:1606.04934, algorithm 1.
  """
  return _system(config, ('iaf', 'diagonal'))


def af_vae(config: ConfigDict) -> System:
  """Builds the system whose prior is an autoregressive flow, trained together with the rest.

  Reference: Chen et al. 2017, arXiv:1611.02731, section 3.2 and equation 12.
  """
  return _system(config, tuple(transformed.POSTERIORS))


def _system(config: ConfigDict, allowed: Sequence[str]) -> System:
  """Returns the System of the parts and the bound that `config.model` names.

  Bounds that hold the parameters of q constant in log q(z) need a normal q(z|x): of the posteriors, 'diagonal' alone.
  """
  model = config.model
  experiment.one_of('config.model.posterior', model.get('posterior', 'diagonal'), allowed)
  posterior = transformed.by_name(config)
  prior = priors.by_name(config, model.latents[0], posterior)
  composed = bounds.compose(posterior, prior, transformed.decoder(config))
  return bounds.system(config, composed, 'elbo', bounds.neg_bound)
