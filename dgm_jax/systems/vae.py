"""Variational autoencoders.

`vae` is trained on the ELBO, `iwae` on the importance-weighted bound, `vamp` with a prior of pseudo-inputs.
"""

from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax.core import System
from dgm_jax.systems.parts import bounds, likelihoods, posteriors, priors

__all__ = ['iwae', 'vae', 'vamp']


def vae(config: ConfigDict) -> System:
  """Builds the system that maximises the mean ELBO of k samples, with the top layer's divergence in closed form.

  `config.model.bound`, if it exists, names another bound (`parts.bounds.BOUNDS`).

  Reference: Kingma & Welling 2014, arXiv:1312.6114, equation 10.
  """
  return bounds.system(config, _standard(config), 'elbo', bounds.neg_bound)


def iwae(config: ConfigDict) -> System:
  """Builds the system that maximises the importance-weighted bound of k samples.

  Reference: Burda et al. 2016, arXiv:1509.00519, equation 8.
  """
  experiment.require(
    'samples' in config.model, 'config.model.samples is missing: vae.iwae needs the number of samples of its bound'
  )
  return bounds.system(config, _standard(config), 'iwae', bounds.neg_bound)


def vamp(config: ConfigDict) -> System:
  """Builds the system that maximises the ELBO under the mixture of the posteriors of trained images.

  There are `config.model.pseudo_inputs` images. The divergence, taken at the samples, is weighted from 0 to 1 over
  `config.model.warmup` steps.

  Reference: Tomczak & Welling 2018, arXiv:1705.07120, equations 9 and 10.
  """
  model, (posterior, decoder) = config.model, _networks(config)
  experiment.require(len(model.latents) == 1, f'config.model.latents must be of one layer, got {model.latents}')
  experiment.require(
    model.likelihood != 'discretized_logistic',
    'config.model.likelihood=discretized_logistic has pixels in [-1, 1], pseudo-inputs are in [0, 1]: take another',
  )
  for key in ('pseudo_inputs', 'warmup'):
    experiment.require(key in model, f'config.model.{key} is missing, which vae.vamp needs: see configs/vamp_mnist.py')
  count = model.pseudo_inputs
  experiment.require(count >= 1, f'config.model.pseudo_inputs must be at least 1, got {count}')
  prior = priors.pseudo_inputs(posterior.normal, tuple(config.data.shape), count)
  bound = bounds.beta(bounds.ramp(config, 'warmup'))
  return bounds.system(config, bounds.compose(posterior, prior, decoder), bound, bounds.neg_bound)


def _standard(config: ConfigDict) -> bounds.Model:
  """Builds the model under the prior N(0, I)."""
  posterior, decoder = _networks(config)
  return bounds.compose(posterior, priors.standard(config.model.latents[-1]), decoder)


def _networks(config: ConfigDict) -> tuple[bounds.Posterior, bounds.Decoder]:
  """Builds posterior and decoder after `config.model`."""
  model = config.model
  experiment.require(
    len(model.hidden) == len(model.latents) >= 1,
    f'config.model.hidden={model.hidden} must list the layers of as many networks as there are stochastic layers in'
    f' config.model.latents={model.latents}',
  )
  settings = tuple(map(tuple, model.hidden)), tuple(model.latents), model.activation
  return posteriors.encoder(config, *settings), likelihoods.decoder(config, *settings)
