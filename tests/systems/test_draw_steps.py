"""Steps of painters: divergences, noise, loops, one step by hand, codes, and settings that are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr
from playing import KEY, batch_of, begun, bernoulli, divergence, doubles, settings_of

from dgm_jax import systems
from dgm_jax.errors import UserError
from dgm_jax.internal.noise import standard_normal
from dgm_jax.models.conv_draw import ConvDrawCell
from dgm_jax.models.draw import DrawCell
from dgm_jax.systems.parts import painting

ATTENTION, CONV = 'draw_mnist:tiny_attention', 'conv_draw_mnist:tiny'


def constant(state, mean, deviation):
  """The state whose posterior has these parameters at every step."""
  head = state.params['model']['cell']['posterior']['Dense_0']
  bias = jnp.concatenate([jnp.asarray(mean), jnp.log(jnp.asarray(deviation))])
  head = {'kernel': jnp.zeros_like(head['kernel']), 'bias': bias}
  return with_cell(state, posterior={'Dense_0': head})


def cell_of(state):
  return state.params['model']['cell']


def with_cell(state, **changes):
  params = state.params['model']
  return state.replace(params={'model': params | {'cell': params['cell'] | changes}})


@pytest.mark.parametrize('name', ['draw_mnist:tiny', ATTENTION])
def test_divergences_of_constant_posteriors(name):
  system, state, batch = begun(settings_of(name, latents=(2,), steps=2))
  layers = jax.jit(system.views.layers)
  for mean, deviation, nats in (((0.5, -1.2), (0.8, 1.3), 0.9707792868), ((0.0, 0.0), (1.0, 1.0), 0.0)):
    measured = layers(KEY, constant(state, mean, deviation), batch['x'])
    assert len(measured) == 2
    for own, kl in measured:
      np.testing.assert_allclose(own, np.broadcast_to(mean, (4, 2)), rtol=1e-6)
      np.testing.assert_allclose(kl.sum(-1), np.full(4, nats), rtol=1e-6 if nats else 0)


def painting_of(settings):
  shape, model = tuple(settings.data.shape), settings.model
  if settings.system == 'draw.conv_draw':
    cell = ConvDrawCell(shape, model.features, model.kernel, *model.latents, jax.nn.sigmoid)
    return painting.build(settings, cell)
  cell = DrawCell(shape, model.hidden, *model.latents, model.read, model.write, jax.nn.sigmoid)
  return painting.build(settings, cell)


def test_steps_have_independent_noise():
  """If the posterior is N(0, 1), the latents are the noise: products of two steps have the mean 0."""
  settings = settings_of('draw_mnist:tiny', latents=(1,))
  state, x = constant(begun(settings)[1], (0.0,), (1.0,)), jnp.zeros((3000, 4, 4, 1))
  z = np.asarray(jax.jit(painting_of(settings).draw)(KEY, state, x).latents[0].z)
  assert z.shape == (3000, 3)
  np.testing.assert_allclose(z.T @ z / 3000, np.eye(3), atol=5 / np.sqrt(3000))


@pytest.mark.parametrize(
  ('name', 'ways'),
  [
    ('draw_mnist:tiny', ((False, False), (True, False), (False, True))),
    (ATTENTION, ((False, False), (True, True))),
    (CONV, ((False, True), (True, False))),
  ],
)
def test_a_loop_and_steps_written_out_are_the_same(name, ways):
  """Losses and gradients too, with activations computed once or twice."""
  found = []
  for unroll, remat in ways:
    settings = settings_of(name, unroll=unroll, remat=remat)
    model, (system, state, batch) = painting_of(settings), begun(settings)
    program = jax.jit(system.views.encode).lower(KEY, state, batch['x']).as_text()
    assert ('stablehlo.while' in program) != unroll

    def loss(params, model=model, state=state, batch=batch):
      terms = model.draw(KEY, state.replace(params=params), batch['x'], 2, True)
      return (terms.log_px_z - terms.kl).mean()

    found.append(jax.jit(jax.value_and_grad(loss))(state.params))
  for other in found[1:]:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found[0], other)


def test_one_step_on_the_whole_image_is_an_autoencoder():
  """An encoder of one gated layer, a normal, and a decoder of one gated layer, by hand."""
  settings = settings_of('draw_mnist:tiny', steps=1)
  system, state, batch = begun(settings)
  p = doubles(state.params['model']['cell'])
  x, gate = np.asarray(batch['x'], np.float64).reshape(4, -1), lambda y: 1 / (1 + np.exp(-y))
  layer = lambda name, h: h @ p[name]['kernel'] + p[name]['bias']

  def unit(y, cell):
    out, forget, keep, new = np.split(y, 4, -1)
    return gate(out) * np.tanh(gate(forget + 1) * cell + gate(keep) * np.tanh(new))

  rows = np.broadcast_to(p['start'][:, None], (4, 4, settings.model.hidden))
  error = x - gate(p['canvas'].ravel())
  h = unit(layer('encoder', np.concatenate([x, error, rows[2], rows[0]], -1)), rows[1])
  mean, log_std = np.split(h @ p['posterior']['Dense_0']['kernel'] + p['posterior']['Dense_0']['bias'], 2, -1)
  noise = np.asarray(standard_normal(jax.random.split(KEY, 1)[0], (4, 4)), np.float64)
  z = mean + np.exp(log_std) * noise
  logits = p['canvas'].ravel() + layer('output', unit(layer('decoder', np.concatenate([z, rows[2]], -1)), rows[3]))
  measured = jax.jit(system.evaluate)(KEY, state, batch)
  np.testing.assert_allclose(measured['kl_nats'], divergence(mean, 2 * log_std).sum(-1), rtol=1e-5)
  np.testing.assert_allclose(measured['reconstruction_nats'], -bernoulli(x, logits).sum(-1), rtol=1e-5)


def equations(jaxpr):
  """The number of equations, those of inner programs included."""
  count = 0
  for equation in jaxpr.eqns:
    count += 1
    for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda v: isinstance(v, (Jaxpr, ClosedJaxpr))):
      inner = value.jaxpr if isinstance(value, ClosedJaxpr) else value
      count += equations(inner) if isinstance(inner, Jaxpr) else 0
  return count


def test_a_step_has_as_many_equations_with_64_steps_as_with_8():
  def traced(**model):
    settings = settings_of(ATTENTION, **model)
    system, batch = systems.build(settings), batch_of(settings)
    state = jax.eval_shape(system.init, KEY, batch)
    return equations(jax.make_jaxpr(system.step)(KEY, state, batch).jaxpr)

  assert traced(steps=64) == traced(steps=8) > 100


def test_computing_activations_again_takes_half_the_memory_at_most():
  def held(remat):
    settings = settings_of(ATTENTION, (12, 12, 1), steps=64, remat=remat)
    model, (_, state, batch) = painting_of(settings), begun(settings, 16)
    loss = lambda params: model.draw(KEY, state.replace(params=params), batch['x'], None, True).log_px_z.mean()
    return jax.jit(jax.grad(loss)).lower(state.params).compile().memory_analysis().temp_size_in_bytes

  assert held(True) < 0.5 * held(False)


@pytest.mark.parametrize('name', [ATTENTION, CONV])
def test_codes_are_deviations_from_the_prior(name):
  system, state, batch = begun(settings_of(name))
  views, x = system.views, batch['x']
  code = jax.jit(views.encode)(KEY, state, x)
  assert code.shape == views.prior.sample(KEY, state, 4).shape and views.prior.normal
  image = jax.jit(views.reconstruct)(KEY, state, x)
  np.testing.assert_allclose(jax.jit(views.decode)(KEY, state, code), image, rtol=1e-5, atol=1e-6)
  layers = jax.jit(views.layers)
  per_step, other = layers(KEY, state, x), layers(jax.random.key(7), state, x)
  for (mean, _), (again, _) in zip(per_step, other, strict=True):  # units are active by x, not by what is drawn
    np.testing.assert_array_equal(mean, again)
  assert any((kl != own).any() for (_, kl), (_, own) in zip(per_step, other, strict=True))
  kl = np.concatenate([kl for _, kl in per_step], -1)
  np.testing.assert_allclose(jax.jit(views.kl_per_dim)(KEY, state, x), kl, rtol=1e-6)
  assert (kl > 0).all()


def test_equal_priors_and_posteriors_have_no_divergence():
  """Both heads have the same bias and nothing else."""
  system, state, batch = begun(settings_of(CONV))
  head = {name: 0 * leaf if name == 'kernel' else leaf for name, leaf in cell_of(state)['prior'].items()}
  state = with_cell(state, prior=head, posterior=head)
  for mean, kl in jax.jit(system.views.layers)(KEY, state, batch['x']):
    assert np.abs(mean).max() > 0.1
    np.testing.assert_array_equal(kl, np.zeros_like(kl))


@pytest.mark.parametrize('name', [ATTENTION, CONV])
def test_compressed_images_have_the_first_steps_of_their_own(name):
  """Nats are those of the steps that are kept, all of them those of the bound, and without any no image is its own."""
  settings = settings_of(name)
  (system, state, batch), count = begun(settings), settings.model.steps
  compress, x = jax.jit(system.views.compress), batch['x']
  images, nats = zip(*(compress(KEY, state, x, jnp.int32(t), 0) for t in range(count + 1)), strict=True)
  other, _ = compress(KEY, state, 1 - x, jnp.int32(0), 0)
  np.testing.assert_array_equal(images[0], other)
  draws = [compress(KEY, state, x, jnp.int32(t), 1)[0] for t in (0, count)]
  np.testing.assert_array_equal(draws[1], images[-1])
  assert np.abs(draws[0] - images[0]).max() > 1e-4
  for t in range(count + 1):
    np.testing.assert_allclose(nats[t], np.where(np.arange(count) < t, nats[-1], 0), rtol=1e-6)
  assert (nats[-1] > 0).all()
  np.testing.assert_allclose(nats[-1].sum(1), jax.jit(painting_of(settings).draw)(KEY, state, x).kl, rtol=1e-5)
  assert all(np.abs(one - two).max() > 1e-4 for one, two in zip(images[1:], images[:-1], strict=True))
  for steps in (count + 1, -1):
    with pytest.raises(UserError, match=f'compress keeps 0 to config.model.steps={count} steps, got {steps}: give'):
      system.views.compress(KEY, state, x, steps, 0)


@pytest.mark.parametrize(('likelihood', 'nats'), [('discretized_logistic', np.log(256)), ('gaussian', 0.0)])
def test_nats_of_an_image_are_bits_of_its_numbers(likelihood, nats):
  """256 levels of equal probability, or the density 1 on [0, 1] that they are dequantized to."""
  system, state, _ = begun(settings_of(CONV, likelihood=likelihood))
  np.testing.assert_allclose(system.views.bits(KEY, state, jnp.float32(16 * nats)), 8, rtol=1e-6)


def test_pixels_of_two_levels_of_equal_probability_have_one_bit():
  """Without weights the posterior is the prior and the canvas is black and white alike."""
  settings = settings_of(CONV, likelihood='discretized_logistic')
  settings.data.levels = 2
  system, state, batch = begun(settings)
  nothing = state.replace(params=jax.tree.map(jnp.zeros_like, state.params))
  measured = jax.jit(system.evaluate)(KEY, nothing, {'x': jnp.sign(batch['x'] - 0.5)})
  np.testing.assert_allclose(measured['bits_per_dim'], 1, rtol=1e-6)


def test_the_canvas_shows_the_mean_of_the_data_before_the_first_step():
  """With a deviation of a quarter, if pixels have one."""
  for likelihood in ('bernoulli', 'gaussian'):
    settings = settings_of('draw_mnist:tiny', likelihood=likelihood)
    system, batch = systems.build(settings), batch_of(settings)
    params = jax.jit(system.init)(KEY, batch).params['model']
    mean, canvas = np.asarray(batch['x']).mean(0), params['cell']['canvas']
    if likelihood == 'gaussian':
      np.testing.assert_allclose(canvas, mean, rtol=1e-5)
      np.testing.assert_allclose(params['spread'], [[2 * np.log(0.25)]], rtol=1e-6)
    else:
      np.testing.assert_allclose(jax.nn.sigmoid(canvas), np.clip(mean, 0.001, 0.999), rtol=1e-4)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'steps': 0}, 'config.model.steps must be at least 1, got 0'),
    ({'hidden': 0}, 'config.model.hidden must be at least 1, got 0'),
    ({'read': 5}, 'config.model.read=5 is no window of images of 4x6: give 2 to 4 pixels a side, or 0 for the whole'),
    ({'write': 1}, 'config.model.write=1 is no window of images of 4x6'),
    ({'latents': (3, 4)}, r'config.model.latents=\(3, 4\) must be one number, the same at each step'),
    ({'likelihood': 'poisson'}, "config.model.likelihood.*'poisson'"),
  ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
  with pytest.raises(UserError, match=message):
    systems.build(settings_of(ATTENTION, (4, 6, 1), **changes))


@pytest.mark.parametrize(
  ('shape', 'changes', 'message'),
  [
    ((4, 7, 1), {}, r'draw.conv_draw takes images of even sides, got config.data.shape=\(4, 7, 1\)'),
    ((4, 6, 1), {'steps': 0}, 'config.model.steps must be at least 1, got 0'),
    ((4, 6, 1), {'features': 0}, 'config.model.features must be at least 1, got 0'),
    ((4, 6, 1), {'kernel': 0}, 'config.model.kernel must be at least 1, got 0'),
    ((4, 6, 1), {'latents': ()}, r'config.model.latents=\(\) must be one number'),
  ],
)
def test_settings_of_convolutions_that_do_not_fit_are_refused(shape, changes, message):
  with pytest.raises(UserError, match=message):
    systems.build(settings_of(CONV, shape, **changes))
