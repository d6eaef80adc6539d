"""Flows of one dimension: numbers pushed through their distribution function, and from any law to any other."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from dgm_jax.classical import cdf
from dgm_jax.pages.topics import drawing
from dgm_jax.pages.topics.page import Row, Topic

__all__ = ['flows']

N = 100_000
DISTANCE = 1.36 / math.sqrt(N) * 1.2  # of Kolmogorov and Smirnov, exceeded by chance less often than one time in twenty


def flows() -> Topic:
  """Checks that x = F^-1(G(z)) carries any law to any other.

  Eta = F(xi) is uniform, and xi = F^-1(eta) has the law again.
  """
  with jax.enable_x64(True):
    laws = {'normal': cdf.normal(), 'mixture': _mixture(), 'exponential': cdf.exponential()}
    z = jax.random.normal(jax.random.key(0), (N,))
    rows = [row for name, law in laws.items() for row in _uniform(name, law, z)]
    rows += _maps(z[:2000])
    charts = {
      'x = F^-1(G(z)), from N(0, 1)': _curves(laws, lambda law, t: cdf.transport(cdf.normal(), law, t), -3, 3),
      'eta = F(xi)': _curves(laws, lambda law, t: law.cdf(t), -4, 4),
    }
    picture = _picture(z)
  return Topic(
    'Flows in one dimension',
    'A number pushed through its own distribution function F is uniform, a uniform one pushed through F^-1 has the law'
    ' of F, and F^-1(G(z)) carries the law of G to that of F: the only increasing map that does. Histograms from left'
    ' to right: z from N(0, 1), G(z), and F^-1(G(z)) for a mixture of three normals, with densities as lines.',
    rows=rows,
    charts=charts,
    pictures={'z, G(z), F^-1(G(z))': picture},
  )


def _mixture() -> cdf.Law:
  return cdf.mixture(jnp.array([0.2, -0.3, 0.4]), jnp.array([-2.5, 0.0, 2.0]), jnp.log(jnp.array([0.5, 0.3, 0.8])))


def _uniform(name: str, law: cdf.Law, z: jax.Array) -> list[Row]:
  x = jax.jit(lambda z: cdf.transport(cdf.normal(), law, z))(z)
  eta = np.sort(np.asarray(law.cdf(x)))
  distance = float(np.abs(eta - (np.arange(N) + 0.5) / N).max())
  again = jax.jit(lambda x: law.quantile(law.cdf(x)))(x[:2000])
  slope = jax.jit(jax.vmap(jax.grad(law.cdf)))(x[:2000])
  change = float(jnp.abs(jnp.log(slope) - law.log_pdf(x[:2000])).max())
  return [
    Row(f'{name}: distance of F(xi) from the uniform law', 0.0, distance, DISTANCE),
    Row(f'{name}: largest |F^-1(F(xi)) - xi|', 0.0, float(jnp.abs(again - x[:2000]).max()), 1e-9),
    Row(f'{name}: largest |log F\' - log f|', 0.0, change, 1e-8),
  ]  # fmt: skip


def _maps(z: jax.Array) -> list[Row]:
  error = lambda a, b: float(jnp.abs(a - b).max())
  linear = cdf.transport(cdf.normal(), cdf.normal(1.0, 3.0), z)
  tail = cdf.transport(cdf.normal(), cdf.exponential(), z)
  return [
    Row('N(0, 1) to N(1, 9): distance from 1 + 3 z', 0.0, error(linear, 1 + 3 * z), 1e-9),
    Row(
      'N(0, 1) to exponential: distance from -log(1 - Phi(z))', 0.0, error(tail, -jax.scipy.special.log_ndtr(-z)), 1e-9
    ),
  ]


def _curves(laws, function, low: float, high: float):
  t = jnp.linspace(low, high, 121)
  return {name: list(zip(map(float, t), map(float, function(law, t)), strict=True)) for name, law in laws.items()}


def _picture(z: jax.Array) -> np.ndarray:
  law = _mixture()
  steps = [
    (z, cdf.normal(), (-4.0, 4.0)), (cdf.normal().cdf(z), cdf.uniform(), (-0.1, 1.1)),
    (cdf.transport(cdf.normal(), law, z), law, (-4.5, 4.5)),
  ]  # fmt: skip
  return drawing.side_by_side(*(_histogram(np.asarray(x), one, *ends) for x, one, ends in steps))


def _histogram(values: np.ndarray, law: cdf.Law, low: float, high: float) -> np.ndarray:
  """Draws bars of the values and the density as a line, uint8 [SIZE, SIZE, 3]."""
  size = drawing.SIZE
  counts, edges = np.histogram(values, size // 4, (low, high))
  bars = (counts / (len(values) * (edges[1] - edges[0]))).repeat(4)
  line = np.exp(np.asarray(law.log_pdf(jnp.linspace(low, high, size))))
  top = 1.1 * max(bars.max(), line.max())
  rows = (1 - np.arange(size) / size)[:, None] * top
  canvas = np.full((size, size, 3), 255, np.uint8)
  canvas[rows < bars[None]] = (196, 208, 226)
  canvas[np.abs(rows - line[None]) < top / 100] = drawing.HIGH.astype(np.uint8)
  return canvas
