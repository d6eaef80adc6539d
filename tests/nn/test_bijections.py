"""Every bijection against automatic differentiation: log-determinant, inverse, and the gradient without activations."""

import functools
import math
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from dgm_jax.nn import bijections, coupling, made, spline
from dgm_jax.nn import reversible as rev
from dgm_jax.nn.norm import BatchNorm, running


class Net(nn.Module):
  """Two smooth layers, the second without a start at 0, so that nothing is trivial."""

  features: int

  @nn.compact
  def __call__(self, x):
    return 0.5 * nn.Dense(self.features)(jnp.tanh(nn.Dense(7)(x)))


class NormNet(nn.Module):
  """With statistics of the batch."""

  features: int

  @nn.compact
  def __call__(self, x):
    return 0.5 * nn.Dense(self.features)(jnp.tanh(BatchNorm()(nn.Dense(7)(x))))


def pair(*parts):
  return rev.chain(coupling.halves(), *parts, rev.invert(coupling.halves()))


def both_ways(network, elementwise):
  return rev.chain(coupling.coupling(network, elementwise, 0), coupling.coupling(network, elementwise, 1))


def masked(activation='tanh'):
  return lambda numbers: made.MADE((9, 8), numbers, activation)


def with_context(part):
  """The map of the first four of six dimensions, with the last two as its context."""
  halves = rev.permutation(lambda x: (x[:, :4], x[:, 4:]), lambda y: jnp.concatenate(y, -1))
  return rev.chain(halves, part, rev.on(0, bijections.reverse()), part, rev.invert(halves))


VECTOR, IMAGE = (6,), (4, 4, 2)
CASES = {
  'additive': (pair(coupling.coupling(Net, coupling.additive())), VECTOR),
  'affine': (pair(coupling.coupling(Net, coupling.affine(), 1)), VECTOR),
  'tanh_affine': (pair(coupling.coupling(Net, coupling.affine(jnp.tanh))), VECTOR),
  'sigmoid_affine': (pair(coupling.coupling(Net, coupling.sigmoid_affine())), VECTOR),
  'spline': (pair(both_ways(Net, coupling.spline(5, 2.0))), VECTOR),
  'norm_coupling': (pair(both_ways(NormNet, coupling.affine(jnp.tanh))), VECTOR),
  'even_odd': (
    rev.chain(coupling.even_odd(), coupling.coupling(Net, coupling.additive()), rev.invert(coupling.even_odd())),
    (5,),
  ),
  'checkerboard': (
    rev.chain(coupling.checkerboard(), both_ways(Net, coupling.affine()), rev.invert(coupling.checkerboard())),
    IMAGE,
  ),
  'squeeze': (rev.chain(coupling.squeeze(), pair(coupling.coupling(Net, coupling.affine()))), IMAGE),
  'scale': (bijections.scale(lambda x: -jnp.log(x.std(0))), IMAGE),
  'actnorm': (bijections.actnorm(), IMAGE),
  'batch_norm': (bijections.batch_norm(), IMAGE),
  'batch_norm_of_pixels': (bijections.batch_norm(pixels=2), (2, 2, 6)),
  'whitening': (bijections.whitening(), (3,)),
  'invertible_dense': (bijections.invertible_dense(), (2, 2, 5)),
  'logit': (rev.chain(bijections.shift_scale(0.5, 0.1), bijections.logit(0.05)), VECTOR),
  'planar': (rev.repeat(3, bijections.planar(1.5)), VECTOR),
  'planar_of_the_paper': (rev.repeat(2, bijections.planar(1.5, False)), VECTOR),
  'inverse_planar': (rev.invert(bijections.planar(1.5)), VECTOR),
  'radial': (bijections.radial(), VECTOR),
  'sylvester': (rev.repeat(2, bijections.sylvester(3, 0.7)), VECTOR),
  'autoregressive': (made.autoregressive(masked(), coupling.affine(jnp.tanh)), VECTOR),
  'autoregressive_spline': (made.autoregressive(masked(), coupling.spline(4, 2.0)), VECTOR),
  'inverse_autoregressive': (rev.invert(made.autoregressive(masked(), coupling.affine(jnp.tanh))), VECTOR),
  'gated': (made.autoregressive(masked(), coupling.gated()), VECTOR),
  'conditioned': (with_context(made.conditioned(masked(), coupling.gated())), VECTOR),
  'fixed_point': (made.autoregressive(masked(), coupling.gated(), by_fixed_point=True), VECTOR),
  'multiscale': (
    rev.chain(
      coupling.squeeze(), bijections.actnorm(), coupling.halves(), coupling.coupling(Net, coupling.affine()),
      rev.on(0, pair(both_ways(Net, coupling.additive()))),
    ),
    IMAGE,
  ),
  'repeat': (rev.repeat(3, rev.chain(bijections.actnorm(), pair(both_ways(Net, coupling.affine())))), VECTOR),
}  # fmt: skip
FIXED = {'invertible_dense': ('order', 'sign'), 'whitening': ('axes', 'variances')}  # what is not trained
WITH_STATISTICS = ('norm_coupling', 'batch_norm', 'batch_norm_of_pixels')


