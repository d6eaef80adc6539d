"""Bijections of one array: scalings, normalisations, whitening, 1x1 convolutions, the logit, planar and similar maps.

Axes: B batch, ... positions, C channels; D = C where there are no positions.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from dgm_jax.internal import matrices
from dgm_jax.internal.roots import root
from dgm_jax.nn.coupling import event_sum
from dgm_jax.nn.reversible import Bijection, bijection, no_params, permutation, zeros

__all__ = [
  'actnorm', 'batch_norm', 'flatten', 'invertible_dense', 'logit', 'planar', 'radial', 'reverse', 'scale', 'shift',
  'shift_scale', 'sylvester', 'whitening',
]  # fmt: skip


def _zero_start(x: jax.Array) -> jax.Array:
  """Returns zeros in the shape of an example."""
  return jnp.zeros(x.shape[1:])


def scale(start: Callable = _zero_start) -> Bijection:
  """Returns the layer y = x exp(s), with one s for every dimension of an example.

  Args:
    start: first batch -> initial s.

  Reference: Dinh et al. 2014, arXiv:1410.8516, section 3.3.
  """

  def init(key, x):
    del key
    return {'log_scale': start(x)}

  def forward(params, stats, x):
    s = params['log_scale'][None]
    return x * jnp.exp(s), _same(x, s.sum()), {}

  def inverse(params, stats, y):
    s = params['log_scale'][None]
    return y * jnp.exp(-s), _same(y, -s.sum())

  return bijection(init, forward, inverse)


def shift() -> Bijection:
  """Returns the layer y = x + bias, with one bias for every dimension of an example, initially 0."""

  def init(key, x):
    del key
    return {'bias': jnp.zeros(x.shape[1:])}

  def forward(params, stats, x):
    del stats
    return x + params['bias'][None], zeros(x), {}

  def inverse(params, stats, y):
    del stats
    return y - params['bias'][None], zeros(y)

  return bijection(init, forward, inverse)


def actnorm() -> Bijection:
  """Returns the layer y = (x + bias) exp(s) by channel.

  Initially every channel of the first batch has mean 0 and variance 1.

  Reference: Kingma & Dhariwal 2018, arXiv:1807.03039, section 3.1.
  """

  def init(key, x):
    axes = tuple(range(x.ndim - 1))
    return {'bias': -x.mean(axes), 'log_scale': -jnp.log(x.std(axes) + 1e-6)}

  def forward(params, stats, x):
    bias, s = (_channels(params[name], x) for name in ('bias', 'log_scale'))
    return (x + bias) * jnp.exp(s), _same(x, _positions(x) * s.sum()), {}

  def inverse(params, stats, y):
    bias, s = (_channels(params[name], y) for name in ('bias', 'log_scale'))
    return y * jnp.exp(-s) - bias, _same(y, -_positions(y) * s.sum())

  return bijection(init, forward, inverse)


def batch_norm(eps: float = 1e-4, pixels: int = 1) -> Bijection:
  """Returns the layer y = (x - mean) / sqrt(variance + eps) by channel; gradients pass the batch's mean and variance.

  Args:
    eps: added to variances.
    pixels: the number of pixels of C channels each on the last axis (after a squeeze); they share the C statistics.

  Reference: Dinh et al. 2017, arXiv:1605.08803, section 3.7.
  """
  split = lambda x: x.reshape(*x.shape[:-1], pixels, x.shape[-1] // pixels)

  def forward(params, stats, x):
    h = split(x)
    axes = tuple(range(h.ndim - 1))
    used = {'mean': h.mean(axes), 'variance': h.var(axes)} if stats is None else stats
    log_std = 0.5 * jnp.log(used['variance'] + eps)
    y = (h - _channels(used['mean'], h)) * jnp.exp(-_channels(log_std, h))
    return y.reshape(x.shape), _same(x, -_positions(h) * log_std.sum()), jax.lax.stop_gradient(used)

  def inverse(params, stats, y):
    if stats is None:
      raise ValueError('the inverse of batch_norm needs the statistics that forward has used')
    h, log_std = split(y), 0.5 * jnp.log(stats['variance'] + eps)
    x = h * jnp.exp(_channels(log_std, h)) + _channels(stats['mean'], h)
    return x.reshape(y.shape), _same(y, _positions(h) * log_std.sum())

  return bijection(no_params, forward, inverse)


def whitening() -> Bijection:
  """Returns the layer y = (x - mean) C^(-1/2) on [B, D], which is not trained.

  Mean and covariance C are those of the first batch. It should have more than D examples. This whitening of zero phase
  (ZCA) changes x less than any other.

  Reference: Bell & Sejnowski 1997, The independent components of natural scenes are edge filters, section 4.
  """
  turned = lambda x, axes: jnp.matmul(x, axes, precision='highest')

  def init(key, x):
    del key
    return matrices.spectrum(x)._asdict()

  def scaled(params, x, power):
    axes = params['axes']
    return turned(turned(x, axes) * params['variances'][None] ** power, axes.T)

  def forward(params, stats, x):
    params = jax.lax.stop_gradient(params)
    y = scaled(params, x - params['mean'][None], -0.5)
    return y, _same(x, -0.5 * jnp.log(params['variances']).sum()), {}

  def inverse(params, stats, y):
    params = jax.lax.stop_gradient(params)
    x = scaled(params, y, 0.5) + params['mean'][None]
    return x, _same(y, 0.5 * jnp.log(params['variances']).sum())

  return bijection(init, forward, inverse)


def invertible_dense() -> Bijection:
  """Returns the layer y = x W over channels (a 1x1 convolution) with W = P L (U + diag(sign exp(s))).

  Initially W is a random rotation.

  Reference: Kingma & Dhariwal 2018, arXiv:1807.03039, section 3.2.
  """

  def init(key, x):
    rotation = jnp.linalg.qr(jax.random.normal(key, (x.shape[-1],) * 2))[0]
    order, lower, upper = jax.scipy.linalg.lu(rotation)
    diagonal = jnp.diag(upper)
    return {
      'order': order.argmax(1).astype(jnp.float32),  # row i of P L is row order[i] of L
      'sign': jnp.sign(diagonal),
      'lower': jnp.tril(lower, -1), 'upper': jnp.triu(upper, 1), 'log_scale': jnp.log(jnp.abs(diagonal)),
    }  # fmt: skip

  def factors(params):
    # Neither is trained, since both have gradient 0. Averaging and rounding change them, which is undone here.
    order, sign = jnp.round(params['order']).astype(jnp.int32), jnp.sign(params['sign'])
    lower = jnp.tril(params['lower'], -1) + jnp.eye(len(sign), dtype=sign.dtype)
    upper = jnp.triu(params['upper'], 1) + jnp.diag(sign * jnp.exp(params['log_scale']))
    return order, lower, upper

  def forward(params, stats, x):
    order, lower, upper = factors(params)
    return x @ (lower[order] @ upper), _same(x, _positions(x) * params['log_scale'].sum()), {}

  def inverse(params, stats, y):
    order, lower, upper = factors(params)
    solve = lambda matrix, rows, is_lower: jax.scipy.linalg.solve_triangular(matrix.T, rows, lower=is_lower)
    permuted = solve(lower, solve(upper, y.reshape(-1, y.shape[-1]).T, True), False)  # P^T x^T
    return permuted[order].T.reshape(y.shape), _same(y, -_positions(y) * params['log_scale'].sum())

  return bijection(init, forward, inverse)


def reverse() -> Bijection:
  """Returns the layer that reverses the order of channels."""
  return permutation(lambda x: x[..., ::-1], lambda y: y[..., ::-1])


def flatten(shape: tuple[int, ...]) -> Bijection:
  """Returns the layer [B, *shape] -> [B, D]."""
  return permutation(lambda x: x.reshape(x.shape[0], -1), lambda y: y.reshape(y.shape[0], *shape))


def shift_scale(shift: float, factor: float) -> Bijection:
  """Returns the layer y = shift + factor x with both fixed, such as from [0, 1] to [-1, 1]."""

  def forward(params, stats, x):
    return shift + factor * x, _same(x, x[0].size * math.log(factor)), {}

  def inverse(params, stats, y):
    return (y - shift) / factor, _same(y, -y[0].size * math.log(factor))

  return bijection(no_params, forward, inverse)


def logit(alpha: float) -> Bijection:
  """Returns the layer y = log(p) - log(1 - p) with p = alpha + (1 - 2 alpha) x, for x in [0, 1].

  The inverse may leave [0, 1] by alpha / (1 - 2 alpha).

  Reference: Dinh et al. 2017, arXiv:1605.08803, section 4.1 (both ends shrunk, as in its program).
  """
  log_factor = math.log(1 - 2 * alpha)

  def forward(params, stats, x):
    log_inside, log_outside = jnp.log(alpha + (1 - 2 * alpha) * x), jnp.log(alpha + (1 - 2 * alpha) * (1 - x))
    return log_inside - log_outside, event_sum(log_factor - log_inside - log_outside), {}

  def inverse(params, stats, y):
    log_det = event_sum(jax.nn.log_sigmoid(y) + jax.nn.log_sigmoid(-y) - log_factor)
    return (jax.nn.sigmoid(y) - alpha) / (1 - 2 * alpha), log_det

  return bijection(no_params, forward, inverse)


def planar(start: float = 0.1, identity: bool = True) -> Bijection:
  """Returns the layer y = x + u tanh(w x + b) on [B, D], with u constrained so that the map is increasing.

  The inverse is computed by bisection.

  Args:
    start: initial standard deviation of u; those of w and b are 1.
    identity: whether the map is the identity where u = 0, or the bound of w u is that of the paper.

  Reference: Rezende & Mohamed 2015, arXiv:1505.05770, equations 10 to 12 and appendix A.1.
  """

  def init(key, x):
    for_u, for_w, for_b = jax.random.split(key, 3)
    draw = lambda key, shape: jax.random.normal(key, shape)
    size = x.shape[1:]
    return {'u': start * draw(for_u, size), 'w': draw(for_w, size) / math.sqrt(size[0]), 'b': draw(for_b, ())}

  def constrained(params):
    u, w = params['u'], params['w']
    along = u @ w
    slope = jax.nn.softplus(along + (math.log(math.expm1(1)) if identity else 0))  # 1 + w u
    return u + (slope - 1 - along) * w / (w @ w + 1e-12), w, params['b'], slope

  def at(params, x, inside):
    u, _, b, slope = constrained(params)
    bent = jnp.tanh(inside + b)
    # 1 + (1 - bent^2) w u, which rounding must not make negative.
    return bent[:, None] * u[None], jnp.log(bent**2 + (1 - bent**2) * slope)

  def forward(params, stats, x):
    step, log_det = at(params, x, x @ params['w'])
    return x + step, log_det, {}

  def inverse(params, stats, y):
    u, w, b, _ = constrained(params)
    middle, reach = y @ w, jnp.abs(u @ w)  # the map shifts x along w by at most `reach`
    inside = root(lambda a: a + (u @ w) * jnp.tanh(a + b), middle, middle - reach, middle + reach)
    step, log_det = at(params, y, inside)
    return y - step, -log_det

  return bijection(init, forward, inverse)


def radial(start: float | None = None) -> Bijection:
  """Returns the layer y = x + beta (x - centre) / (alpha + |x - centre|) on [B, D], with beta > -alpha.

  With parameters of 0 it is the identity.

  Args:
    start: initial standard deviation of beta's parameter; if None, beta is initially 1 - ln 2.

  Reference: Rezende & Mohamed 2015, arXiv:1505.05770, equation 14 and appendix A.2.
  """

  def init(key, x):
    zero = jnp.zeros(())
    beta = math.log(math.expm1(1)) if start is None else start * jax.random.normal(jax.random.fold_in(key, 1), ())
    return {'centre': jax.random.normal(key, x.shape[1:]), 'alpha': zero, 'beta': zero + beta}

  def constrained(params):
    alpha = jax.nn.softplus(params['alpha'])
    return params['centre'][None], alpha, jax.nn.softplus(params['beta']) - alpha

  def log_det(alpha, beta, radius, dims):
    stretch = beta / (alpha + radius)
    return (dims - 1) * jnp.log1p(stretch) + jnp.log1p(stretch * alpha / (alpha + radius))

  def forward(params, stats, x):
    centre, alpha, beta = constrained(params)
    radius = _norm(x - centre)
    y = x + (beta / (alpha + radius))[:, None] * (x - centre)
    return y, log_det(alpha, beta, radius, x.shape[1]), {}

  def inverse(params, stats, y):
    centre, alpha, beta = constrained(params)
    outer = _norm(y - centre)
    half = 0.5 * (outer - alpha - beta)
    radius = half + jnp.sqrt(half**2 + alpha * outer)
    x = centre + (y - centre) / (1 + beta / (alpha + radius))[:, None]
    return x, -log_det(alpha, beta, radius, y.shape[1])

  return bijection(init, forward, inverse)


def sylvester(reflections: int, start: float = 0.1) -> Bijection:
  """Returns the layer y = x + Q R tanh(S Q' x + b) on [B, D], with upper triangles R and S and a rotation Q.

  Q is a product of Householder reflections. The diagonals of R and S are in (-1, 1), so that the map is one to one.
  With R = 0 it is the identity. The inverse is computed by bisection of one dimension after another.

  Args:
    reflections: the number of reflections; D of them make any rotation.
    start: initial standard deviation of R and S.

  Reference: van den Berg et al. 2018, arXiv:1803.05649, equations 8 to 13, with M = D.
  """

  def init(key, x):
    for_normals, *keys = jax.random.split(key, 5)
    size = x.shape[1]
    shapes = {'upper': (size, size), 'outer': (size,), 'inner': (size,), 'bias': (size,)}
    params = {name: start * jax.random.normal(one, shapes[name]) for name, one in zip(shapes, keys, strict=True)}
    return params | {'normals': jax.random.normal(for_normals, (reflections, size))}

  def triangles(params):
    both, diagonals = params['upper'], (jnp.tanh(params['outer']), jnp.tanh(params['inner']))
    return tuple(jnp.triu(m, 1) + jnp.diag(d) for m, d in zip((both, both.T), diagonals, strict=True))

  def turned(params, x, back=False):
    order = params['normals'][::-1] if back else params['normals']
    for v in order:
      x = x - 2 * (x @ v)[:, None] * v[None] / (v @ v + 1e-12)
    return x

  def forward(params, stats, x):
    outer, inner = triangles(params)
    bent = jnp.tanh(turned(params, x) @ inner.T + params['bias'][None])
    log_det = jnp.log1p((1 - bent**2) * (jnp.diag(outer) * jnp.diag(inner))[None]).sum(1)
    return x + turned(params, bent @ outer.T, back=True), log_det, {}

  def inverse(params, stats, y):
    (outer, inner), w = triangles(params), turned(params, y)

    def solve(carry, d):
      u, bent = carry  # dimensions after d are right, all others 0
      shift, middle = u @ inner[d] + params['bias'][d], w[:, d] - bent @ outer[d]
      r, s = outer[d, d], inner[d, d]
      own = root(lambda a: a + r * jnp.tanh(s * a + shift), middle, middle - jnp.abs(r), middle + jnp.abs(r))
      return (u.at[:, d].set(own), bent.at[:, d].set(jnp.tanh(s * own + shift))), None

    start = jnp.zeros_like(w), jnp.zeros_like(w)
    (u, _), _ = jax.lax.scan(solve, start, jnp.arange(w.shape[1]), reverse=True)
    x = turned(params, u, back=True)
    return x, -forward(params, stats, x)[1]

  return bijection(init, forward, inverse)


def _norm(x: jax.Array) -> jax.Array:
  """Computes the length of each row; its gradient at 0 is finite."""
  return jnp.sqrt(jnp.square(x).sum(1) + 1e-30)


def _channels(values: jax.Array, x: jax.Array) -> jax.Array:
  """Reshapes [C] to broadcast with x."""
  return values.reshape(*[1] * (x.ndim - 1), -1)


def _positions(x: jax.Array) -> int:
  return math.prod(x.shape[1:-1])


def _same(x: jax.Array, value: jax.Array | float) -> jax.Array:
  """Returns one log-determinant for all examples, [B]."""
  return zeros(x) + value
