"""Networks of StyleGAN: a mapping to styles, a synthesis by styles and noise, a traditional generator, a critic.

Layers are named by their resolution, so that a network of 2 r x 2 r has all layers of one of r x r. It grows by a fade:
at 0 it is the smaller network with its image doubled, and at 1 the old way to the image is gone.

Axes: B batch, Z latents, W styles, L layers, F features, H height, C channels.

Reference: Karras et al. 2019, arXiv:1812.04948, section 2; Karras et al. 2018, arXiv:1710.10196, section 2 and table 2.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dgm_jax.nn.equalised import EqualConv, EqualDense
from dgm_jax.nn.minibatch import MinibatchDeviation
from dgm_jax.nn.style import SLOPE, StyledLayer, blur, double, halve, pixel_norm

__all__ = [
  'CONSTANTS', 'Critic', 'Generator', 'Mapping', 'Synthesis', 'Traditional', 'channels', 'lerp', 'noise_maps',
  'num_layers', 'resolutions', 'shared_noise',
]  # fmt: skip

SMALLEST = 4
CONSTANTS = {'ones': nn.initializers.ones, 'normal': nn.initializers.normal(1.0)}


def resolutions(shape: Sequence[int]) -> list[int]:
  """Returns the sizes 4, 8, ... of the images on the way to a shape [H, H, C].

  Raises:
    ValueError: the image is no square whose side is 4 times a power of two.
  """
  size = shape[0]
  if len(shape) != 3 or shape[1] != size or size < SMALLEST or size & (size - 1):
    raise ValueError(f'images must be squares of 4, 8, 16, ... pixels a side, these are of {tuple(shape)}')
  return [2**power for power in range(2, size.bit_length())]


def num_layers(shape: Sequence[int]) -> int:
  """Returns the number of layers that have a style: two at each size."""
  return 2 * len(resolutions(shape))


def channels(size: int, base: int, most: int) -> int:
  """Returns the channels of the layers at a size: 2 base / size, at most `most`."""
  return min(2 * base // size, most)


def noise_maps(key: Array, n: int, shape: Sequence[int]) -> list[Float[Array, 'N H H 1']]:
  """Draws standard normal noise for the layers of images [n, *shape]."""
  sizes = [size for size in resolutions(shape) for _ in range(2)]
  ends = [0, *itertools.accumulate(size**2 for size in sizes)]
  flat = jax.random.normal(key, (n, ends[-1]))  # one draw: each is many operations to compile
  parts = zip(sizes, itertools.pairwise(ends), strict=True)
  return [flat[:, start:end].reshape(n, size, size, 1) for size, (start, end) in parts]


def shared_noise(key: Array, number: Int[Array, ' B'], shape: Sequence[int]) -> list[Float[Array, 'B H H 1']]:
  """Draws noise for the layers of images of which those of one number have the same."""
  one = lambda number: [noise[0] for noise in noise_maps(jax.random.fold_in(key, number), 1, shape)]
  return jax.vmap(one)(number)


class Mapping(nn.Module):
  """The map from latents to styles: a pixel norm and `layers` dense layers, [B, Z] -> [B, W]."""

  width: int = 512
  layers: int = 8
  multiplier: float = 0.01
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, z: Float[Array, 'B Z']) -> Float[Array, 'B W']:
    h = pixel_norm(z)
    for i in range(self.layers):
      dense = EqualDense(self.width, multiplier=self.multiplier, dtype=self.dtype, name=f'layers_{i}')
      h = jax.nn.leaky_relu(dense(h), SLOPE)
    return h.astype(jnp.float32)


class Block(nn.Module):
  """The two layers at a size; all but those at the smallest size double the image first."""

  features: int
  first: bool = False
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(
    self, h: Float[Array, 'B H H C'], w: Sequence[Array | None], noise: Sequence[Array | None]
  ) -> Float[Array, 'B I I F']:
    conv = lambda name: EqualConv(self.features, use_bias=False, dtype=self.dtype, name=name)
    if not self.first:
      h = blur(conv('up')(double(h)))
    h = StyledLayer(name='styled_0')(h, w[0], noise[0])
    return StyledLayer(name='styled_1')(conv('conv')(h), w[1], noise[1])


def lerp(old: Array, new: Array, fade: Array | float) -> Array:
  """Computes (1 - fade) old + fade new, in the dtype of `new`."""
  return (old + (new - old) * fade).astype(new.dtype)


def to_image(
  h: Array, w: Sequence, noise: Sequence, network: 'Synthesis | TraditionalSynthesis'
) -> Float[Array, 'B H H C']:
  """Applies the blocks of all sizes to h [B, 4, 4, F], and the map to colours at the last one, or two in a fade."""
  sizes, image = resolutions(network.shape), None
  for i, size in enumerate(sizes):
    features = channels(size, network.base, network.most)
    pair = slice(2 * i, 2 * i + 2)
    h = Block(features, first=i == 0, dtype=network.dtype, name=f'layers_{size}')(h, w[pair], noise[pair])
    colours = EqualConv(network.shape[-1], size=1, gain=1.0, dtype=network.dtype, name=f'to_rgb_{size}')(h)
    smaller, image = image, colours.astype(jnp.float32)
  return image if smaller is None or _is_whole(network.fade) else lerp(double(smaller), image, network.fade)


def _is_whole(fade: Any) -> bool:
  return isinstance(fade, float) and fade == 1.0


class Synthesis(nn.Module):
  """Images [B, *shape] from a style for each layer [B, L, W] and noise for each layer; the input is a constant."""

  shape: Sequence[int]
  base: int = 8192
  most: int = 512
  constant: str = 'ones'
  fade: Any = 1.0
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, w: Float[Array, 'B L W'], noise: Sequence[Array]) -> Float[Array, 'B H H C']:
    features = channels(SMALLEST, self.base, self.most)
    constant = self.param('constant', CONSTANTS[self.constant], (SMALLEST, SMALLEST, features))
    h = jnp.broadcast_to(constant.astype(self.dtype), (w.shape[0], *constant.shape))
    return to_image(h, [w[:, i] for i in range(w.shape[1])], noise, self)


class Generator(nn.Module):
  """A style-based generator [B, Z] -> [B, *shape].

  With a key 'dropout', in training, noise is drawn, and styles are mixed with those of other latents: with probability
  `mixing`, an example has its own styles before a layer that is drawn for it, and the others from there on. Without a
  key all images have the same noise. The collection 'batch_stats' holds the mean style.

  Latents are standard normal.
  """

  shape: Sequence[int]
  width: int = 512
  layers: int = 8
  multiplier: float = 0.01
  base: int = 8192
  most: int = 512
  mixing: float = 0.9
  truncated: int = 8  # layers whose styles `truncate` changes, from the first
  constant: str = 'ones'  # where the first input starts; 'normal' is that of Karras et al. 2020, arXiv:1912.04958
  fade: Any = 1.0
  dtype: jnp.dtype | str = 'float32'

  def setup(self):
    self.mapping = Mapping(self.width, self.layers, self.multiplier, self.dtype)
    self.synthesis = Synthesis(self.shape, self.base, self.most, self.constant, self.fade, self.dtype)
    self.mean = self.variable('batch_stats', 'w', lambda: jnp.zeros(self.width))

  def __call__(self, z: Float[Array, 'B Z']) -> Float[Array, 'B H H C']:
    w, number = self.mapping(z), num_layers(self.shape)
    if self.is_mutable_collection('batch_stats'):
      self.mean.value = jax.lax.stop_gradient(w).mean(0)
    styles = jnp.broadcast_to(w[:, None], (w.shape[0], number, w.shape[1]))
    if not self.has_rng('dropout'):
      return self.synthesis(styles, noise_maps(jax.random.key(0), 1, self.shape))
    if self.mixing:
      other = self.mapping(jax.random.normal(self.make_rng('dropout'), z.shape))
      cut = draw_cuts(self.make_rng('dropout'), z.shape[0], number, self.mixing)
      styles = jnp.where(jnp.arange(number)[None, :, None] < cut[:, None, None], styles, other[:, None])
    return self.synthesis(styles, noise_maps(self.make_rng('dropout'), z.shape[0], self.shape))

  def map_latents(self, z: Float[Array, 'B Z']) -> Float[Array, 'B W']:
    """Returns the style of latents."""
    return self.mapping(z)

  def synthesize(self, w: Float[Array, 'B L W'], noise: Sequence[Array]) -> Float[Array, 'B H H C']:
    """Returns the images of styles and noise."""
    return self.synthesis(w, noise)

  def truncate(self, w: Float[Array, 'B W'], psi: Float[Array, ' B']) -> Float[Array, 'B L W']:
    """Moves styles to psi times their distance from the mean style, in the first `truncated` layers."""
    layer = jnp.arange(num_layers(self.shape))
    factor = jnp.where(layer[None] < self.truncated, psi[:, None], 1.0)[..., None]
    mean = self.mean.value[None, None]
    return mean + factor * (w[:, None] - mean)


def draw_cuts(key: Array, n: int, layers: int, mixing: float) -> Int[Array, ' N']:
  """Draws the first layer [n] that has the other style: uniform on 1 ... layers - 1, or `layers` if there is none."""
  for_coin, for_cut = jax.random.split(key)
  cut = jax.random.randint(for_cut, (n,), 1, layers)
  return jnp.where(jax.random.bernoulli(for_coin, mixing, (n,)), cut, layers)


class Traditional(nn.Module):
  """A generator [B, Z] -> [B, *shape] of the same blocks, whose input is a dense layer of the mapped latents.

  It has no styles by layer and no noise, and pixel norms in place of instance norms.

  Reference: Karras et al. 2019, arXiv:1812.04948, figure 1a and table 1, row B.
  """

  shape: Sequence[int]
  width: int = 512
  layers: int = 0
  multiplier: float = 0.01
  base: int = 8192
  most: int = 512
  fade: Any = 1.0
  dtype: jnp.dtype | str = 'float32'

  def setup(self):
    self.mapping = Mapping(self.width, self.layers, self.multiplier, self.dtype)
    self.synthesis = TraditionalSynthesis(self.shape, self.base, self.most, self.fade, self.dtype)

  def __call__(self, z: Float[Array, 'B Z']) -> Float[Array, 'B H H C']:
    return self.synthesis(self.mapping(z))

  def map_latents(self, z: Float[Array, 'B Z']) -> Float[Array, 'B W']:
    """Returns the input of the first layer."""
    return self.mapping(z)

  def synthesize(self, w: Float[Array, 'B L W'], noise: Sequence[Array]) -> Float[Array, 'B H H C']:
    """Returns the images of the first of the inputs of an example; there is no noise."""
    del noise
    return self.synthesis(w[:, 0])


class TraditionalSynthesis(nn.Module):
  """Images [B, *shape] from the input of the first layer [B, W]."""

  shape: Sequence[int]
  base: int
  most: int
  fade: Any
  dtype: jnp.dtype | str

  @nn.compact
  def __call__(self, w: Float[Array, 'B W']) -> Float[Array, 'B H H C']:
    features = channels(SMALLEST, self.base, self.most)
    dense = EqualDense(SMALLEST**2 * features, gain=math.sqrt(2.0) / 4, use_bias=False, dtype=self.dtype, name='dense')
    absent = [None] * num_layers(self.shape)
    return to_image(dense(w).reshape(-1, SMALLEST, SMALLEST, features), absent, absent, self)


class Critic(nn.Module):
  """Blocks that halve the image, from the largest size to 4 x 4: [B, H, H, C] -> value [B] and features [B, F].

  `group` examples share the deviation that the last block sees; 0: none does. `quantize(name)`, a layer or None, is
  applied to the output of the block of this name.
  """

  base: int = 8192
  most: int = 512
  group: int = 4
  fade: Any = 1.0
  quantize: Callable[[str], Callable | None] | None = None
  dtype: jnp.dtype | str = 'float32'

  @property
  def layers(self) -> tuple[str, ...]:
    """Returns the names of the blocks at all sizes but the smallest, from 1024 x 1024 on."""
    return tuple(f'layers_{2**power}' for power in range(10, 2, -1))

  @nn.compact
  def __call__(self, x: Float[Array, 'B H H C']) -> tuple[Float[Array, ' B'], Float[Array, 'B F']]:
    sizes = resolutions(x.shape[1:])[::-1]
    inputs = self._inputs(x, sizes)
    h = inputs[0]
    for i, size in enumerate(sizes[:-1]):
      h = Halving(channels(size, self.base, self.most), channels(size // 2, self.base, self.most), self.dtype,
                  name=f'layers_{size}')(h)  # fmt: skip
      if self.quantize and (layer := self.quantize(f'layers_{size}')):
        h = layer(h)
      if i == 0 and not _is_whole(self.fade):
        h = lerp(inputs[1], h, self.fade)
    return Last(channels(SMALLEST, self.base, self.most), self.group, self.dtype, name=f'layers_{SMALLEST}')(h)

  def _inputs(self, x: Array, sizes: Sequence[int]) -> list[Array]:
    """Returns the features of the image at each size; what is not used costs nothing once it is compiled."""
    inputs = []
    for size in sizes:
      conv = EqualConv(channels(size, self.base, self.most), size=1, dtype=self.dtype, name=f'from_rgb_{size}')
      inputs.append(jax.nn.leaky_relu(conv(x), SLOPE))
      x = halve(x) if size > SMALLEST else x
    return inputs


class Halving(nn.Module):
  """Two convolutions, the second of which halves the image: [B, H, H, C] -> [B, H / 2, H / 2, F]."""

  width: int
  features: int
  dtype: jnp.dtype | str

  @nn.compact
  def __call__(self, h: Float[Array, 'B H H C']) -> Float[Array, 'B I I F']:
    h = jax.nn.leaky_relu(EqualConv(self.width, dtype=self.dtype, name='conv')(h), SLOPE)
    return jax.nn.leaky_relu(halve(EqualConv(self.features, dtype=self.dtype, name='down')(blur(h))), SLOPE)


class Last(nn.Module):
  """The layers at 4 x 4, and the value."""

  features: int
  group: int
  dtype: jnp.dtype | str

  @nn.compact
  def __call__(self, h: Float[Array, 'B H H C']) -> tuple[Float[Array, ' B'], Float[Array, 'B F']]:
    h = MinibatchDeviation(self.group, name='minibatch')(h) if self.group else h
    h = jax.nn.leaky_relu(EqualConv(self.features, dtype=self.dtype, name='conv')(h), SLOPE)
    dense = EqualDense(self.features, dtype=self.dtype, name='dense')
    h = jax.nn.leaky_relu(dense(h.reshape(h.shape[0], -1)), SLOPE).astype(jnp.float32)
    return EqualDense(1, gain=1.0, name='value')(h)[:, 0], h
