"""Bijections as values: four functions of explicit parameters, and their combinators.

`chain` composes parts one after another, `repeat` stacks layers of one form. `reversible` stores no activations for the
gradient: they are recomputed from the outputs, so that memory does not grow with depth. Arrays may be trees of arrays
(two streams, several latents). Their leading axis is the batch, B.

If `stats` is None, layers with batch statistics use those of the batch. In any case they return the statistics that
they used. Running averages are updated by the caller, so that no layer can update them twice.

Reference: Gomez et al. 2017, arXiv:1707.04585, section 3.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

__all__ = [
  'Bijection', 'apply', 'bijection', 'chain', 'invert', 'no_params', 'on', 'one_way', 'pair', 'permutation', 'plain',
  'repeat', 'reversible', 'zeros',
]  # fmt: skip


class Bijection(NamedTuple):
  """An invertible map y = f(x) as functions of explicit parameters; log-determinants are in nats.

  To add a layer, write init, forward and inverse, pass them to `bijection`, and add it to CASES in
  tests/nn/test_bijections.py.
  """

  init: Callable  # (key, x) -> params, which may depend on the first batch x
  forward: Callable  # (params, stats, x) -> (y, log |det dy/dx| [B], used); used: the statistics of this call
  inverse: Callable  # (params, stats, y) -> (x, log |det dx/dy| [B])
  inverse_and_vjp: Callable  # (params, stats, used, y, cotangents of (y, log_det)) -> (x, dparams, dx)


def bijection(init: Callable, forward: Callable, inverse: Callable) -> Bijection:
  """Returns the layer whose gradient is that of `forward`, at the x that `inverse` computes."""

  def inverse_and_vjp(params, stats, used, y, cotangents):
    x, _ = inverse(params, used if stats is None else stats, y)
    _, back = jax.vjp(lambda params, x: forward(params, stats, x)[:2], params, x)
    return x, *back(cotangents)

  return Bijection(init=init, forward=forward, inverse=inverse, inverse_and_vjp=inverse_and_vjp)


def permutation(forward: Callable, inverse: Callable) -> Bijection:
  """Returns the layer without parameters that permutes or reshapes x; its log-determinant is 0."""

  def permute(params, stats, x):
    del params, stats
    return forward(x), zeros(x), {}

  def permute_back(params, stats, y):
    del params, stats
    return inverse(y), zeros(y)

  return bijection(no_params, permute, permute_back)


def no_params(key: jax.Array, x: Any) -> dict:
  """Returns the parameters of a layer without parameters."""
  del key, x
  return {}


def one_way(module: nn.Module) -> Bijection:
  """Returns a linen module as a layer without an inverse, for chains that are not in `reversible`.

  Its log-determinant is 0.
  """

  def forward(params, stats, x):
    y, used = apply(module, params, stats, x)
    return y, zeros(x), used

  def init(key, x):
    return module.init(key, x).get('params', {})

  def refuse(*args):
    raise ValueError(f'{type(module).__name__} has no inverse, and cannot stand in `reversible`')

  return Bijection(init=init, forward=forward, inverse=refuse, inverse_and_vjp=refuse)


def invert(part: Bijection) -> Bijection:
  """Returns the inverse of a layer as a layer; the layer must not have batch statistics."""

  def forward(params, stats, x):
    return *part.inverse(params, stats, x), {}

  def inverse(params, stats, y):
    return part.forward(params, stats, y)[:2]

  return bijection(part.init, forward, inverse)


def chain(*parts: Bijection) -> Bijection:
  """Composes parts one after another; each is initialised with the output of those before it for the first batch."""
  names = [str(i) for i in range(len(parts))]

  def init(key, x):
    params = {}
    for name, part, one in zip(names, parts, jax.random.split(key, len(parts)), strict=True):
      params[name] = part.init(one, x)
      x = part.forward(params[name], None, x)[0]
    return _drop_empty(params)

  def forward(params, stats, x):
    total, used = zeros(x), {}
    for name, part in zip(names, parts, strict=True):
      x, log_det, used[name] = part.forward(params.get(name, {}), _of(stats, name), x)
      total = total + log_det
    return x, total, _drop_empty(used)

  def inverse(params, stats, y):
    total = zeros(y)
    for name, part in reversed(list(zip(names, parts, strict=True))):
      y, log_det = part.inverse(params.get(name, {}), _of(stats, name), y)
      total = total + log_det
    return y, total

  def inverse_and_vjp(params, stats, used, y, cotangents):
    (dy, dlog_det), dparams = cotangents, {}
    for name, part in reversed(list(zip(names, parts, strict=True))):
      part_params = params.get(name, {})
      y, dparams[name], dy = part.inverse_and_vjp(part_params, _of(stats, name), used.get(name, {}), y, (dy, dlog_det))
    return y, _drop_empty(dparams), dy

  return Bijection(init=init, forward=forward, inverse=inverse, inverse_and_vjp=inverse_and_vjp)


def repeat(n: int, part: Bijection, unroll: int = 1) -> Bijection:
  """Composes n layers of one form in one compiled loop; their parameters are stacked along a first axis [n, ...].

  The output of the part must have the shape of its input.

  Args:
    n: the number of layers.
    part: the layer.
    unroll: turns of the loop that are written out; n means no loop at all.
  """
  if n == 1:
    unroll = 2  # with unroll = 1 JAX keeps a loop of one turn, and convolutions in loops are slow on a CPU

  def init(key, x):
    def one(x, key):
      params = part.init(key, x)
      return part.forward(params, None, x)[0], params

    return jax.lax.scan(one, x, jax.random.split(key, n))[1]

  def forward(params, stats, x):
    def one(carry, layer):
      x, log_det, used = part.forward(*layer, carry[0])
      return (x, carry[1] + log_det), used

    (x, total), used = jax.lax.scan(one, (x, zeros(x)), (params, stats), length=n, unroll=unroll)
    return x, total, used

  def inverse(params, stats, y):
    def one(carry, layer):
      y, log_det = part.inverse(*layer, carry[0])
      return (y, carry[1] + log_det), None

    return jax.lax.scan(one, (y, zeros(y)), (params, stats), length=n, unroll=unroll, reverse=True)[0]

  def inverse_and_vjp(params, stats, used, y, cotangents):
    def one(carry, layer):
      x, dparams, dx = part.inverse_and_vjp(*layer, carry[0], (carry[1], cotangents[1]))
      return (x, dx), dparams

    start = y, cotangents[0]
    (x, dx), dparams = jax.lax.scan(one, start, (params, stats, used), length=n, unroll=unroll, reverse=True)
    return x, dparams, dx

  return Bijection(init=init, forward=forward, inverse=inverse, inverse_and_vjp=inverse_and_vjp)


def pair(name: str, x: Any) -> Any:
  """Returns x, which must be a pair: an array would be taken for the first two rows of its batch.

  Raises:
    ValueError: at trace time, x is no pair; the message has the `name` of the layer.
  """
  if not (isinstance(x, tuple | list) and len(x) == 2):
    raise ValueError(f'{name} takes a pair (a, b), got {jax.tree.map(jnp.shape, x)}: put halves() in front of it')
  return x


def on(index: int, part: Bijection) -> Bijection:
  """Returns the layer that acts on one element of a pair, such as the rest of a multi-scale model."""

  def put(x, new):
    return (new, x[1]) if index == 0 else (x[0], new)

  def forward(params, stats, x):
    y, log_det, used = part.forward(params, stats, pair('on', x)[index])
    return put(x, y), log_det, used

  def inverse(params, stats, y):
    x, log_det = part.inverse(params, stats, pair('on', y)[index])
    return put(y, x), log_det

  def inverse_and_vjp(params, stats, used, y, cotangents):
    dy, dlog_det = cotangents
    x, dparams, dx = part.inverse_and_vjp(params, stats, used, y[index], (dy[index], dlog_det))
    return put(y, x), dparams, put(dy, dx)

  def init(key, x):
    return part.init(key, pair('on', x)[index])

  return Bijection(init=init, forward=forward, inverse=inverse, inverse_and_vjp=inverse_and_vjp)


def plain(part: Bijection) -> Bijection:
  """Returns the layer itself, whose activations automatic differentiation stores."""
  return part


def reversible(part: Bijection) -> Bijection:
  """Returns the same map with a memory-free gradient: activations are recomputed from the output.

  The gradient equals that of automatic differentiation up to the rounding of x. A training step evaluates the networks
  four instead of three times.
  """

  @jax.custom_vjp
  def run(params, stats, x):
    return part.forward(params, stats, x)

  def save(params, stats, x):
    y, log_det, used = part.forward(params, stats, x)
    return (y, log_det, used), (params, stats, used, y)

  def back(saved, cotangents):
    params, stats, used, y = saved
    # Without the barrier a compiler may reuse the activations of the last layer's forward pass, and so store them.
    y, cotangents = jax.lax.optimization_barrier((y, cotangents[:2]))
    _, dparams, dx = part.inverse_and_vjp(params, stats, used, y, cotangents)
    return dparams, jax.tree.map(jnp.zeros_like, stats), dx

  run.defvjp(save, back)
  return part._replace(forward=run)


def apply(module: nn.Module, params: Any, stats: Any, x: Any) -> Any:
  """Applies a linen module with `stats`, or with the batch's own statistics if it is None.

  Returns:
    the output, and the statistics of this call.
  """
  if stats is None:
    h, changed = module.apply({'params': params}, x, mutable=['batch_stats'])
    return h, jax.lax.stop_gradient(changed.get('batch_stats', {}))
  return module.apply({'params': params, 'batch_stats': stats}, x), stats


def zeros(x: Any) -> jax.Array:
  """Returns a log-determinant of 0 for each example of x, [B]."""
  leaf = jax.tree.leaves(x)[0]
  return jnp.zeros(leaf.shape[0], jnp.promote_types(leaf.dtype, jnp.float32))


def _of(stats, name: str):
  return None if stats is None else stats.get(name, {})


def _drop_empty(tree: dict) -> dict:
  """Drops the layers without entries."""
  return {name: part for name, part in tree.items() if jax.tree.leaves(part)}
