"""Flows from data to noise, each a bijection for examples of one shape, composed of layers of `dgm_jax.nn`.

They are values (`dgm_jax.nn.reversible.Bijection`) and no modules, since a gradient without activations needs the
parameters of every layer as an argument. The networks in their couplings are linen modules.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from dgm_jax.models import conditioners
from dgm_jax.nn import bijections, coupling, made
from dgm_jax.nn import reversible as rev
from dgm_jax.nn.reversible import Bijection

__all__ = [
  'AUTOREGRESSIVE', 'EDGES', 'ELEMENTWISE', 'GEOMETRIES', 'MEMORY', 'STARTS', 'af', 'glow', 'iaf', 'latent_shapes',
  'maf', 'nice', 'planar', 'realnvp', 'realnvp_dense',
]  # fmt: skip


def _spline() -> coupling.Elementwise:
  return coupling.spline(8, 4.0)


STARTS = {
  'zeros': lambda x: jnp.zeros(x.shape[1:]),
  # Scales each dimension of the data to the deviation of a logistic.
  'data': lambda x: jnp.log(math.pi / math.sqrt(3)) - jnp.log(x.std(0) + 1e-3),
}
ELEMENTWISE = {'affine': coupling.affine, 'spline': _spline}
AUTOREGRESSIVE = {'additive': coupling.additive, 'gated': coupling.gated}  # of `af`
MEMORY = {'plain': rev.plain, 'reversible': rev.reversible}  # activations stored for the gradient: all, none
EDGES = tuple(conditioners.EDGES)
GEOMETRIES = ('grid', 'squeezed')


def nice(
  shape: Sequence[int], hidden: Sequence[int] = (1000,) * 5, couplings: int = 4, start: str = 'zeros',
  memory: str = 'plain', whitening: bool = False, dtype: Any = None,
) -> Bijection:  # fmt: skip
  """Returns NICE: additive couplings of even and odd dimensions in turn, and one scaling.

  Args:
    shape: of an example.
    hidden: widths of each coupling's network.
    couplings: the number of couplings.
    start: a key of `STARTS`, for the scaling.
    memory: a key of `MEMORY`.
    whitening: whether the couplings see examples that are whitened as the first batch was (`bijections.whitening`).
    dtype: of the networks.

  Reference: Dinh et al. 2014, arXiv:1410.8516, section 5.1.
  """
  small = conditioners.symmetric(0.01)
  network = lambda features: conditioners.Dense(features, hidden, start=small, last=small, dtype=dtype)
  layers = [coupling.coupling(network, coupling.additive(), i % 2) for i in range(couplings)]
  inside = rev.chain(coupling.even_odd(), *layers, rev.invert(coupling.even_odd()))
  flat = [bijections.flatten(tuple(shape)), *[bijections.whitening()] * whitening]
  return rev.chain(*flat, MEMORY[memory](inside), bijections.scale(STARTS[start]))


def realnvp_dense(
  shape: Sequence[int], hidden: Sequence[int] = (64, 64), couplings: int = 8, activation: str = 'relu',
  elementwise: str = 'affine', memory: str = 'plain', unroll: int = 1, dtype: Any = None,
) -> Bijection:  # fmt: skip
  """Returns affine (or spline) couplings of the two halves of a vector in turn, on data of mean 0 and variance 1.

  Reference: Dinh et al. 2017, arXiv:1605.08803, section 3; Durkan et al. 2019, arXiv:1906.04032.
  """
  dense = lambda features: conditioners.Dense(features, hidden, activation, dtype=dtype)
  network = dense if elementwise == 'spline' else lambda features: conditioners.TanhScale(dense, features, 1.0)
  layers = [coupling.coupling(network, ELEMENTWISE[elementwise](), i) for i in (0, 1)]
  parts = [rev.repeat(couplings // 2, rev.chain(*layers), unroll)] if couplings > 1 else []
  parts += layers[:1] if couplings % 2 else []
  inside = rev.chain(coupling.even_odd(), *map(MEMORY[memory], parts), rev.invert(coupling.even_odd()))
  return rev.chain(bijections.flatten(tuple(shape)), bijections.actnorm(), inside)


def realnvp(
  shape: Sequence[int], width: int = 64, blocks: int = 8, scales: int = 2, geometry: str = 'grid',
  channel_factor: float = 1.0, memory: str = 'reversible', dtype: Any = None,
) -> Bijection:  # fmt: skip
  """Returns RealNVP: batch-normalised couplings of checkerboards and of channels.

  At each scale half of the dimensions leave.

  Args:
    shape: (H, W, C), divisible by 2^scales.
    width: channels of the residual networks at the first scale; twice as many at each next one.
    blocks: residual blocks of each network.
    scales: the number of scales, each half the size of the one before.
    geometry: of the inputs of checkerboards' networks: 'grid', as in the paper, or 'squeezed', four times cheaper.
    channel_factor: of the first normalisation in couplings of channels; in those of checkerboards it is 2.
    memory: a key of `MEMORY`.
    dtype: of the networks.

  Reference: Dinh et al. 2017, arXiv:1605.08803, sections 3.4 to 3.7.
  """
  resnet = lambda width, factor: lambda features: conditioners.ResNet(features, width, blocks, factor, dtype)

  def colour_coupling(width, kept):
    on_grid = lambda features: conditioners.OnGrid(resnet(width, 2.0), features, kept)
    return _normalised(on_grid if geometry == 'grid' else resnet(width, 2.0), kept, 0.0, 2)

  def scale(level):
    size = width * 2**level
    if level == scales - 1:
      return _within(coupling.checkerboard(), [colour_coupling(size, kept) for kept in (0, 1, 0, 1)])
    colours = _within(coupling.checkerboard(), [colour_coupling(size, kept) for kept in (0, 1, 0)])
    channels = _within(
      coupling.halves(), [_normalised(resnet(2 * size, channel_factor), kept, 1.0, 1) for kept in (0, 1, 0)]
    )
    channels = _within(coupling.squeeze(), [channels])
    return rev.chain(colours, channels, coupling.checkerboard(), rev.on(0, scale(level + 1)))

  del shape
  return MEMORY[memory](scale(0))


def _normalised(network: Callable, kept: int, start: float, pixels: int) -> Bijection:
  scaled = lambda features: conditioners.TanhScale(network, features, start)
  layer = coupling.coupling(scaled, coupling.affine(), kept)
  return rev.chain(layer, rev.on(1 - kept, bijections.batch_norm(pixels=pixels)))


def _within(partition: Bijection, layers: list[Bijection]) -> Bijection:
  return rev.chain(partition, *layers, rev.invert(partition))


def glow(
  shape: Sequence[int], width: int = 512, steps: int = 32, levels: int = 3, memory: str = 'reversible',
  unroll: int = 1, edge: str = 'padding', act: Callable = jax.nn.relu, dtype: Any = None,
) -> Bijection:  # fmt: skip
  """Returns Glow: steps of actnorm, 1x1 convolution and affine coupling; half of the channels leave at each level.

  Channels that leave have a normal prior, whose mean and deviation a network computes from the rest.

  Args:
    shape: (H, W, C), divisible by 2^levels.
    width: hidden channels of each coupling's network.
    steps: of each level.
    levels: the number of levels, each with a squeeze.
    memory: a key of `MEMORY`.
    unroll: steps written out in the compiled loop; all of them on a CPU, whose convolutions are slow in a loop.
    edge: where the networks' extra channel is one: in the 'padding', as in the program, or at the 'image' border.
    act: the nonlinearity of those networks.
    dtype: of the networks.

  Reference: Kingma & Dhariwal 2018, arXiv:1807.03039, section 3.
  """
  network = lambda features: conditioners.GlowNet(features, width, act, edge, dtype)
  prior = lambda features: conditioners.ZeroConv(features, edge, dtype)
  step_coupling = _within(coupling.halves(), [coupling.coupling(network, coupling.sigmoid_affine())])
  step = rev.chain(bijections.actnorm(), bijections.invertible_dense(), step_coupling)

  def level(number):
    layers = [coupling.squeeze(), rev.repeat(steps, step, unroll)]
    if number < levels - 1:
      layers += [coupling.halves(), coupling.coupling(prior, coupling.affine()), rev.on(0, level(number + 1))]
    return rev.chain(*layers)

  del shape
  return MEMORY[memory](level(0))


def maf(
  shape: Sequence[int], hidden: Sequence[int] = (1024,), layers: int = 5, activation: str = 'relu',
  elementwise: str = 'affine', unroll: int = 1, dtype: Any = None,
) -> Bijection:  # fmt: skip
  """Returns a masked autoregressive flow, batch-normalised, with the order reversed after each layer.

  The density is one evaluation of the networks, a sample one evaluation for each dimension.

  Reference: Papamakarios et al. 2017, arXiv:1705.07057, section 3.
  """
  layer = made.autoregressive(_network(hidden, activation, dtype), ELEMENTWISE[elementwise]())
  step = rev.chain(layer, bijections.reverse(), bijections.batch_norm(1e-5), bijections.scale(), bijections.shift())
  return rev.chain(bijections.flatten(tuple(shape)), bijections.actnorm(), rev.repeat(layers, step, unroll))


def af(
  shape: Sequence[int], hidden: Sequence[int] = (640, 640, 640), layers: int = 4, activation: str = 'relu',
  elementwise: str = 'additive', unroll: int = 1, dtype: Any = None,
) -> Bijection:  # fmt: skip
  """Returns an autoregressive flow without normalisation, with the order reversed after each layer.

  With additive maps it is initially the identity up to the order, and its log-determinant is 0; with gated ones each
  layer initially multiplies by sigmoid(2). The density is one
  evaluation of the networks. A sample is the fixed point of at most one evaluation for each dimension and layer.

  Reference: Chen et al. 2017, arXiv:1611.02731, section 3.2 and appendix A.
  """
  layer = made.autoregressive(_network(hidden, activation, dtype), AUTOREGRESSIVE[elementwise](), by_fixed_point=True)
  return rev.chain(bijections.flatten(tuple(shape)), rev.repeat(layers, rev.chain(layer, bijections.reverse()), unroll))


def iaf(
  shape: Sequence[int], hidden: Sequence[int] = (64, 64), layers: int = 4, activation: str = 'relu',
  unroll: int = 1, dtype: Any = None,
) -> Bijection:  # fmt: skip
  """Returns an inverse autoregressive flow.

  A sample is one evaluation of the networks, a density one evaluation for each dimension.

  Reference: Kingma et al. 2016, arXiv:1606.04934, section 3.
  """
  layer = rev.invert(made.autoregressive(_network(hidden, activation, dtype), coupling.affine(jnp.tanh)))
  step = rev.chain(layer, bijections.reverse())
  return rev.chain(bijections.flatten(tuple(shape)), bijections.actnorm(), rev.repeat(layers, step, unroll))


def planar(
  shape: Sequence[int], layers: int = 32, start: float = 0.1, identity: bool = True, unroll: int = 1, dtype: Any = None
) -> Bijection:
  """Returns planar maps, from the data to the noise.

  Reference: Rezende & Mohamed 2015, arXiv:1505.05770, section 4.1.
  """
  del dtype  # its parameters are few
  return rev.chain(
    bijections.flatten(tuple(shape)), bijections.actnorm(),
    rev.repeat(layers, bijections.planar(start, identity), unroll), bijections.scale(), bijections.shift(),
  )  # fmt: skip


def _network(hidden: Sequence[int], activation: str, dtype) -> Callable:
  """Returns the function that creates a MADE by its number of parameters a dimension."""
  return lambda num_parameters: made.MADE(tuple(hidden), num_parameters, activation, dtype)


def latent_shapes(part: Bijection, params: Any, stats: Any, shape: Sequence[int], n: int) -> Any:
  """Returns the shapes of the noise of n examples, a tree of arrays [n, ...]."""
  x = jax.ShapeDtypeStruct((n, *shape), jnp.result_type(jnp.float32, *jax.tree.leaves(params)))
  return jax.eval_shape(lambda params, stats, x: part.forward(params, stats, x)[0], params, stats, x)
