"""Classifiers of images: residual networks, reversible ones, and ones that are invertible up to the last features.

Each is a chain (`dgm_jax.nn.reversible`) of layers without an inverse and of invertible parts whose activations need
not be stored. A step updates the statistics once, however often a layer is evaluated.

Axes: B batch, H height, W width, C channels, K classes.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dgm_jax.nn import coupling
from dgm_jax.nn import reversible as rev
from dgm_jax.nn.norm import BatchNorm
from dgm_jax.nn.reversible import Bijection

__all__ = [
  'MEMORY', 'Classifier', 'FirstUnit', 'Head', 'Residual', 'Shortcut', 'Stem', 'Unit', 'conv', 'irevnet', 'logits',
  'resnet', 'revnet',
]  # fmt: skip

MEMORY = {'plain': rev.plain, 'reversible': rev.reversible}  # activations stored for the gradient: all, none
EPSILON, SMALL_EPSILON = 1e-3, 1e-5  # of the normalisation: RevNet's program, i-RevNet's


class Classifier(NamedTuple):
  """The map to the features, and from them to the logits [B, K]."""

  features: Bijection
  head: Bijection


class Residual(nn.Module):
  """The residual of a unit: normalisation, rectifier and convolution for each kernel.

  With three kernels, the inner two have a quarter of the channels.

  Reference: He et al. 2016, arXiv:1603.05027, figure 1b.
  """

  features: int
  kernels: Sequence[int] = (3, 3)
  stride: int = 1
  fresh: bool = False  # its input is already normalised and rectified
  act: Callable = nn.relu
  epsilon: float = EPSILON
  dtype: jnp.dtype | str | None = None

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> Float[Array, 'B h w F']:
    middle = self.features if len(self.kernels) == 2 else max(1, self.features // 4)
    h = x
    for i, size in enumerate(self.kernels):
      h = h if self.fresh and i == 0 else self.act(BatchNorm(self.epsilon, dtype=self.dtype)(h))
      width, stride = (self.features if i == len(self.kernels) - 1 else middle), (self.stride if i == 0 else 1)
      h = conv(width, size, stride, self.dtype)(h)
    return h.astype(x.dtype)


class Shortcut(nn.Module):
  """The input in the shape of a unit's output: by means and channels of zeros, or by a 1x1 convolution."""

  features: int
  stride: int
  projected: bool
  dtype: jnp.dtype | str | None = None

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> Float[Array, 'B h w F']:
    if self.projected and x.shape[-1] != self.features:
      return conv(self.features, 1, self.stride, self.dtype)(x).astype(x.dtype)
    if self.stride > 1:
      x = nn.avg_pool(x, (self.stride, self.stride), (self.stride, self.stride))
    return jnp.pad(x, [(0, 0)] * 3 + [(0, self.features - x.shape[-1])])


class Stem(nn.Module):
  """A convolution with normalisation and rectifier: 3x3, or if `large` 7x7 with stride 2 and the greatest of 3x3."""

  features: int
  act: Callable = nn.relu
  large: bool = False  # of images of 224 x 224, which become 56 x 56
  dtype: jnp.dtype | str | None = None

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> Float[Array, 'B h w F']:
    h = conv(self.features, 7 if self.large else 3, 2 if self.large else 1, self.dtype)(x)
    h = self.act(BatchNorm(EPSILON, dtype=self.dtype)(h)).astype(x.dtype)
    return nn.max_pool(h, (3, 3), (2, 2), 'SAME') if self.large else h


class Unit(nn.Module):
  """A residual unit, x + F(x)."""

  features: int
  kernels: Sequence[int]
  stride: int = 1
  fresh: bool = False
  act: Callable = nn.relu
  dtype: jnp.dtype | str | None = None

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> Float[Array, 'B h w F']:
    residual = Residual(self.features, self.kernels, self.stride, self.fresh, self.act, dtype=self.dtype)
    return Shortcut(self.features, self.stride, len(self.kernels) == 3, self.dtype)(x) + residual(x)


class FirstUnit(nn.Module):
  """A unit of two streams that may change their shape: y1 = x1 + F(x2), y2 = x2 + G(y1), with shortcuts."""

  features: int  # of each stream
  kernels: Sequence[int]
  stride: int = 1
  fresh: bool = False
  act: Callable = nn.relu
  dtype: jnp.dtype | str | None = None

  @nn.compact
  def __call__(self, x):
    residual = lambda stride, fresh: Residual(self.features, self.kernels, stride, fresh, self.act, dtype=self.dtype)
    short = lambda x: Shortcut(self.features, self.stride, len(self.kernels) == 3, self.dtype)(x)
    y = short(rev.pair('FirstUnit', x)[0]) + residual(self.stride, self.fresh)(x[1])
    return y, short(x[1]) + residual(1, False)(y)


class Head(nn.Module):
  """Normalisation, rectifier, mean over positions, linear layer: [B, H, W, C] -> [B, K], float32."""

  classes: int
  act: Callable = nn.relu
  dtype: jnp.dtype | str | None = None
  epsilon: float = EPSILON

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> Float[Array, 'B K']:
    h = self.act(BatchNorm(self.epsilon, dtype=self.dtype)(x)).mean((1, 2))
    return nn.Dense(self.classes, dtype=self.dtype)(h).astype(jnp.float32)