class Made(NamedTuple):
  """A bijection with parameters away from their start, in float64, on a batch of four."""

  part: rev.Bijection
  params: Any
  stats: Any
  x: Any


@functools.cache
def built(name, batch):
  """Parameters, statistics and examples as NumPy arrays of float64, made by one program."""
  part, shape = CASES[name]

  def make():
    x = jax.random.normal(jax.random.key(1), (batch, *shape), 'float64')
    params = part.init(jax.random.key(0), x)
    flat, back = ravel_pytree(jax.tree.map(lambda p: p.astype('float64'), params))
    moved = jax.tree.map(
      lambda p, q: p if name in FIXED and _fixed(params, p, FIXED[name]) else q,
      params, back(flat + 0.2 * jax.random.normal(jax.random.key(2), flat.shape)),
    )  # fmt: skip
    return moved, part.forward(moved, None, x)[2], x

  with jax.enable_x64(True):
    return jax.device_get(jax.jit(make)())


def build(name, dtype='float64', batch=4):
  cast = lambda tree: jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf, dtype)), tree)
  with jax.enable_x64(True):
    return Made(CASES[name][0], *map(cast, built(name, batch)))


def _fixed(params, leaf, names):
  return any(leaf is params.get(name) for name in names)


@pytest.fixture(params=CASES)
def name(request):
  return request.param


def test_the_log_determinant_is_that_of_the_jacobian(name):
  with jax.enable_x64(True):
    m = build(name)

    def flat(one):  # of one example, with the statistics of its batch held fixed
      return ravel_pytree(m.part.forward(m.params, m.stats, one[None])[0])[0]

    @jax.jit
    def both(x):
      jacobians = jax.vmap(jax.jacfwd(flat))(x)
      sizes = jacobians.reshape(x.shape[0], -1, math.prod(x.shape[1:]))
      return m.part.forward(m.params, m.stats, x)[1], jnp.linalg.slogdet(sizes)[1]

    claimed, true = both(m.x)
    np.testing.assert_allclose(claimed, true, atol=1e-10)
    if name not in ('additive', 'even_odd'):
      assert np.abs(claimed).max() > 1e-2


@pytest.mark.parametrize(('dtype', 'tolerance'), [('float64', 1e-11), ('float32', 1e-5)])
def test_the_inverse_undoes_the_map_and_its_log_determinant(name, dtype, tolerance):
  with jax.enable_x64(dtype == 'float64'):
    m = build(name, dtype)

    @jax.jit
    def there_and_back(params, stats, x):
      y, log_det, _ = m.part.forward(params, stats, x)
      return y, log_det, *m.part.inverse(params, stats, y)

    y, log_det, x, back = there_and_back(m.params, m.stats, m.x)
    assert {leaf.dtype for leaf in jax.tree.leaves((x, y, log_det, back))} == {jnp.dtype(dtype)}
    np.testing.assert_allclose(x, m.x, atol=tolerance)
    np.testing.assert_allclose(back, -log_det, atol=10 * tolerance)


