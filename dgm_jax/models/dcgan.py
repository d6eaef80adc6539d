"""Convolutional generators and critics without pooling: those of DCGAN, WGAN, WGAN-GP and InfoGAN.

Layers with a normalisation have no bias; `bias` says whether the others do.

Axes: B batch, Z latents, F features, H height, W width, C channels.

Reference: Radford et al. 2016, arXiv:1511.06434, section 3.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dgm_jax.models.adversary import OUTPUTS, Verdict
from dgm_jax.nn.blocks import TransposedConv, halvings

__all__ = ['Critic', 'Generator', 'Recognizer', 'small']

small = nn.initializers.normal(0.02)


class Generator(nn.Module):
  """Transposed convolutions of stride 2 from a small image to [B, H, W, C], with normalisations and rectifiers between.

  The first layer is linear and normalised by channel. If dense layers precede it, all of them are normalised by unit.
  Sizes that are not a power of two times the first are cropped on the way.
  """

  channels: Sequence[int]  # of the layers' inputs, the small image's first
  shape: Sequence[int]
  dense: Sequence[int] = ()
  kernel: int = 5
  output: str = 'tanh'
  bias: bool = False
  norm: Callable | None = None
  kernel_init: Callable = small
  dtype: jnp.dtype | str = 'float32'

  def setup(self):
    hidden = {'use_bias': self.bias and self.norm is None, 'kernel_init': self.kernel_init, 'dtype': self.dtype}
    sizes = halvings(tuple(self.shape[:2]), len(self.channels))
    self.small = (*sizes[-1], self.channels[0])
    self.sizes = sizes[-2::-1]
    first = self.small[0] * self.small[1] * self.small[2]
    self.linear = [nn.Dense(size, **hidden) for size in (*self.dense, first)]
    self.convs = [TransposedConv(width, self.kernel, **hidden) for width in self.channels[1:]]
    self.last = TransposedConv(self.shape[-1], self.kernel, **(hidden | {'use_bias': self.bias}))
    count = len(self.linear) + len(self.convs)
    self.norms = [self.norm(dtype=self.dtype) for _ in range(count)] if self.norm else [lambda h: h] * count

  def __call__(self, z: Float[Array, 'B Z']) -> Float[Array, 'B H W C']:
    norms, h = iter(self.norms), z
    for layer in self.linear[:-1]:
      h = jax.nn.relu(next(norms)(layer(h)))
    h, image = self.linear[-1](h), (-1, *self.small)
    h = next(norms)(h).reshape(image) if self.dense else next(norms)(h.reshape(image))
    h = jax.nn.relu(h)
    for conv, (height, width) in zip(self.convs, self.sizes, strict=False):
      h = jax.nn.relu(next(norms)(conv(h)[:, :height, :width]))
    h = self.last(h)[:, : self.shape[0], : self.shape[1]]
    return OUTPUTS[self.output](h.astype(jnp.float32))


class Critic(nn.Module):
  """Convolutions of stride 2 with leaky rectifiers: [B, H, W, C] -> value [B] and features [B, F].

  The first layer is never normalised.
  """

  channels: Sequence[int]
  dense: Sequence[int] = ()
  kernel: int = 5
  slope: float = 0.2
  bias: bool = False
  norm: Callable | None = None
  kernels: int = 0
  kernel_init: Callable = small
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> tuple[Float[Array, ' B'], Float[Array, 'B F']]:
    h, options = x, {'kernel_init': self.kernel_init, 'dtype': self.dtype}
    for i, width in enumerate(self.channels):
      norm = self.norm if i else None
      h = nn.Conv(width, (self.kernel, self.kernel), (2, 2), use_bias=self.bias and norm is None, **options)(h)
      h = jax.nn.leaky_relu(norm(dtype=self.dtype)(h) if norm else h, self.slope)
    h = h.reshape(h.shape[0], -1)
    for size in self.dense:
      h = nn.Dense(size, use_bias=self.bias and self.norm is None, **options)(h)
      h = jax.nn.leaky_relu(self.norm(dtype=self.dtype)(h) if self.norm else h, self.slope)
    return Verdict(self.kernels, self.bias, self.kernel_init)(h), h.astype(jnp.float32)


class Recognizer(nn.Module):
  """The posterior Q(c|x) from a critic's features [B, F]: logits of the categorical code, means of the continuous ones.

  The deviation of the continuous codes is fixed at one, but its layer's outputs exist, as in the released code.

  Reference: Chen et al. 2016, arXiv:1606.03657, appendix C.1.
  """

  classes: int
  continuous: int
  hidden: int = 128
  slope: float = 0.1
  norm: Callable | None = None
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, h: Float[Array, 'B F']) -> tuple[Float[Array, 'B K'], Float[Array, 'B D']]:
    options = {'kernel_init': small, 'dtype': self.dtype}
    h = nn.Dense(self.hidden, use_bias=self.norm is None, **options)(h)
    h = jax.nn.leaky_relu(self.norm(dtype=self.dtype)(h) if self.norm else h, self.slope)
    out = nn.Dense(self.classes + 2 * self.continuous, **options)(h).astype(jnp.float32)
    return out[:, : self.classes], out[:, self.classes : self.classes + self.continuous]
