"""Weight-normalised causal layers with data-dependent initialisation, and the gated residual block of them.

Initially each feature has mean 0 and a fixed standard deviation over the first batch and all positions.

Axes: as in `dgm_jax.nn.masked`.

Reference: Salimans & Kingma 2016, arXiv:1602.07868, sections 2 and 3; Salimans et al. 2017, arXiv:1701.05517.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dgm_jax.nn.masked import MEMORY, WHOLE, Place, Taps, correlate, from_cache

__all__ = ['GatedResnet', 'NormConv', 'NormUpsample', 'concat_elu', 'weight_norm']


def concat_elu(x: Float[Array, '*S C']) -> Float[Array, '*S D']:
  """Computes elu of x and of -x, side by side: [..., C] -> [..., 2 C]."""
  return jax.nn.elu(jnp.concatenate([x, -x], -1))


NONLINEARITIES: dict[str, Callable] = {'elu': jax.nn.elu, 'concat_elu': concat_elu}


def weight_norm(
  module: nn.Module, shape: tuple[int, ...], apply: Callable, deviation: float, mask: Array | None = None
) -> Any:
  """Computes `apply(kernel) + bias` for the kernel g v / |v| of a module, with one g for each feature (last axis).

  A mask of v's shape leaves out elements of v.
  """
  direction = module.param('direction', nn.initializers.normal(0.05), shape)
  direction = direction if mask is None else direction * mask
  unit = direction * jax.lax.rsqrt(jnp.square(direction).sum(range(len(shape) - 1), keepdims=True))
  scale, bias = nn.initializers.ones, nn.initializers.zeros
  if module.is_initializing():
    y = apply(unit).astype(jnp.float32)
    mean, variance = y.mean(range(y.ndim - 1)), y.var(range(y.ndim - 1))
    init = deviation * jax.lax.rsqrt(variance + 1e-10)
    scale, bias = (lambda key, shape: init), (lambda key, shape: -mean * init)
  scale, bias = module.param('scale', scale, shape[-1:]), module.param('bias', bias, shape[-1:])
  y = apply(unit * scale.reshape(*[1] * (len(shape) - 1), -1))
  return y + bias.astype(y.dtype).reshape(*[1] * (y.ndim - 1), -1)


class NormConv(nn.Module):
  """A weight-normalised convolution over the causal taps alone or, without taps, of 1x1.

  Calls of one layer share its weights, as with `masked.Conv`; the first one initialises them.
  """

  features: int
  taps: Taps | None = None
  window: Callable = from_cache
  deviation: float = 1.0
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, '*S C'], at: Place = WHOLE, memory: str = MEMORY) -> Float[Array, '*T F']:
    x = x.astype(self.dtype)
    taps = self.taps
    if taps is None:
      apply = lambda kernel: x @ kernel.astype(self.dtype)
      return weight_norm(self, (x.shape[-1], self.features), apply, self.deviation)
    window = None if at.row is None else self.window(self, x, taps, at, memory)
    apply = lambda kernel: correlate(x, window, kernel.astype(self.dtype), taps, at)
    channels = (x if window is None else window).shape[-1]
    return weight_norm(self, (taps.count, channels, self.features), apply, self.deviation)


class NormUpsample(nn.Module):
  """A weight-normalised transposed convolution of stride 2 that depends on nothing further down or to the right.

  With `across` = 3 an input position reaches its own two output columns and the one before; with 2, its own alone. A
  call takes half an image x, [B, H, W, C], [B, W, C] or [B, C], and a place in the whole image. It returns
  [B, 2 H, 2 W, F], [B, 2 W, F] or [B, F].
  """

  features: int
  across: int
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, '*S C'], at: Place = WHOLE) -> Float[Array, '*T F']:
    shape = (2, self.across, x.shape[-1], self.features)
    return weight_norm(
      self, shape, lambda kernel: self._spread(x.astype(self.dtype), kernel.astype(self.dtype), at), 1.0
    )

  def _spread(self, x, kernel, at: Place):
    if at.column is not None:
      return x @ kernel[at.row % 2, at.column % 2]
    if at.row is not None:
      return _interleave(jnp.einsum('bwc,kcf->bwkf', x, kernel[at.row % 2]))
    y = _interleave(jnp.einsum('bhwc,ikcf->bhiwkf', x, kernel))
    return y.reshape(y.shape[0], -1, *y.shape[3:])


def _interleave(y):
  """Interleaves columns, [..., W, k, F] -> [..., 2 W, F]."""
  if y.shape[-2] == 3:
    before, even, odd = (part[..., 0, :] for part in jnp.split(y, 3, -2))
    following = jnp.concatenate([before[..., 1:, :], jnp.zeros_like(before[..., :1, :])], -2)
    y = jnp.stack([even, odd + following], -2)
  return y.reshape(*y.shape[:-3], -1, y.shape[-1])


class GatedResnet(nn.Module):
  """A residual block x + a * sigmoid(b); two convolutions of x, another map and a condition give (a, b).

  A call takes x [..., F], another map [..., G] at the same place, a condition [..., D] that broadcasts, and a place. It
  returns [..., F]. The other map and the condition may be None.

  Reference: Salimans et al. 2017, arXiv:1701.05517, section 2 (after its program).
  """

  taps: Taps | None  # None: 1x1
  nonlinearity: str = 'concat_elu'
  dropout: float = 0.0  # applied if there is an rng of that name
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, '*S F'], other=None, condition=None, at: Place = WHOLE) -> Float[Array, '*S F']:
    act, features = NONLINEARITIES[self.nonlinearity], x.shape[-1]
    y = NormConv(features, self.taps, dtype=self.dtype)(act(x), at)
    if other is not None:
      y = y + NormConv(features, dtype=self.dtype)(act(other))
    y = nn.Dropout(self.dropout, deterministic=not self.has_rng('dropout'))(act(y))
    y = NormConv(2 * features, self.taps, deviation=0.1, dtype=self.dtype)(y, at)
    if condition is not None:
      init = nn.initializers.normal(0.05)
      y = y + nn.Dense(2 * features, use_bias=False, kernel_init=init, dtype=self.dtype)(condition)
    a, b = jnp.split(y, 2, -1)
    return x + a * jax.nn.sigmoid(b)
