"""What a system can be asked: a view that is broken is found by the contract, one that lacks is one line."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from test_contract import ask, draw_and_measure, tiny

from dgm_jax import config as experiment
from dgm_jax import data, systems
from dgm_jax.core import State, Views, system
from dgm_jax.errors import UserError
from dgm_jax.evals import measuring
from dgm_jax.runs.subject import Subject
from dgm_jax.runtime import parallel
from dgm_jax.views import Canvases, Prior, find, require

SHAPE, CLASSES = (2, 2, 1), 3
LABELS = np.arange(12, dtype=np.int32) % CLASSES


def each(x, *shape):
  """Zeros [B, *shape] that depend on x, as a view's answers do."""
  return jnp.zeros((x.shape[0], *shape)) + 0 * x.sum()


PRIOR = Prior(
  sample=lambda key, state, n: jax.random.normal(key, (n, 2)), log_prob=lambda key, state, z: each(z), normal=False
)
ALL = {
  'encode': lambda key, state, x: each(x, 2),
  'decode': lambda key, state, z: each(z, *SHAPE),
  'posterior': lambda key, state, x: (each(x, 2), each(x, 2)),
  'prior': PRIOR,
  'reconstruct': lambda key, state, x: x,
  'mean_sample': lambda key, state, n: jnp.zeros((n, *SHAPE)),
  'row_sample': lambda key, state, n: jnp.zeros((n, *SHAPE)),
  'layers': lambda key, state, x: [(each(x, 2), each(x, 2))],
  'kl_per_dim': lambda key, state, x: each(x, 2),
  'log_prob': lambda key, state, x, labels=None: each(x),
  'log_prob_pixels': lambda key, state, x, labels=None: each(x, 2, 2),
  'log_prob_classes': lambda key, state, x: each(x, CLASSES),
  'bits': lambda key, state, nats: jnp.float32(nats),
  'draw': lambda key, state, n, labels=None, temperature=1.0: jnp.zeros((n, *SHAPE)),
  'complete': lambda key, state, image, mask, labels=None, temperature=1.0: image,
  'denoise': lambda key, state, x, deviation: x + 0 * deviation,
  'chains': lambda key, state, x: jnp.stack([x[None]] * 2),
  'causality': lambda key, state, x, first, labels=None: {'later': each(x), 'earlier': each(x)},
  'prior_leak': lambda key, state, x: {'log_det_error_nats': each(x)},
  'classes': lambda key, state, columns: jnp.zeros((CLASSES * columns, *SHAPE)),
  'critic': lambda key, state, x: each(x),
  'class_sweeps': lambda key, state: jnp.zeros((CLASSES, 10, 2)),
  'continuous_sweeps': lambda key, state: jnp.zeros((5, 10, 2)),
  'cluster': lambda key, state, x: each(x, CLASSES),
  'judge': lambda key, state, x: (each(x, CLASSES), each(x, 4)),
  'codes': lambda key, state, x: dict.fromkeys(('top', 'bottom'), each(x, 1, 1).astype('int32')),
  'image': lambda key, state, codes: each(next(iter(codes.values())), *SHAPE),
  'levels': lambda key, state, x: x[None],
  'gradient': lambda key, state, batch: batch['x'].sum(),
  'decompress': lambda key, state, x: x,
  'variations': lambda key, state, n: jnp.zeros((2, n, *SHAPE)),
  'flow_samples': lambda key, state, x, n: (jnp.zeros((x.shape[0], n, 2)), jnp.ones((x.shape[0], n, 2))),
  'log_likelihood': lambda key, state, x, z: each(x),
  'settle': lambda key, state, batches, truncation: state,
  'normalizer': lambda key, state: {'log_z': jnp.zeros(())},
  'gibbs': lambda key, state, n: jnp.zeros((2, n, *SHAPE)),
  'feature_codes': lambda key, state, x: {'block_0': each(x, 2, 2).astype('int32')},
  'emit': lambda key, state, z: each(z, *SHAPE),
  'map_latents': lambda key, state, z: each(z, 3),
  'styles': lambda key, state, w, psi: jnp.zeros((len(w), 6, 3)) + 0 * w.sum() + 0 * psi.sum(),
  'synthesize': lambda key, state, styles, number, strength: each(styles, *SHAPE),
  'compress': lambda key, state, x, steps, draw: (x, each(x, 2) + 0 * steps),
  'canvases': lambda key, state, x: Canvases(each(x[None], len(x), *SHAPE), None, each(x[None], len(x), 5)),
  'sample_canvases': lambda key, state, n: Canvases(jnp.zeros((1, n, *SHAPE)), None, jnp.zeros((1, n, 5))),
  'truncated': lambda key, state, n, psi: jnp.zeros((n, *SHAPE)),
}


