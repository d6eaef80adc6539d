"""A step of a tiny experiment in which nobody moves, and what its losses are compared with, in NumPy."""

import importlib.util
import math
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgm_jax import core, systems

CONFIGS = pathlib.Path(__file__).parent.parent / 'configs'
KEY = jax.random.key(11)
HALF = 0.5 * math.log(2 * math.pi)
MODEL = ('model',)
FLOWS = ('nice', 'realnvp', 'realnvp_dense', 'glow', 'maf', 'iaf', 'planar')
PIXELS = ('pixelcnn', 'pixelrnn', 'gated_pixelcnn', 'pixelcnn_pp', 'pixelsnail', 'local_pixelcnn')
# Each system's players, whose losses test_players*.py compare with formulas: a new system belongs here and there.
TABLE = {
  'gan.gan': ('discriminator', 'generator'),
  'gan.dcgan': ('discriminator', 'generator'),
  'gan.improved_gan': ('discriminator', 'generator'),
  'gan.wgan': ('critic', 'generator'),
  'gan.wgan_gp': ('critic', 'generator'),
  'gan.infogan': ('discriminator', 'generator'),
  **{f'gan.{name}': ('discriminator', 'generator') for name in ('sngan', 'biggan', 'acgan', 'tac_gan', 'stylegan')},
  'semi_supervised.feature_matching': ('discriminator', 'generator'),
  'flow_posteriors.nf_vae': MODEL, 'flow_posteriors.iaf_vae': MODEL, 'flow_posteriors.af_vae': MODEL,
  'ladder.factorised': MODEL, 'ladder.bottom_up': MODEL, 'ladder.top_down': MODEL,
  'draw.draw': MODEL, 'draw.conv_draw': MODEL, 'discrete.discrete_vae': MODEL,
  'diffusion.deep_diffusion': MODEL, 'diffusion.ddpm': MODEL,
  'ladder.vdvae': MODEL, 'ladder.iaf': MODEL,
  'vae.vae': MODEL, 'vae.iwae': MODEL, 'vae.vamp': MODEL,
  'estimators.reparametrized': MODEL, 'estimators.score': MODEL, 'estimators.constant_baseline': MODEL,
  'estimators.optimal_baseline': MODEL, 'estimators.leave_one_out': MODEL, 'estimators.vimco': MODEL,
  'disentangle.beta_vae': MODEL, 'disentangle.capacity_vae': MODEL, 'disentangle.tc_vae': MODEL,
  'disentangle.dip_vae': MODEL, 'disentangle.factor_vae': ('model', 'discriminator'),
  'collapse.elbo': MODEL, 'collapse.annealing': MODEL, 'collapse.free_bits': MODEL, 'collapse.capacity': MODEL,
  'vq.vae': MODEL, 'vq.prior': ('top', 'bottom'),
  **{f'flow.{name}': MODEL for name in FLOWS},
  **{f'autoregressive.{name}': MODEL for name in PIXELS},
  'classifier.classifier': MODEL, 'classifier.resnet': MODEL, 'classifier.revnet': MODEL, 'classifier.irevnet': MODEL,
  'pixel_latents.vlae': MODEL, 'pixel_latents.pixel_vae': MODEL,
  'latent.deep_gmm': MODEL, 'latent.gmm': (),
  'baseline.uniform': (), 'baseline.histogram': (), 'baseline.position_histogram': (), 'baseline.gaussian': (),
}  # fmt: skip


class Play(NamedTuple):
  """What a player's loss is made of."""

  settings: Any
  state: core.State
  batch: dict
  key: jax.Array  # the player's
  after: core.State  # that the step leaves

  def measured(self):
    """What `evaluate` says of each example with the player's key."""
    system = systems.build(self.settings)
    return jax.tree.map(np.asarray, jax.jit(system.evaluate)(self.key, self.state, self.batch))

  @property
  def x(self):
    return np.asarray(self.batch['x'])


