"""Mean field for grids of discrete spins: Ising and Potts models, and denoising of images by them.

p(s) is proportional to exp(coupling sum_<ij> [s_i = s_j] + sum_i fields_i(s_i)), over neighbours <ij> of a grid with
free edges. An Ising model has spins -1 and 1, a coupling J and a field h. It is the Potts model of two states with
coupling 2 J and fields -h and h, up to a constant of J for each pair.

Axes: H, W of the grid, Q states.
"""

import jax
import jax.numpy as jnp
import numpy as np

from dgm_jax.classical import mean_field

__all__ = ['flip_fields', 'grid_couplings', 'ising_fit', 'potts_fit']


def ising_bound(means: jax.Array, couplings: jax.Array, fields: jax.Array) -> jax.Array:
  """Computes a lower bound of log Z in nats, [], for any pairs: m J m / 2 + h m + H[q].

  Args:
    means: [n] E s_i in [-1, 1].
    couplings: [n, n] symmetric, its diagonal 0.
    fields: [n].

  Reference: Wainwright & Jordan 2008, Graphical models, exponential families and variational inference, section 5.3.
  """
  up = 0.5 * (1 + means)
  entropy = -jnp.sum(jax.scipy.special.xlogy(up, up) + jax.scipy.special.xlogy(1 - up, 1 - up))
  return 0.5 * jnp.vdot(means, couplings @ means) + jnp.vdot(fields, means) + entropy


def ising_fit(couplings: jax.Array, fields: jax.Array, start: jax.Array, sweeps: int) -> mean_field.Ascent:
  """Ascends by coordinates, one spin after another: m_i <- tanh(h_i + sum_j J_ij m_j).

  Args:
    couplings: [n, n] symmetric, its diagonal 0.
    fields: [n].
    start: [n] initial means; their sign breaks the symmetry.
    sweeps: the number of sweeps.

  Returns:
    factors '0' to 'n - 1', [] each, and the bound after every update.

  Reference: Wainwright & Jordan 2008, Graphical models, exponential families and variational inference, equation 5.17.
  """
  count = len(start)
  stack = lambda q: jnp.stack([q[str(i)] for i in range(count)])
  updates = {
    str(i): lambda q, i=i: jnp.tanh(fields[i] + jnp.vdot(couplings[i], stack(q)))
    for i in range(count)
  }  # fmt: skip
  factors = {str(i): start[i] for i in range(count)}
  return mean_field.ascend(updates, lambda q: ising_bound(stack(q), couplings, fields), factors, sweeps, -1.0)


def grid_couplings(height: int, width: int, coupling: float) -> np.ndarray:
  """Returns [n, n] couplings of a grid's neighbours, n = height * width in raster order, free edges."""
  number = np.arange(height * width).reshape(height, width)
  matrix = np.zeros((number.size, number.size))
  for a, b in ((number[:, :-1], number[:, 1:]), (number[:-1], number[1:])):
    matrix[a.ravel(), b.ravel()] = matrix[b.ravel(), a.ravel()] = coupling
  return matrix


def potts_bound(probs: jax.Array, coupling: float, fields: jax.Array) -> jax.Array:
  """Computes a lower bound of log Z of a grid in nats, [].

  Args:
    probs: [H, W, Q] q(s_i).
    coupling: in favour of equal neighbours.
    fields: [H, W, Q], such as the log-likelihood of each pixel's observation.

  Reference: Bishop 2006, Pattern Recognition and Machine Learning, section 8.3.3.
  """
  pairs = jnp.vdot(probs[:, :-1], probs[:, 1:]) + jnp.vdot(probs[:-1], probs[1:])
  return coupling * pairs + jnp.vdot(fields, probs) - jnp.sum(jax.scipy.special.xlogy(probs, probs))


def potts_fit(coupling: float, fields: jax.Array, sweeps: int, tolerance: float = 0.0) -> mean_field.Ascent:
  """Ascends by coordinates on a grid, in two factors like the squares of a chessboard.

  Squares of one colour are no neighbours of each other. So their joint update is that of each on its own, and the bound
  never falls.

  Args:
    coupling: in favour of equal neighbours.
    fields: [H, W, Q].
    sweeps: most sweeps.
    tolerance: nats that a sweep must gain.

  Returns:
    factors 'dark' and 'light', [H, W, Q] each, zero on the other colour's squares; their sum is q.

  Reference: Bishop 2006, Pattern Recognition and Machine Learning, exercise 10.38.
  """
  height, width, _ = fields.shape
  dark = ((np.arange(height)[:, None] + np.arange(width)[None]) % 2 == 0)[..., None]
  colours = {'dark': jnp.asarray(dark, fields.dtype), 'light': jnp.asarray(~dark, fields.dtype)}

  def update(q, own):
    return own * jax.nn.softmax(fields + coupling * _neighbours(q['dark'] + q['light']), -1)

  updates = {name: lambda q, own=own: update(q, own) for name, own in colours.items()}
  factors = {name: own * jax.nn.softmax(fields, -1) for name, own in colours.items()}
  bound = lambda q: potts_bound(q['dark'] + q['light'], coupling, fields)
  return mean_field.ascend(updates, bound, factors, sweeps, tolerance)


def flip_fields(noisy: jax.Array, states: int, error: float) -> jax.Array:
  """Computes log p(noisy pixel | true state), [H, W, Q].

  A pixel is replaced by one of the other states with probability `error`.
  """
  same = jax.nn.one_hot(noisy, states)
  return same * jnp.log(1 - error) + (1 - same) * jnp.log(error / (states - 1))


def _neighbours(probs: jax.Array) -> jax.Array:
  """Sums the four neighbours, [H, W, Q]; beyond the edges there are none."""
  down = jnp.pad(probs, ((1, 0), (0, 0), (0, 0)))[:-1]
  up = jnp.pad(probs, ((0, 1), (0, 0), (0, 0)))[1:]
  right = jnp.pad(probs, ((0, 0), (1, 0), (0, 0)))[:, :-1]
  left = jnp.pad(probs, ((0, 0), (0, 1), (0, 0)))[:, 1:]
  return down + up + right + left
