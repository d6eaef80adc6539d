"""Layers of games with labels, against numbers worked out in double precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgm_jax import losses
from dgm_jax.nn.attention import ImageAttention
from dgm_jax.nn.norm import BatchNorm, ConditionalBatchNorm, directions, running, spectral
from dgm_jax.nn.quantize import FeatureQuantizer

KEY = jax.random.key(5)
x64 = functools.partial(jax.enable_x64, True)
# Rows are outputs, as in the papers.
W = np.array([[1, 2, -1, 0.5], [0, -1, 3, 2], [2, 1, 0, -1]])
U = np.full(3, 1 / np.sqrt(3))


def layer(kernel):
  return {'a': {'kernel': jnp.asarray(kernel)}}


def test_a_step_of_the_power_method_is_one_step():
  with x64():
    sigmas, u = [], layer(U)
    for _ in range(2):
      scaled, u = spectral(layer(W.T), u, 1.0)
      sigmas.append(float(W[0, 0] / scaled['a']['kernel'][0, 0]))
    _, first = spectral(layer(W.T), layer(U), 1.0)
  np.testing.assert_allclose(sigmas, [2.5412186462, 2.5955461978], rtol=1e-9)
  np.testing.assert_allclose(first['a']['kernel'], [0.5157158087, 0.6278279411, 0.5829830881], rtol=1e-9)


def test_the_power_method_ends_at_the_singular_value():
  random = np.random.default_rng(1).normal(size=(6, 4))
  with x64():
    for kernel, steps in ((W.T, 400), (random, 400)):
      at = directions(KEY, layer(kernel))
      scaled, _ = spectral(layer(kernel), at, 1.0, steps)
      np.testing.assert_allclose(np.linalg.svd(scaled['a']['kernel'])[1][0], 1, atol=1e-9)
      assert abs(np.linalg.svd(spectral(layer(kernel), at, 1.0)[0]['a']['kernel'])[1][0] - 1) > 1e-6


def test_the_slope_of_bounded_weights():
  """Miyato et al. 2018, equation 12."""
  slope = np.array([[1, 0, -1, 2], [0.5, 1, 0, -1], [0, -2, 1, 1]])
  with x64():
    found = jax.grad(lambda kernel: (spectral(layer(kernel), layer(U), 1.0)[0]['a']['kernel'] * slope.T).sum())(W.T)
  golden = [
    [0.5573269324, 0.1092099633, -0.2843020241, 0.8689314474],
    [0.3961828833, 0.5264632472, 0.1329512597, -0.2937985427],
    [0.1851821117, -0.6635692337, 0.5169667286, 0.4861030433],
  ]
  np.testing.assert_allclose(found.T, golden, rtol=1e-8)
  np.testing.assert_allclose((np.asarray(found) * W.T).sum(), 0, atol=1e-12)


def test_bounded_weights_do_not_know_their_scale():
  at = directions(KEY, layer(W.T.astype('f4')))
  one, _ = spectral(layer(W.T.astype('f4')), at, 1.0)
  np.testing.assert_allclose(
    spectral(layer(7 * W.T.astype('f4')), at, 1.0)[0]['a']['kernel'], one['a']['kernel'], rtol=1e-5
  )


def test_layers_may_be_free_of_a_bound():
  params = {'block': layer(W.T), 'twin': {'kernel': jnp.ones((2, 2))}}
  at = directions(KEY, params, ('twin',))
  assert set(at) == {'block'}
  np.testing.assert_array_equal(spectral(params, at, 1.0)[0]['twin']['kernel'], params['twin']['kernel'])


X = jnp.asarray([[1.0, 2], [3, -1], [0, 0], [-2, 3]])
LABELS = jnp.asarray([0, 1, 1, 0])
TABLES = {
  'gain': {'embedding': jnp.asarray([[0.5, -0.2], [0.1, 0.3]])},
  'shift': {'embedding': jnp.asarray([[0.2, 0.0], [-0.1, 0.4]])},
}
NORMED = [
  [0.6160245071, 0.5059634137], [1.4254231928, -1.2443810945], [-0.4050846386, -0.4221905473],
  [-1.8801225357, 1.0119268274],
]  # fmt: skip


def test_conditional_batch_norm():
  norm = ConditionalBatchNorm(2)
  y, seen = norm.apply({'params': TABLES}, X, LABELS, mutable=['batch_stats'])
  np.testing.assert_allclose(y, NORMED, rtol=1e-6)
  np.testing.assert_allclose(norm.apply({'params': TABLES} | seen, X[:2], LABELS[:2]), NORMED[:2], rtol=1e-6)
  # A vector in place of the label: of one-hot ones the layers are the tables.
  dense = {name: {'kernel': table['embedding']} for name, table in TABLES.items()}
  told = jnp.eye(2)[LABELS]
  np.testing.assert_allclose(norm.apply({'params': dense}, X, told, mutable=['batch_stats'])[0], NORMED, rtol=1e-6)
  image = norm.apply({'params': TABLES}, X[:, None, None], LABELS, mutable=['batch_stats'])[0]
  np.testing.assert_allclose(image[:, 0, 0], NORMED, rtol=1e-6)


def test_a_condition_of_zeros_is_plain_batch_norm():
  zeros = jax.tree.map(jnp.zeros_like, TABLES)
  plain = BatchNorm().apply({'params': {'scale': jnp.ones(2), 'bias': jnp.zeros(2)}}, X, mutable=['batch_stats'])[0]
  told = ConditionalBatchNorm(2).apply({'params': zeros}, X, LABELS, mutable=['batch_stats'])[0]
  np.testing.assert_allclose(told, plain, rtol=1e-6)


def test_attention_begins_as_the_identity_and_is_its_formula():
  """Zhang et al. 2019, equations 1 to 3."""
  x = jnp.asarray(np.random.default_rng(2).normal(size=(2, 4, 4, 8)), jnp.float32)
  layer = ImageAttention()
  params = jax.jit(layer.init)(KEY, x)['params']
  np.testing.assert_array_equal(layer.apply({'params': params}, x), x)
  y = layer.apply({'params': params | {'gain': jnp.float32(0.7)}}, x)
  of = lambda name: np.asarray(x, np.float64) @ np.asarray(params[name]['kernel'], np.float64)[0, 0]
  pooled = lambda h: h.reshape(2, 2, 2, 2, 2, -1).max((2, 4)).reshape(2, 4, -1)
  scores = of('query').reshape(2, 16, 1) @ pooled(of('key')).swapaxes(1, 2)
  weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
  found = weights @ pooled(of('value')) @ np.asarray(params['output']['kernel'], np.float64)[0, 0]
  np.testing.assert_allclose(y, x + 0.7 * found.reshape(x.shape), rtol=2e-5, atol=1e-5)


CODES = jnp.asarray([[0.0, 0], [1, 0], [0, 1], [2, 2]])
ROWS = jnp.asarray([[0.2, 0.1], [0.9, -0.2], [1.1, 0.3], [-0.1, 0.8], [0.1, -0.3], [0.3, 0.2]])[None]  # one example
FAR = 160_005.33
AFTER = {  # (decay, counts at the start) -> codes after a step
  (0.8, 1.0): [[0.0857144527, 0], [1.0000007576, 0.0166666793], [-0.0199999818, 0.9599991273], [1.9999931819] * 2],
  (0.8, 0.0): [[0.2000033333, 0], [3.0000249994, 0.0500004167], [-0.0999983334, 4.79992], [FAR, FAR]],
  (0.0, 1.0): [[0.2000006667, 0], [1.0000016667, 0.0500000833], [-0.0999996667, 0.7999973334], [0, 0]],
}


def quantizer(**changes):
  return FeatureQuantizer(4, 1.0, losses.codebook_vectors, **changes)


@pytest.mark.parametrize(('decay', 'start'), AFTER)
def test_codes_follow_their_vectors(decay, start):
  """Zhao et al. 2020, equations 6 and 7, and the program, whose counts begin at 0."""
  book = {'counts': jnp.full(4, start), 'sums': CODES}
  kept = ['codebook', 'commitment', 'codes']
  y, seen = quantizer(start=start).apply({'codebook': book}, ROWS, mutable=kept)
  np.testing.assert_array_equal(y, ROWS)
  np.testing.assert_array_equal(seen['codes']['codes'][0], [[0, 1, 1, 2, 0, 0]])
  np.testing.assert_array_equal(seen['codebook']['counts'], [3, 2, 1, 0])
  np.testing.assert_allclose(seen['commitment']['value'][0], [0.04], rtol=1e-6)
  new = running(book, seen['codebook'], decay)
  np.testing.assert_allclose(
    losses.codebook_vectors(new['counts'], new['sums']), AFTER[decay, start], rtol=2e-6, atol=1e-6
  )
  smoothed = new['sums'][:3] / losses.codebook_vectors(new['counts'], new['sums'])[:3]
  if (decay, start) == (0.8, 1.0):
    np.testing.assert_allclose(smoothed[:, 0], [1.3999972728, 1.1999990909, 1.0000009091], rtol=1e-5)
  np.testing.assert_allclose(losses.perplexity(seen['codes']['codes'][0], 4), 2.7494592732, rtol=1e-6)


def test_codes_that_no_vector_has_do_not_blur_the_others():
  """Counts from 0 throw unused codes to 80,000 times where they were: the near ones keep their digits."""
  random = np.random.default_rng(0)
  codes = np.concatenate([random.normal(size=(12, 3)), 9e4 * random.normal(size=(4, 3))])
  counts = np.array([1.0] * 12 + [0.0] * 4)
  given = {'counts': jnp.asarray(counts, jnp.float32), 'sums': jnp.asarray(codes * counts[:, None], jnp.float32)}
  rows = random.normal(size=(1, 500, 3))
  layer = FeatureQuantizer(16, 1.0, lambda counts, sums: jnp.asarray(codes, jnp.float32))
  found = layer.apply({'codebook': given}, jnp.asarray(rows, jnp.float32), mutable=['codes'])[1]['codes']['codes'][0]
  np.testing.assert_array_equal(found, np.square(rows[..., None, :] - codes).sum(-1).argmin(-1))


def test_what_commitment_and_codes_give_back():
  book = {'counts': jnp.ones(4), 'sums': CODES}

  def paid(x):
    return quantizer().apply({'codebook': book}, x, mutable=['commitment'])[1]['commitment']['value'][0].sum()

  slope = jax.grad(paid)(ROWS)[0]
  np.testing.assert_allclose(
    slope[jnp.asarray([0, 4])], [[0.0333333333, 0.0166666667], [0.0166666667, -0.05]], rtol=1e-5
  )
  fed = functools.partial(quantizer(feed=True).apply, {'codebook': book})
  np.testing.assert_allclose(fed(ROWS)[0, 1], CODES[1], rtol=1e-6)
  np.testing.assert_array_equal(jax.grad(lambda x: (fed(x) * ROWS).sum())(ROWS), ROWS)
  low = fed(ROWS.astype('bfloat16'))
  assert low.dtype == jnp.bfloat16


def test_a_codebook_starts_as_it_is_told_and_not_by_its_first_batch():
  variables = quantizer(start=0.0, deviation=0.1).init(KEY, jnp.ones((3, 2, 2, 50)))['codebook']
  np.testing.assert_array_equal(variables['counts'], np.zeros(4))
  assert 0.08 < float(variables['sums'].std()) < 0.12
