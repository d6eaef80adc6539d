"""The residual ladder of inverse autoregressive posteriors: maps of one size, inferred up and down, one step in each.

Layers are weight-normalised and start from data.

Axes: B batch, N = B k rows, k samples of an example side by side, H height, W width, C channels, F features, D pixels;
level 0 is next to the data.

Reference: Kingma et al. 2016, arXiv:1606.04934, section 5 and appendix C, and its program tf_train.py.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dgm_jax import distributions
from dgm_jax.models.conv_ladder import descend, normal
from dgm_jax.models.ladder import Normal, Rung, add, repeat, sample
from dgm_jax.models.resnet_vae import NormConv
from dgm_jax.nn.blocks import NHWC, elu
from dgm_jax.nn.weightnorm import weight_norm

__all__ = ['CausalMaps', 'Decoder', 'Encoder', 'later_mask']

BRANCH = 0.1  # factor of the residual branches, and of the outputs of the step
EDGE = 1 - 1 / 256  # bound of the means of pixels in [-1, 1]


def later_mask(inputs: int, outputs: int, strict: bool) -> np.ndarray:
  """Returns the mask [3, 3, inputs, outputs] of kernels that see later positions and, at their own, earlier channels.

  The larger number of channels is a multiple of the smaller one. If not `strict`, the own channel is seen, too.
  """
  mask = np.ones((3, 3, inputs, outputs), np.float32)
  mask[0], mask[1, 0] = 0, 0
  number = min(inputs, outputs)
  own, others = (np.arange(count) // (count // number) for count in (inputs, outputs))
  mask[1, 1] = own[:, None] < others[None] if strict else own[:, None] <= others[None]
  return mask


class _LaterConv(nn.Module):
  """A weight-normalised 3x3 convolution under `later_mask`."""

  features: int
  strict: bool = False
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, 'N H W C']) -> Float[Array, 'N H W F']:
    x, mask = x.astype(self.dtype), later_mask(x.shape[-1], self.features, self.strict)

    def apply(kernel):
      return jax.lax.conv_general_dilated(x, kernel.astype(self.dtype), (1, 1), 'SAME', dimension_numbers=NHWC)

    return weight_norm(self, mask.shape, apply, 1.0, jnp.asarray(mask))


class CausalMaps(nn.Module):
  """Shift and log-scale of each latent of a map, given a context and the latents after it, in two hidden layers."""

  hidden: int
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(
    self, z: Float[Array, 'N H W C'], context: Float[Array, 'N H W F']
  ) -> tuple[Float[Array, 'N H W C'], Float[Array, 'N H W C']]:
    h = elu(_LaterConv(self.hidden, dtype=self.dtype, name='first')(z) + context)
    h = elu(_LaterConv(self.hidden, dtype=self.dtype, name='second')(h))
    outputs = (_LaterConv(z.shape[-1], True, self.dtype, name=name)(h) for name in ('shift', 'log_scale'))
    shift, log_scale = (BRANCH * out.astype(jnp.float32) for out in outputs)
    return shift, log_scale


class Encoder(nn.Module):
  """Mean, log-variance and context of each level from residual layers at half the image's size."""

  blocks: int = 20
  features: int = 160
  latents: int = 32
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> list[Float[Array, 'B h w G']]:
    conv = lambda width, name, **more: NormConv(width, deviation=0.1, dtype=self.dtype, name=name, **more)
    h, levels = conv(self.features, 'input', size=5, stride=2)(x), []
    for level in range(self.blocks):
      both = conv(2 * self.latents + 2 * self.features, f'first_{level}')(elu(h))
      levels.append(both[..., : -self.features])
      h = h + BRANCH * conv(self.features, f'second_{level}')(elu(both[..., -self.features :]))
    return levels


class _Rung(nn.Module):
  """One level: the sum of two normals, the step z = (z_0 - m) / exp(s), and a residual layer."""

  features: int
  latents: int
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, h, features, noise, z):
    conv = lambda width, name: NormConv(width, deviation=0.1, dtype=self.dtype, name=name)
    ends, log_q = (2 * self.latents, 4 * self.latents, 4 * self.latents + self.features), None
    prior, above, context, straight = jnp.split(conv(ends[-1] + self.features, 'first')(elu(h)), ends, -1)
    q = p = _deviations(prior)
    if features is not None:
      features = repeat(features, noise.shape[0])
      q = add(_deviations(features[..., : 2 * self.latents]), _deviations(above))
      base = sample(q, noise)
      steps = CausalMaps(self.features, self.dtype, name='step')
      shift, log_scale = steps(base, context + features[..., 2 * self.latents :])
      log_base = distributions.normal_log_prob(base[..., None], q[0][..., None], q[1][..., None])
      z, log_q = (base - shift) * jnp.exp(-log_scale), log_base + log_scale
    z = sample(p, noise) if z is None else z
    both = jnp.concatenate([z.astype(straight.dtype), straight], -1)
    return h + BRANCH * conv(self.features, 'second')(elu(both)), Rung(z, q, p, log_q)


def _deviations(params: Array) -> Normal:
  """Splits features into mean and log-variance, of which they have half: the logarithm of the deviation."""
  mean, log_std = normal(params)
  return mean, 2 * log_std


class Decoder(nn.Module):
  """The levels from the top down, from one vector at every position, then mean and one log-scale of the pixels."""

  shape: tuple[int, int, int]  # of the data, with even sides
  blocks: int = 20
  features: int = 160
  latents: int = 32
  dtype: jnp.dtype | str = 'float32'

  def setup(self):
    # From zeros a data-dependent start would divide by their deviation.
    self.top = self.param('top', nn.initializers.normal(1.0), (self.features,))
    self.rungs = [_Rung(self.features, self.latents, self.dtype) for _ in range(self.blocks)]
    self.output = NormConv(self.shape[-1], 5, 2, True, 0.1, self.dtype)
    self.log_scale = self.param('log_scale', nn.initializers.constant(math.log(2)), (1,))

  def __call__(
    self, features: list[Array] | None, noise: Sequence[Array], top: Sequence[Array] = ()
  ) -> tuple[list[Rung], tuple[Float[Array, 'N D'], Float[Array, 'N D']]]:
    """Infers the levels by the features of the encoder or, without features, samples them; see `conv_ladder.Tower`."""
    h, levels = descend(self.rungs, self._start(noise[0].shape[0]), features, noise, top)
    out = self.output(elu(h)).astype(jnp.float32)
    mean = jnp.clip(out, -EDGE, EDGE).reshape(out.shape[0], -1)
    return levels, (mean, jnp.broadcast_to(self.log_scale.reshape(1, 1), mean.shape))

  def top_prior(self) -> Normal:
    """Returns mean and log-variance of the top level's prior, [1, H, W, C] each."""
    noise = jnp.zeros((1, self.shape[0] // 2, self.shape[1] // 2, self.latents))
    return self.rungs[0](self._start(1), None, noise, None)[1].p

  def _start(self, rows: int) -> Array:
    """Returns the input of the top level."""
    size = (rows, self.shape[0] // 2, self.shape[1] // 2, self.features)
    return jnp.broadcast_to(self.top.reshape(1, 1, 1, -1), size).astype(self.dtype)
