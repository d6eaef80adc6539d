"""Autoencoders with latent codes: one level or several, each quantized given the levels above it.

Levels go from the top, the smallest map and the first to be quantized, to the bottom. Pixels are in [0, 1].

Axes: B batch, H height, W width, C channels; h, w of a level; D features of a code, K codes of a codebook.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dgm_jax.nn import quantize
from dgm_jax.nn.blocks import TransposedConv, halvings

__all__ = ['VQVAE', 'Down', 'Outputs', 'Residual', 'Up', 'Widen', 'level_names', 'level_sizes']


def level_names(count: int) -> tuple[str, ...]:
  """Returns the names of the levels from the top: top, middle (middle_1, middle_2, ... of several), bottom."""
  middle = ['middle'] if count == 3 else [f'middle_{i}' for i in range(1, count - 1)]
  return ('top', *middle, 'bottom')[:count]


def level_sizes(size: tuple[int, int], strides: Sequence[int]) -> list[list[tuple[int, int]]]:
  """Returns the sizes of the maps of each level, from the top.

  They are that of its own map and those on the way up to the next larger map or the image. Odd sizes are rounded up on
  the way down: ((28, 28), (2, 4)) gives [[(4, 4), (7, 7)], [(7, 7), (14, 14), (28, 28)]].
  """
  ups = halvings(size, sum(map(_doublings, strides)))[::-1]
  ends = list(itertools.accumulate(map(_doublings, strides), initial=0))
  return [ups[start : end + 1] for start, end in itertools.pairwise(ends)]


def _doublings(stride: int) -> int:
  return stride.bit_length() - 1


class Outputs(NamedTuple):
  """The outputs of the network for a batch; lists are by level, from the top."""

  x: Any  # [B, H, W, C] the reconstruction
  z: list  # [B, h, w, D] before quantization, or [B, h, w, G, D] of several codes a place
  codes: list  # [B, h, w] or [B, h, w, G] int32


class Residual(nn.Module):
  """Residual blocks of a 3x3 and a 1x1 convolution, with a rectifier at the end.

  Reference: van den Oord et al. 2017, arXiv:1711.00937, section 4.1.
  """

  blocks: int
  width: int  # between the two convolutions
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, h: Float[Array, 'B h w F']) -> Float[Array, 'B h w F']:
    for _ in range(self.blocks):
      y = nn.Conv(self.width, (3, 3), dtype=self.dtype)(jax.nn.relu(h))
      h = h + nn.Conv(h.shape[-1], (1, 1), dtype=self.dtype)(jax.nn.relu(y))
    return jax.nn.relu(h)


class Down(nn.Module):
  """4x4 convolutions of stride 2, a 3x3 one, residual blocks: [B, h, w, .] -> [B, h', w', hidden].

  The first convolution has half the features.
  """

  halvings: int
  hidden: int
  blocks: int
  width: int
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, h: Float[Array, 'B H W E']) -> Float[Array, 'B h w F']:
    for i in range(self.halvings):
      features = self.hidden if i else self.hidden // 2
      h = jax.nn.relu(nn.Conv(features, (4, 4), (2, 2), dtype=self.dtype)(h))
    h = nn.Conv(self.hidden, (3, 3), dtype=self.dtype)(h)
    return Residual(self.blocks, self.width, self.dtype)(h)


class Up(nn.Module):
  """The mirror of `Down`, to maps of `sizes` with `features` channels: [B, h, w, .] -> [B, *sizes[-1], F]."""

  sizes: Sequence[tuple[int, int]]  # after each doubling; an odd one is cropped
  features: int
  hidden: int
  blocks: int
  width: int
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, h: Float[Array, 'B h w E']) -> Float[Array, 'B H W F']:
    h = nn.Conv(self.hidden, (3, 3), dtype=self.dtype)(h)
    h = Residual(self.blocks, self.width, self.dtype)(h)
    for i, (height, width) in enumerate(self.sizes):
      last = i == len(self.sizes) - 1
      features = self.features if last else self.hidden // 2
      h = TransposedConv(features, dtype=self.dtype)(h)[:, :height, :width]
      h = h if last else jax.nn.relu(h)
    return h


class Widen(nn.Module):
  """Linear 4x4 transposed convolutions of stride 2: [B, h, w, .] -> [B, *sizes[-1], F]."""

  sizes: Sequence[tuple[int, int]]
  features: int
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, h: Float[Array, 'B h w E']) -> Float[Array, 'B H W F']:
    for height, width in self.sizes:
      h = TransposedConv(self.features, dtype=self.dtype)(h)[:, :height, :width]
    return h


class VQVAE(nn.Module):
  """Encoders, codebooks and decoders of all levels.

  With one level it is VQ-VAE, with two or three VQ-VAE-2. A level is quantized from its own features and from a
  decoder's features of all codes above. The image is decoded from all levels' codes, enlarged to the bottom's size.

  Reference: van den Oord et al. 2017, arXiv:1711.00937; Razavi et al. 2019, arXiv:1906.00446, algorithm 1.
  """

  shape: Sequence[int]  # of an image
  strides: Sequence[int] = (2, 4)  # of each level over the next larger map, from the top; powers of two
  codes: int = 512
  features: int = 64  # D
  hidden: int = 128
  blocks: int = 2
  width: int = 32
  per_place: int = 1  # G: codes side by side at each place of a map, of one codebook
  dtype: jnp.dtype | str = 'float32'

  def setup(self):
    common = {'hidden': self.hidden, 'blocks': self.blocks, 'width': self.width, 'dtype': self.dtype}
    levels = range(len(self.strides))
    self.names = level_names(len(levels))
    self.sizes = level_sizes(tuple(self.shape[:2]), self.strides)
    self.encoders = [Down(_doublings(stride), **common) for stride in self.strides]
    self.heads = [nn.Conv(self.per_place * self.features, (1, 1), dtype=self.dtype) for _ in levels]
    start = nn.initializers.variance_scaling(1.0, 'fan_in', 'uniform', in_axis=1, out_axis=0)
    self.codebooks = [self.param(f'codebook_{name}', start, (self.codes, self.features)) for name in self.names]
    # From the codes of a level and all above, at the size of the next map: features for its encoder, and for its codes.
    self.tellers = [Up(self.sizes[i][1:], self.features, **common) for i in levels[:-1]]
    wide = self.per_place * self.features
    self.joiners = [Widen(self.sizes[i][1:], (i + 1) * wide, self.dtype) for i in levels[:-1]]
    self.decoder = Up(self.sizes[-1][1:], self.shape[-1], **common)

  def __call__(self, x: Float[Array, 'B H W C']) -> Outputs:
    """Reconstructs images; gradients pass straight from the decoder's inputs to the encoders (straight-through)."""
    maps, joined, zs, codes = self._maps(x), None, [], []
    for i, features in enumerate(maps):
      inputs = features if joined is None else jnp.concatenate([self.tellers[i - 1](joined), features], -1)
      z = self.heads[i](inputs).astype(jnp.float32)
      z = z if self.per_place == 1 else z.reshape(*z.shape[:3], self.per_place, self.features)
      code = quantize.nearest(z, self.codebooks[i])
      joined = self._join(i, joined, quantize.straight_through(z, self.codebooks[i][code]))
      zs, codes = [*zs, z], [*codes, code]
    return Outputs(self._image(joined), zs, codes)

  def encode(self, x: Float[Array, 'B H W C']) -> list[Int[Array, 'B ...']]:
    """Computes the codes of each level, from the top."""
    return self(x).codes

  def decode(self, codes: list[Int[Array, 'B ...'] | None]) -> Float[Array, 'B H W C']:
    """Decodes the codes of each level, from the top; the vectors of a level that is None are zero."""
    batch, joined = next(len(code) for code in codes if code is not None), None
    for i, code in enumerate(codes):
      zeros = jnp.zeros((batch, *self.sizes[i][0], self.per_place * self.features))
      joined = self._join(i, joined, zeros if code is None else self.codebooks[i][code])
    return self._image(joined)

  def _maps(self, x: Array) -> list[Array]:
    """Computes the encoders' maps of each level, from the top; the input of each is the map of the level below."""
    maps, h = [], x - 0.5
    for encoder in reversed(self.encoders):
      h = encoder(h)
      maps.insert(0, h)
    return maps

  def _join(self, i: int, joined: Array | None, vectors: Array) -> Array:
    """Concatenates the vectors of level i with those of all levels above, enlarged to its size."""
    vectors = vectors.astype(self.dtype).reshape(*vectors.shape[:3], -1)
    return vectors if joined is None else jnp.concatenate([self.joiners[i - 1](joined), vectors], -1)

  def _image(self, joined: Array) -> Array:
    return self.decoder(joined).astype(jnp.float32) + 0.5
