"""Ladders of latents: a chain of levels, each a normal given the level above, and three orders of inference.

`factorised` infers all levels from x at once, `bottom_up` each from a sample of the level below, `top_down` each from x
and a sample of the level above, merged with the prior that this gives.

Axes: B batch, N = B k rows, k samples of an example side by side, Z_l latents of level l, D pixels; level 0 is next to
the data.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dgm_jax.models import vae

__all__ = ['MERGES', 'Ladder', 'Normal', 'Rung', 'add', 'precision', 'repeat', 'residual', 'sample']

Normal = tuple[Array, Array]  # mean and log-variance


class Rung(NamedTuple):
  """A sample of one level, with the posterior that it is from and the prior given the level above."""

  z: Array  # [N, ...]
  q: Normal
  p: Normal
  log_q: Array | None = None  # nats of each element of z; None: those of the normal q


def precision(q: Normal, p: Normal) -> Normal:
  """Multiplies two normal densities: the mean is weighted by precision, and precisions add up.

  Reference: Sonderby et al. 2016, arXiv:1602.02282, equations 17 and 18.
  """
  share = jax.nn.sigmoid(p[1] - q[1])  # of the precision that is q's
  return share * q[0] + (1 - share) * p[0], -jnp.logaddexp(-q[1], -p[1])


def add(q: Normal, p: Normal) -> Normal:
  """Adds means, and the logarithms of deviations.

  Reference: Kingma et al. 2016, arXiv:1606.04934, appendix C.
  """
  return q[0] + p[0], q[1] + p[1]


def residual(q: Normal, p: Normal) -> Normal:
  """Moves the prior by q: the mean in units of its deviation, and its deviation by a factor.

  If q is two zeros, the posterior is the prior. The unit of the shift is ours: the paper's is that of the latent.

  Reference: Vahdat & Kautz 2020, arXiv:2007.03898, section 3.2.
  """
  return p[0] + jnp.exp(0.5 * p[1]) * q[0], p[1] + q[1]


MERGES: dict[str, Callable[[Normal, Normal], Normal]] = {'add': add, 'precision': precision, 'residual': residual}


def repeat(x: Array, rows: int) -> Array:
  """Repeats each example for its samples: [B, ...] -> [rows, ...]."""
  return x if x.shape[0] == rows else jnp.repeat(x, rows // x.shape[0], 0)


def sample(normal: Normal, noise: Array) -> Array:
  """Samples a normal by standard normal noise."""
  return normal[0] + jnp.exp(0.5 * normal[1]) * noise


class Ladder(nn.Module):
  """The ladder of dense layers; the prior of the top level is N(0, I), and its posterior is not merged.

  Reference: Sonderby et al. 2016, arXiv:1602.02282, section 2.
  """

  hidden: Sequence[Sequence[int]]
  latents: Sequence[int]
  shape: tuple[int, int, int]
  num_parameters: int  # of the likelihood of a pixel
  order: str = 'top_down'  # or 'bottom_up', 'factorised'
  merge: str = 'precision'  # of the order 'top_down'
  activation: str = 'leaky_relu'
  norm: bool = True
  variance: str = 'softplus'
  dtype: jnp.dtype | str = 'float32'

  def setup(self):
    settings = {'activation': self.activation, 'dtype': self.dtype, 'norm': self.norm, 'variance': self.variance}
    self.encoder = vae.Encoder(self.hidden, self.latents, **settings)
    self.decoder = vae.Decoder(self.hidden, self.latents, self.shape, self.num_parameters, **settings)

  def __call__(
    self, x: Float[Array, 'B H W C'], noise: Sequence[Float[Array, 'N _']]
  ) -> tuple[list[Rung], tuple[Float[Array, 'N D'], ...]]:
    """Samples the posterior by standard normal noise of each level, from the data up.

    Returns:
      the levels, from the data up, and the likelihood's parameters.
    """
    rungs = self._down(x, noise) if self.order == 'top_down' else self._up(x, noise)
    return rungs, self.decoder.pixels(rungs[0].z)

  def generate(
    self, noise: Sequence[Float[Array, 'N _']], top: Sequence[Float[Array, 'N _']] = ()
  ) -> tuple[Float[Array, 'N D'], ...]:
    """Computes the likelihood's parameters for latents from the prior.

    Args:
      noise: of each level, from the data up; zeros are for the prior's means.
      top: latents of the upper levels, from the top down, in place of samples.
    """
    z = top[0] if top else noise[-1]
    for level in range(len(self.latents) - 2, -1, -1):
      depth = len(self.latents) - 1 - level
      z = top[depth] if depth < len(top) else sample(self.decoder.below(z, level + 1), noise[level])
    return self.decoder.pixels(z)

  def top_prior(self) -> Normal:
    """Returns mean and log-variance of the top level's prior, [1, Z] each."""
    return jnp.zeros((1, self.latents[-1])), jnp.zeros((1, self.latents[-1]))

  def _down(self, x, noise) -> list[Rung]:
    """Infers each level from x and the level above."""
    rows, rungs = noise[0].shape[0], []
    for level, q in reversed(list(enumerate(self.encoder.whole(x)))):
      q = (repeat(q[0], rows), repeat(q[1], rows))
      p = self._prior(rungs[-1].z, level) if rungs else _standard(q)
      q = MERGES[self.merge](q, p) if rungs else q
      rungs.append(Rung(sample(q, noise[level]), q, p))
    return rungs[::-1]

  def _up(self, x, noise) -> list[Rung]:
    """Infers each level from x, or from the level below; the priors follow from the samples."""
    rows, samples = noise[0].shape[0], []
    if self.order == 'factorised':
      posteriors = [(repeat(mean, rows), repeat(logvar, rows)) for mean, logvar in self.encoder.whole(x)]
      samples = [sample(*both) for both in zip(posteriors, noise, strict=True)]
    else:
      mean, logvar = self.encoder.first(x)
      posteriors = [(repeat(mean, rows), repeat(logvar, rows))]
      for level, own in enumerate(noise):
        if level:
          posteriors.append(self.encoder.above(samples[-1], level))
        samples.append(sample(posteriors[-1], own))
    priors = [self._prior(z, level) for level, z in enumerate(samples[1:])] + [_standard(posteriors[-1])]
    return [Rung(*each) for each in zip(samples, posteriors, priors, strict=True)]

  def _prior(self, above, level: int) -> Normal:
    """Computes mean and log-variance of p(z_level|z_(level+1))."""
    return self.decoder.below(above, level + 1)


def _standard(like: Normal) -> Normal:
  """Returns mean and log-variance of N(0, I)."""
  return jnp.zeros_like(like[0]), jnp.zeros_like(like[1])