@pytest.mark.parametrize(('dtype', 'tolerance'), [('float64', 1e-9), ('float32', 1e-5)])
def test_the_gradient_without_activations_is_that_of_automatic_differentiation(name, dtype, tolerance):
  with jax.enable_x64(dtype == 'float64'):
    m = build(name, dtype)

    def gradient(part, *args):
      def value(params, x):
        y, log_det, _ = part.forward(params, None, x)
        return sum((jnp.sin(leaf + 0.3)).mean() for leaf in jax.tree.leaves(y)) + (log_det**2).mean()

      return jax.grad(value, (0, 1))(*args)

    both = jax.jit(lambda *args: (gradient(m.part, *args), gradient(rev.reversible(m.part), *args)))
    plain, ours = jax.device_get(both(m.params, m.x))
    size = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(plain))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=tolerance * max(1.0, size)), ours, plain)


def test_statistics_are_seen_once_and_those_given_are_used():
  for name in WITH_STATISTICS:
    m = build(name, 'float32')
    seen = rev.reversible(m.part).forward(m.params, None, m.x)[2]
    chex.assert_trees_all_equal(seen, m.part.forward(m.params, None, m.x)[2])
    one = m.part.forward(m.params, m.stats, m.x[:1])[0]
    np.testing.assert_allclose(one, m.part.forward(m.params, m.stats, m.x)[0][:1], atol=1e-6)


def test_running_statistics_are_a_moving_average():
  np.testing.assert_allclose(running({'a': jnp.ones(2)}, {'a': jnp.full(2, 5.0)}, 0.9)['a'], 1.4)


def test_batch_norm_normalises_by_the_batch_and_then_by_what_it_is_given():
  x = 3 + 2 * jax.random.normal(jax.random.key(0), (500, 3))
  module = BatchNorm(epsilon=0.0)
  variables = module.init(jax.random.key(0), x)
  y, changed = module.apply({'params': variables['params']}, x, mutable=['batch_stats'])
  np.testing.assert_allclose(y.mean(0), 0, atol=1e-5)
  np.testing.assert_allclose(y.std(0), 1, atol=1e-5)
  np.testing.assert_allclose(changed['batch_stats']['variance'], x.var(0), rtol=1e-5)
  given = {'params': variables['params'], 'batch_stats': {'mean': jnp.ones(3), 'variance': jnp.full(3, 4.0)}}
  np.testing.assert_allclose(module.apply(given, x), (x - 1) / 2, rtol=1e-5, atol=1e-6)


def test_actnorm_starts_with_mean_zero_and_variance_one():
  x = 5 + 3 * jax.random.normal(jax.random.key(0), (50, 4, 4, 3))
  part = bijections.actnorm()
  y, _, _ = part.forward(part.init(jax.random.key(0), x), None, x)
  np.testing.assert_allclose(y.mean((0, 1, 2)), 0, atol=1e-5)
  np.testing.assert_allclose(y.var((0, 1, 2)), 1, atol=1e-5)


def test_a_random_rotation_starts_with_log_determinant_zero():
  part, x = bijections.invertible_dense(), jax.random.normal(jax.random.key(0), (3, 2, 2, 8))
  y, log_det, _ = part.forward(part.init(jax.random.key(3), x), None, x)
  np.testing.assert_allclose(log_det, 0, atol=1e-5)
  np.testing.assert_allclose(jnp.square(y).sum(-1), jnp.square(x).sum(-1), rtol=1e-5)


