"""Residual networks that may know labels: BigGAN's, and by other widths those of SN-GAN.

Axes: B batch, Z latents, F features, H height, W width, C channels.

Reference: Brock et al. 2019, arXiv:1809.11096, appendix B, and ajbrock/BigGAN-PyTorch; Miyato et al. 2018,
arXiv:1802.05957, appendix B.4.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dgm_jax.models.adversary import OUTPUTS, glorot
from dgm_jax.models.heads import Heads, Said
from dgm_jax.models.resnet_gan import double, pool, wide
from dgm_jax.nn.attention import ImageAttention
from dgm_jax.nn.norm import BatchNorm, ConditionalBatchNorm

__all__ = ['Critic', 'Generator']

NORMAL, ORTHOGONAL = nn.initializers.normal(0.02), nn.initializers.orthogonal()
# Name -> starts of all layers, and of 3x3 ones.
INITIALIZERS = {'normal': (NORMAL, NORMAL), 'orthogonal': (ORTHOGONAL, ORTHOGONAL), 'glorot': (glorot, wide)}
PLAIN = ('glorot',)  # with which the gains and shifts of labels begin at exactly 1 and 0, as in SN-GAN's program


class Generator(nn.Module):
  """A linear layer and residual blocks that double the image: latents [B, Z], and labels [B] -> [B, H, W, C].

  `channels` are those of the first map and of each block. Every normalisation but the last depends on the label. With
  `shared` = E all labels have one table of vectors [K, E]. With `hierarchical` the latents are cut into as many chunks
  as there are channels: the first begins the map, each of the others goes to a block, beside the label's vector.
  Without classes, normalisations are plain, or depend on the chunks alone.
  """

  shape: Sequence[int]
  channels: Sequence[int]
  classes: int = 0
  shared: int = 0
  hierarchical: bool = False
  attention: Sequence[int] = ()  # heights of maps after which there is attention
  initializer: str = 'normal'
  output: str = 'tanh'
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, z: Float[Array, 'B Z'], label: Array | None = None) -> Float[Array, 'B H W C']:
    start, _ = INITIALIZERS[self.initializer]
    vector = None if not self.classes else label
    if vector is not None and (self.shared or self.hierarchical):
      size = self.shared or 128
      vector = nn.Embed(self.classes, size, embedding_init=start, name='shared')(vector)
    first, *chunks = jnp.split(z, len(self.channels), 1) if self.hierarchical else [z]
    height, width = (size >> (len(self.channels) - 1) for size in self.shape[:2])
    h = nn.Dense(height * width * self.channels[0], kernel_init=start, dtype=self.dtype)(first)
    h = h.reshape(-1, height, width, self.channels[0])
    for i, channels in enumerate(self.channels[1:]):
      condition = vector if not chunks else chunks[i] if vector is None else jnp.concatenate([vector, chunks[i]], 1)
      h = Up(channels, self.classes, self.initializer, self.dtype, name=f'block_{i}')(h, condition)
      if h.shape[1] in self.attention:
        h = ImageAttention(start, self.dtype, name=f'attention_{i}')(h)
    h = jax.nn.relu(BatchNorm(dtype=self.dtype)(h))
    h = _conv(self.shape[-1], self.initializer, self.dtype, last=True)(h)
    return OUTPUTS[self.output](h.astype(jnp.float32))


class Critic(nn.Module):
  """Residual blocks, the first `halvings` of which halve the image, then a sum over positions and heads.

  Images [B, H, W, C], and labels [B] -> value, features and logits. After a block, in this order, its features may be
  quantized (`quantize`, by the block's name) and attention may follow.
  """

  channels: Sequence[int]
  halvings: int
  head: str = 'none'
  classes: int = 0
  attention: Sequence[int] = ()
  initializer: str = 'normal'
  quantize: Callable | None = None  # name of a block -> layer or None
  dtype: jnp.dtype | str = 'float32'

  @property
  def layers(self) -> tuple[str, ...]:
    """Returns the names of the blocks."""
    return tuple(f'block_{i}' for i in range(len(self.channels)))

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C'], label: Array | None = None) -> Said:
    start, _ = INITIALIZERS[self.initializer]
    h = x
    for i, (name, channels) in enumerate(zip(self.layers, self.channels, strict=True)):
      h = Down(channels, i < self.halvings, i > 0, self.initializer, self.dtype, name=name)(h)
      if self.quantize and (layer := self.quantize(name)):
        h = layer(h)
      if h.shape[1] in self.attention:
        h = ImageAttention(start, self.dtype, name=f'attention_{i}')(h)
    h = jax.nn.relu(h).astype(jnp.float32).sum((1, 2))
    return Heads(self.head, self.classes, start)(h, label)


class Up(nn.Module):
  """A residual block that doubles the image: [B, H, W, C] -> [B, 2 H, 2 W, channels]."""

  channels: int
  classes: int
  initializer: str
  dtype: jnp.dtype | str

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C'], condition: Array | None) -> Float[Array, 'B I J F']:
    start, _ = INITIALIZERS[self.initializer]

    def act(h: Array) -> Array:
      if condition is None:
        return jax.nn.relu(BatchNorm(dtype=self.dtype)(h))
      by_label = jnp.issubdtype(condition.dtype, jnp.integer) and self.initializer in PLAIN
      first = nn.initializers.zeros if by_label else start
      return jax.nn.relu(ConditionalBatchNorm(self.classes, kernel_init=first, dtype=self.dtype)(h, condition))

    h = _conv(self.channels, self.initializer, self.dtype)(double(act(x)))
    h = _conv(self.channels, self.initializer, self.dtype)(act(h))
    return h + _pointwise(self.channels, self.initializer, self.dtype)(double(x))


class Down(nn.Module):
  """A residual block, [B, H, W, C] -> [B, H, W, channels], or half as high and wide.

  The block next to the image has no first rectifier and pools its shortcut first.
  """

  channels: int
  halve: bool
  rectify: bool
  initializer: str
  dtype: jnp.dtype | str

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> Float[Array, 'B I J F']:
    smaller = pool if self.halve else lambda h: h
    h = _conv(self.channels, self.initializer, self.dtype)(jax.nn.relu(x) if self.rectify else x)
    h = smaller(_conv(self.channels, self.initializer, self.dtype)(jax.nn.relu(h)))
    if not self.halve and x.shape[-1] == self.channels:
      return h + x
    shortcut = _pointwise(self.channels, self.initializer, self.dtype)
    return h + (smaller(shortcut(x)) if self.rectify else shortcut(smaller(x)))


def _conv(channels: int, initializer: str, dtype, last: bool = False) -> nn.Conv:
  return nn.Conv(channels, (3, 3), kernel_init=INITIALIZERS[initializer][not last], dtype=dtype)


def _pointwise(channels: int, initializer: str, dtype) -> nn.Conv:
  return nn.Conv(channels, (1, 1), kernel_init=INITIALIZERS[initializer][0], dtype=dtype)