def conv(features: int, size: int, stride: int, dtype: Any) -> nn.Conv:
  """Returns a convolution without bias whose padding preserves the size, up to the stride.

  The weights are those of He et al. 2015, by their fan-out.
  """
  init = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')
  padding = [((size - 1) // 2,) * 2] * 2
  return nn.Conv(features, (size, size), (stride, stride), padding, use_bias=False, kernel_init=init, dtype=dtype)


def resnet(
  shape: Sequence[int], classes: int, units: Sequence[int] = (5, 5, 5), channels: Sequence[int] = (16, 16, 32, 64),
  kernels: Sequence[int] = (3, 3), large_stem: bool = False, act: Callable = nn.relu, unroll: int = 1,
  dtype: Any = None,
) -> Classifier:  # fmt: skip
  """Returns a residual network.

  With three kernels the channels of the stages, though not of the stem, are four times as many. A large stem is for
  images of 224 x 224.

  Reference: He et al. 2016, arXiv:1603.05027; Gomez et al. 2017, arXiv:1707.04585, table 2 (its sizes).
  """
  del shape
  layers = [rev.one_way(Stem(channels[0], act, large_stem, dtype))]
  for stage, (n, width) in enumerate(zip(units, channels[1:], strict=True)):
    width = width * (4 if len(kernels) == 3 else 1)
    layers.append(rev.one_way(Unit(width, kernels, 1 + (stage > 0), stage == 0, act, dtype)))
    if n > 1:
      layers.append(rev.repeat(n - 1, rev.one_way(Unit(width, kernels, act=act, dtype=dtype)), unroll))
  return Classifier(rev.chain(*layers), rev.one_way(Head(classes, act, dtype)))


def revnet(
  shape: Sequence[int], classes: int, units: Sequence[int] = (3, 3, 3), channels: Sequence[int] = (32, 32, 64, 112),
  kernels: Sequence[int] = (3, 3), memory: str = 'reversible', large_stem: bool = False, act: Callable = nn.relu,
  unroll: int = 1, dtype: Any = None,
) -> Classifier:  # fmt: skip
  """Returns a reversible residual network: each stage's units after its first store no activations.

  Args:
    shape: of an image.
    classes: K.
    units: of each stage.
    channels: of the stem and of each stage, both streams together; four times as many with three kernels.
    kernels: of each residual function.
    memory: a key of `MEMORY`.
    large_stem: whether the stem is that of images of 224 x 224.
    act: the nonlinearity.
    unroll: units written out in the compiled loop.
    dtype: of the activations.

  Reference: Gomez et al. 2017, arXiv:1707.04585, section 3.
  """
  del shape
  layers = [rev.one_way(Stem(channels[0], act, large_stem, dtype)), coupling.halves()]
  residual = lambda features: Residual(features, kernels, act=act, dtype=dtype)
  unit = rev.chain(*(coupling.coupling(residual, coupling.additive(), kept) for kept in (1, 0)))
  for stage, (n, width) in enumerate(zip(units, channels[1:], strict=True)):
    width = width * (4 if len(kernels) == 3 else 1) // 2
    layers.append(rev.one_way(FirstUnit(width, kernels, 1 + (stage > 0), stage == 0, act, dtype)))
    if n > 1:
      layers.append(MEMORY[memory](rev.repeat(n - 1, unit, unroll)))
  return Classifier(rev.chain(*layers, rev.invert(coupling.halves())), rev.one_way(Head(classes, act, dtype)))


def irevnet(
  shape: Sequence[int], classes: int, blocks: Sequence[int] = (18, 18, 18), strides: Sequence[int] = (1, 2, 2),
  stream: int = 16, first: int = 1, kernels: Sequence[int] = (3, 3, 3),
  memory: str = 'reversible', act: Callable = nn.relu, unroll: int = 1, dtype: Any = None,
) -> Classifier:  # fmt: skip
  """Returns a network whose last features determine the image: (x1, x2) -> (S x2, F(x2) + S x1), S space to depth.

  If the first stage has more channels than the image, channels of zeros are appended and the network is injective (a).
  Otherwise it is bijective (b).

  Args:
    shape: (H, W, C) of an image.
    classes: K.
    blocks: of each stage.
    strides: of each stage's first block.
    stream: channels of each of the two streams in the first stage; a stride of 2 makes four times as many.
    first: the factor of the initial space to depth.
    kernels: of each F.
    memory: a key of `MEMORY`.
    act: the nonlinearity.
    unroll: blocks written out in the compiled loop.
    dtype: of the activations.

  Reference: Jacobsen et al. 2018, arXiv:1802.07088, section 3.
  """
  channels, wide = shape[-1] * first**2, 2 * stream // strides[0] ** 2
  layers = [coupling.squeeze(first)] if first > 1 else []
  layers += [coupling.pad(channels, wide)] if wide > channels else []
  layers.append(coupling.halves())

  def block(stride, fresh=False):
    residual = lambda features: Residual(features, kernels, stride, fresh, act, SMALL_EPSILON, dtype)
    smaller = [coupling.squeeze(stride)] if stride > 1 else []
    additive = coupling.coupling(residual, coupling.additive(), 1)
    return rev.chain(*(rev.on(0, s) for s in smaller), additive, *(rev.on(1, s) for s in smaller), coupling.swap())

  for stage, (n, stride) in enumerate(zip(blocks, strides, strict=True)):
    layers.append(block(stride, stage == 0))
    layers += [rev.repeat(n - 1, block(1), unroll)] if n > 1 else []
  features = rev.chain(*layers, rev.invert(coupling.halves()))
  return Classifier(MEMORY[memory](features), rev.one_way(Head(classes, act, dtype, SMALL_EPSILON)))


def logits(classifier: Classifier, params: Any, stats: Any, x: jax.Array) -> Any:
  """Computes the logits [B, K] of images, and the statistics of this call."""
  stats_of = lambda name: None if stats is None else stats[name]
  h, _, features = classifier.features.forward(params['features'], stats_of('features'), x)
  y, _, head = classifier.head.forward(params['head'], stats_of('head'), h)
  return y, {'features': features, 'head': head}