@pytest.mark.parametrize('name', ['even_odd', 'checkerboard', 'squeeze'])
def test_permutations_return_every_bit(name):
  part = getattr(coupling, name)()
  x = jax.random.normal(jax.random.key(0), (2, 7) if name == 'even_odd' else (2, 6, 4, 3))
  y = part.forward({}, None, x)[0]
  assert sorted(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(y)])) == sorted(np.ravel(x))
  np.testing.assert_array_equal(part.inverse({}, None, y)[0], x)


def test_the_halves_of_a_checkerboard_are_its_two_colours():
  i, j = np.indices((4, 6))
  x = jnp.asarray((i + j) % 2, jnp.float32).reshape(1, 4, 6, 1)
  even, odd = coupling.checkerboard().forward({}, None, x)[0]
  assert (even == 0).all()
  assert (odd == 1).all()


@pytest.mark.parametrize('hidden', [(9,), (9, 8)])
def test_a_masked_network_sees_earlier_dimensions_and_all_of_them(hidden):
  with jax.enable_x64(True):
    module = made.MADE(hidden, 2, 'tanh')
    params = module.init(jax.random.key(0), jnp.zeros((1, 6)))['params']
    params = jax.tree.map(lambda p: jax.random.normal(jax.random.key(5), p.shape, 'float64'), params)
    x = jax.random.normal(jax.random.key(1), (6,), 'float64')
    jacobian = jax.jacfwd(lambda x: module.apply({'params': params}, x[None])[0])(x).reshape(2, 6, 6)
    for one in jacobian:
      assert (one[np.triu_indices(6)] == 0).all()
      assert (one[np.tril_indices(6, -1)] != 0).all()


def test_a_spline_at_zero_is_the_identity_and_smooth_at_its_ends():
  elementwise, x = coupling.spline(6, 3.0), jnp.linspace(-5, 5, 201).reshape(-1, 1)
  y, log_det = elementwise.forward(jnp.zeros((201, 17)), x)
  np.testing.assert_allclose(y, x, atol=1e-5)
  np.testing.assert_allclose(log_det, 0, atol=1e-5)


def grid(reach, n):
  line = jnp.linspace(-reach, reach, n)
  return jnp.stack(jnp.meshgrid(line, line), -1).reshape(-1, 2), float((line[1] - line[0]) ** 2)


@pytest.mark.parametrize(
  'part',
  [
    pair(both_ways(Net, coupling.affine(jnp.tanh))), pair(both_ways(Net, coupling.spline(5, 3.0))),
    rev.repeat(2, bijections.planar(1.0)), bijections.radial(),
    made.autoregressive(masked(), coupling.affine(jnp.tanh)),
  ],
  ids=['affine', 'spline', 'planar', 'radial', 'autoregressive'],
)  # fmt: skip
def test_a_density_of_two_dimensions_integrates_to_one(part):
  x, cell = grid(12.0, 501)
  params = part.init(jax.random.key(0), x[:4])
  params = jax.tree.map(lambda p: p + 0.3 * jax.random.normal(jax.random.key(4), p.shape), params)

  @jax.jit
  def mass(x):
    z, log_det, _ = part.forward(params, None, x)
    return jnp.exp(-0.5 * jnp.square(z).sum(1) - math.log(2 * math.pi) + log_det).sum() * cell

  assert abs(float(mass(x)) - 1) < 1e-3


def test_an_autoregressive_map_of_many_dimensions_is_undone_though_unfound_ones_would_overflow():
  x = jax.random.normal(jax.random.key(1), (4, 196))
  part = made.autoregressive(lambda numbers: made.MADE((196,), numbers), coupling.affine())
  rng = np.random.default_rng(0)
  shake = lambda p: p + np.asarray(0.125 * rng.normal(size=p.shape), p.dtype)
  params = jax.tree.map(shake, jax.jit(part.init)(jax.random.key(0), x))
  y = jax.jit(part.forward)(params, None, x)[0]
  np.testing.assert_allclose(jax.jit(part.inverse)(params, None, y)[0], x, atol=1e-4)