def subject(monkeypatch=None, **changes):
  """A system that answers every question, but for the changes, on twelve images."""
  config = experiment.defaults()
  config.data.update({'shape': SHAPE, 'examples': 12, 'class_shares': (0.5, 0.25, 0.25), 'preprocess': 'scale'})
  config.update({'system': 'toy.toy', 'conditional': True})
  config.generated.samples, config.data.valid_size = 40, 1
  config.model = ConfigDict({'classes': CLASSES, 'vqvae': {'codes': 2}, 'standing': 1})
  split = data.Split('', 12, {'x': np.zeros((12, *SHAPE), np.uint8), 'y': LABELS})
  if monkeypatch:
    monkeypatch.setattr(data, 'load', lambda *_: split)
  evaluated = lambda key, state, batch: {'nll_nats': each(batch['x'])}
  made = system(None, None, evaluated, lambda key, state, n: jnp.zeros((n, *SHAPE)), **(ALL | changes))
  extra = {'critic_codebook': {'quantize_block_0': {'counts': jnp.ones(2)}}}
  return Subject(config, made, State(jnp.zeros((), jnp.int32), {}, {}, extra), split, parallel.mesh(1))


def test_a_system_that_answers_everything_keeps_the_contract(monkeypatch):
  assert set(ALL) == set(Views._fields)
  ask(subject())
  drawn, measured = draw_and_measure(subject(monkeypatch), monkeypatch)
  assert {'samples', 'classes', 'reconstructions', 'levels', 'interpolations', 'traversals'} <= drawn
  assert {'decompressions', 'variations', 'posterior', 'canvases', 'compression', 'gibbs'} <= drawn
  assert {'likelihood.nll', 'latent.units', 'surgery.surgery', 'codes.codes', 'generated.clusters'} <= measured
  assert {'codes.decompressions', 'codes.compression'} <= measured


class Broken(Exception):
  """What a view that is broken raises."""


def broken(*args, **kwargs):
  raise Broken


@pytest.mark.parametrize('name', sorted(ALL))
def test_a_view_that_raises_breaks_the_contract(name):
  signed = broken if name == 'prior' else _signed_like(ALL[name])
  with pytest.raises(Broken):
    ask(subject(**{name: PRIOR._replace(sample=_signed_like(PRIOR.sample)) if name == 'prior' else signed}))


@pytest.mark.parametrize('name', ['encode', 'decode', 'layers', 'log_prob', 'posterior', 'codes', 'image'])
def test_what_is_drawn_and_measured_asks_the_view_that_raises(name, monkeypatch):
  with pytest.raises(Broken):
    draw_and_measure(subject(monkeypatch, **{name: broken}), monkeypatch)


def test_a_view_of_another_signature_or_shape_breaks_the_contract():
  with pytest.raises(AssertionError):
    ask(subject(decode=lambda state, z: each(z, *SHAPE)))
  with pytest.raises(AssertionError):
    ask(subject(critic=lambda key, state, x: each(x, 1)))


def _signed_like(view):
  """A function of the view's arguments that raises."""

  def call(*args, **kwargs):
    raise Broken

  call.__wrapped__ = view
  return call


@pytest.mark.parametrize(
  ('lacks', 'measured'),
  [
    ('log_prob', 'likelihood.nll'),
    ('layers', 'latent.units'),
    ('prior.log_prob', 'surgery.surgery'),
    ('codes', 'codes.codes'),
  ],
)
def test_a_view_that_is_not_there_is_one_line(lacks, measured):
  with pytest.raises(UserError) as error:
    measuring.measure(subject(**{lacks.partition('.')[0]: None}), (measured,))
  assert str(error.value).startswith(f'toy.toy has no view {lacks}, which {measured} needs: leave')


@pytest.mark.parametrize(
  ('name', 'measured', 'lacks'),
  [
    ('vae_estimators:tiny', 'likelihood.nll', 'log_prob'),
    ('gan_mnist:tiny', 'likelihood.nll', 'log_prob'),
    ('gan_mnist:tiny', 'latent.units', 'layers'),
  ],
)
def test_a_measurement_that_does_not_fit_a_system_names_the_view(name, measured, lacks):
  config = tiny(name)
  with config.unlocked():
    config.data.update({'shape': (8, 8, 1), 'examples': 12})
  with pytest.raises(UserError, match=f'{config.system} has no view {lacks}, which {measured} needs'):
    measuring.measure(Subject(config, systems.build(config), None, None, None), (measured,))


def test_a_part_of_a_prior_counts_as_a_view():
  made = subject().system
  assert find(made, 'prior.log_prob') and not find(made, 'prior.normal')
  without = subject(prior=None).system
  with pytest.raises(UserError, match=r'toy has no view prior\.log_prob, which this needs'):
    require(without, 'toy', ('prior.log_prob',), 'this')