def settings_of(name, shape=(4, 4, 1), **model):
  """A variant 'file:tiny' of configs/ for images of a shape, its model changed."""
  stem, _, variant = name.partition(':')
  spec = importlib.util.spec_from_file_location(stem, CONFIGS / f'{stem}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  settings = module.get_config(variant)
  settings.data.update({'shape': shape, 'examples': 1000})
  settings.model.update(model)
  settings.steps_per_call = 1
  return settings


def batch_of(settings, n=4):
  """n images on the levels that the experiment's pixels have, and labels."""
  random, kind = np.random.default_rng(7), settings.data.preprocess
  x = random.integers(256, size=(n, *settings.data.shape)) / 255
  x = {'dynamic_binarize': x > 0.5, 'threshold': x > 0.5, 'scale_symmetric': 2 * x - 1}.get(
    kind, x * (0.99 if 'dequantize' in kind else 1)
  )
  return {'x': jnp.asarray(x, jnp.float32), 'y': jnp.asarray(np.arange(n) % 10)}


def filled(tree):
  """Arrays of the shapes of a tree, made of sines of a running number: no random number has to stay what it is."""

  def leaf(path, like):
    number = np.arange(math.prod(like.shape)) + 3.0 * len(jax.tree_util.keystr(path))
    if not jnp.issubdtype(like.dtype, jnp.floating):
      return jax.device_put(np.zeros(like.shape, like.dtype))
    name = getattr(path[-1], 'key', '')
    wave = np.sin(1.3 * number + 0.4).reshape(like.shape)
    start = 1.0 if name in POSITIVE else 0.0
    return jax.device_put(np.asarray(start + (0.3 if start else 0.5) * wave, like.dtype))

  return jax.tree_util.tree_map_with_path(leaf, tree)


POSITIVE = ('variance', 'counts', 'scale', 'length', 'weight')


def still(player, opt, key, state, batch):
  """In place of a descent: the loss, and the key that it was given."""
  value, (extra, metrics) = player.loss(key, state, batch)
  mine = {name: state.params[name] for name in player.owns}
  return mine, opt, extra, {'loss': value, 'key': jax.random.key_data(key)} | metrics


def begun(settings, n=4, step=3):
  """(system, state, batch) with a state that no random number has made."""
  system, batch = systems.build(settings), batch_of(settings, n)
  state = filled(jax.eval_shape(system.init, KEY, batch))
  return system, state.replace(step=jnp.int32(step)), batch


def played(settings, n=4, step=3, change=lambda state: state):
  """Metrics of the step, and the `Play` of a player by name."""
  system, state, batch = begun(settings, n, step)
  assert set(state.opt) == set(TABLE[settings.system])
  state = change(state)
  with pytest.MonkeyPatch.context() as monkeypatch:
    monkeypatch.setattr(core, '_descend_one', still)
    after, metrics = jax.jit(system.step)(KEY, state, batch)
  return metrics, lambda name: Play(settings, state, batch, jax.random.wrap_key_data(metrics[f'{name}/key']), after)


def once(function):
  """What a function of no arguments gives, as one program: op by op it would be as many."""
  return jax.jit(function)()


def softplus(x):
  return np.logaddexp(0, np.asarray(x, np.float64))


def bernoulli(x, logits):
  """log p of bits, of each."""
  return -x * softplus(-logits) - (1 - x) * softplus(logits)


def normal(x, mean, logvar):
  """Log-density of a normal, of each number."""
  return -HALF - 0.5 * logvar - 0.5 * (x - mean) ** 2 * np.exp(-logvar)


def divergence(mean, logvar):
  """KL of a normal from N(0, 1), of each number."""
  return 0.5 * (np.exp(logvar) + mean**2 - 1 - logvar)


def log_mean_exp(x, axis):
  top = x.max(axis, keepdims=True)
  return np.log(np.exp(x - top).mean(axis)) + top.squeeze(axis)


def log_softmax(x):
  x = np.asarray(x, np.float64)
  return x - np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True)) - x.max(-1, keepdims=True)


def flat(x):
  return np.asarray(x, np.float64).reshape(len(x), -1)


def doubles(tree):
  return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)