def test_a_steep_spline_is_undone_within_its_interval():
  rng = np.random.default_rng(0)
  knots = jax.jit(spline.knots, static_argnums=1)(np.float32(rng.normal(size=(50_000, 23)) * 30), 4.0)
  x = np.float32(rng.uniform(-4, 4, 50_000))
  for y in (jax.jit(spline.forward)(knots, x)[0], np.nextafter(knots.y[:, 3], np.float32(4))):
    back, log_slope = jax.jit(spline.inverse)(knots, y)
    assert np.isfinite(log_slope).all() and (np.abs(back) <= 4).all()


@pytest.mark.parametrize(
  'layer', [coupling.coupling(Net, coupling.affine()), coupling.swap(), rev.on(1, bijections.logit(0.1))]
)
def test_an_array_that_is_no_pair_is_refused(layer):
  """Two rows of a batch must not be taken for two halves."""
  x = jnp.ones((2, 4))
  with pytest.raises(ValueError, match=r'takes a pair .* put halves\(\) in front of it'):
    layer.forward(layer.init(jax.random.key(0), x), None, x)


def test_eighty_radial_maps_with_a_small_start_hardly_move_normal_noise():
  key, z = jax.random.key(0), jax.random.normal(jax.random.key(1), (512, 40))
  y, total = z, 0
  for number in range(80):
    part = bijections.radial(0.01)
    y, log_det, _ = part.forward(part.init(jax.random.fold_in(key, number), z), {}, y)
    total = total + log_det
  assert 0.95 < float(y.std()) < 1.05
  assert abs(float(total.mean())) < 2


def test_a_planar_map_at_its_bound_has_a_finite_log_determinant():
  """Where w u is near -1, rounding must not make 1 + (1 - tanh^2) w u negative."""
  w = jax.random.normal(jax.random.key(0), (40,))
  params = {'w': w, 'u': -24 * w / (w @ w), 'b': jnp.zeros(())}
  x = jax.random.normal(jax.random.key(1), (2000, 40))
  x = x - (x @ w)[:, None] * w[None] / (w @ w)  # on the plane
  log_det = np.asarray(bijections.planar().forward(params, {}, x)[1])
  assert np.isfinite(log_det).all()
  assert (log_det < 0).all()


def test_whitening_leaves_independent_dimensions_of_variance_one_and_is_symmetric():
  rng = np.random.default_rng(0)
  x = (rng.normal(size=(4000, 5)) @ rng.normal(size=(5, 5)) + rng.normal(size=5)).astype('f4')
  part = bijections.whitening()
  params = part.init(jax.random.key(0), jnp.asarray(x))
  y, log_det, _ = part.forward(params, None, jnp.asarray(x))
  np.testing.assert_allclose(np.cov(np.asarray(y), rowvar=False, bias=True), np.eye(5), atol=2e-4)
  np.testing.assert_allclose(y.mean(0), 0, atol=1e-4)
  w, v = np.linalg.eigh(np.cov(x.astype('f8'), rowvar=False, bias=True))
  np.testing.assert_allclose(y, (x - x.mean(0)) @ (v / np.sqrt(w) @ v.T), atol=1e-3)
  np.testing.assert_allclose(log_det, -0.5 * np.log(w).sum(), rtol=1e-4)


def test_what_never_varies_is_whitened_by_a_floor():
  x = jnp.asarray(np.random.default_rng(0).normal(size=(50, 3)) * np.array([2.0, 1.0, 0.0]), jnp.float32)
  params = bijections.whitening().init(jax.random.key(0), x)
  np.testing.assert_allclose(params['variances'][0], 1e-7 * params['variances'][2], rtol=1e-3)


def test_whitening_is_not_trained():
  part, x = bijections.whitening(), jax.random.normal(jax.random.key(0), (20, 3))
  params = part.init(jax.random.key(0), x)
  slopes = jax.grad(lambda params: sum(leaf.sum() for leaf in part.forward(params, None, x**2)[:2]))(params)
  assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(slopes))
