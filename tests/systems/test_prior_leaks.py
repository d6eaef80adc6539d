"""Whether `evaluate` sees that a prior of latents is no density: chains of MADE, maps of latents, two levels."""

import jax
import numpy as np
import pytest
from playing import KEY, begun, settings_of

from dgm_jax import systems
from dgm_jax.models import latent_maps
from dgm_jax.nn import made
from dgm_jax.systems.parts import two_levels


class Leaking:
  """A network whose outputs depend on all of its inputs."""

  def __init__(self, network):
    self.network = network

  def init(self, *args):
    return self.network.init(*args)

  def apply(self, params, x, *rest):
    return self.network.apply(params, x, *rest) + 0.1 * x.sum(tuple(range(1, x.ndim)), keepdims=True)


def leak(monkeypatch, name):
  """Takes the masks of a prior away."""
  if name.startswith('pixelvae'):
    build = two_levels.map_prior
    monkeypatch.setattr(two_levels, 'map_prior', lambda config: sound_but(build(config)))
  elif name == 'vlae_cifar10:tiny':
    network = latent_maps.MaskedMap
    monkeypatch.setattr(latent_maps, 'MaskedMap', lambda *args: Leaking(network(*args)))
  else:
    whole = made.masks
    monkeypatch.setattr(made, 'masks', lambda *args: [np.ones_like(mask) for mask in whole(*args)])


def sound_but(parts):
  return parts._replace(network=Leaking(parts.network))


def measured(name):
  """What the view says, the largest of each."""
  system, state, batch = begun(settings_of(name, (4, 4, 1)))
  found = jax.jit(system.views.prior_leak)(KEY, state, batch['x'])
  return {figure: np.abs(values).max() for figure, values in found.items()}


@pytest.mark.parametrize('name', ['af_vae_mnist:tiny', 'af_vae_mnist:tiny_maf', 'vlae_mnist:tiny', 'vlae_cifar10:tiny'])
def test_the_log_determinant_of_a_prior_is_that_of_its_jacobian(name, monkeypatch):
  assert measured(name)['log_det_error_nats'] < 1e-4
  leak(monkeypatch, name)
  assert measured(name)['log_det_error_nats'] > 1e-2


def test_a_map_of_latents_is_drawn_from_what_is_before(monkeypatch):
  found = measured('pixelvae_cifar10:tiny')
  assert found['gradient_by_later_latents'] == 0 < found['gradient_by_earlier_latents']
  leak(monkeypatch, 'pixelvae_cifar10:tiny')
  assert measured('pixelvae_cifar10:tiny')['gradient_by_later_latents'] > 1e-2


def test_a_normal_prior_cannot_leak():
  assert systems.build(settings_of('vae_mnist:tiny')).views.prior_leak is None
