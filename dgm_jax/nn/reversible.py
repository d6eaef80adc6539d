"""Bijections as values: four functions of explicit parameters, and the few ways to compose them.

A comma inside `chain` means one after the other, `repeat` is depth. `reversible` keeps no activations for the
gradient: they are computed anew from the outputs, so that memory does not grow with depth. Arrays may be trees of
arrays (two streams, several latents); their leading axis is the batch, B.

Layers that normalise by statistics take them from the batch where `stats` is None, and give back what they have seen;
otherwise they use what they are given. Running averages are the caller's affair, so nothing can update them twice.

Reference: Gomez et al. 2017, arXiv:1707.04585, section 3.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

__all__ = [
  'Bijection', 'apply', 'bijection', 'chain', 'invert', 'on', 'one_way', 'pair', 'permutation', 'repeat', 'reversible',
  'zeros',
]  # fmt: skip


class Bijection(NamedTuple):
  """An invertible map y = f(x) with parameters; log-determinants are in nats."""

  init: Callable  # (key, x) -> params; x may set their start
  forward: Callable  # (params, stats, x) -> (y, log |det dy/dx| [B], seen)
  inverse: Callable  # (params, stats, y) -> (x, log |det dx/dy| [B])
  pull: Callable  # (params, stats, seen, y, (dy, dlog_det)) -> (x, dparams, dx): x again, and the cotangents


def bijection(init: Callable, forward: Callable, inverse: Callable) -> Bijection:
  """A layer whose gradient is that of `forward`, at the x that `inverse` finds."""

  def pull(params, stats, seen, y, cotangents):
    x, _ = inverse(params, seen if stats is None else stats, y)
    _, back = jax.vjp(lambda params, x: forward(params, stats, x)[:2], params, x)
    return x, *back(cotangents)

  return Bijection(init, forward, inverse, pull)


def permutation(forward: Callable, inverse: Callable) -> Bijection:
  """A layer without parameters that puts numbers elsewhere: log-determinant 0."""
  return bijection(
    lambda key, x: {},
    lambda params, stats, x: (forward(x), zeros(x), {}),
    lambda params, stats, y: (inverse(y), zeros(y)),
  )


def one_way(module: nn.Module) -> Bijection:
  """A linen module that cannot be inverted: it may stand beside bijections in a chain, though not in `reversible`.

  Its value is the whole result: the log-determinant is 0.
  """

  def forward(params, stats, x):
    y, seen = apply(module, params, stats, x)
    return y, zeros(x), seen

  def refuse(*args):
    raise ValueError(f'{type(module).__name__} has no inverse, and cannot stand in `reversible`')

  return Bijection(lambda key, x: module.init(key, x).get('params', {}), forward, refuse, refuse)


def invert(part: Bijection) -> Bijection:
  """The inverse as the map; it must not need the statistics of a batch."""

  def forward(params, stats, x):
    return *part.inverse(params, stats, x), {}

  return bijection(part.init, forward, lambda params, stats, y: part.forward(params, stats, y)[:2])


def chain(*parts: Bijection) -> Bijection:
  """Applies the parts one after another; the first batch flows through them while they are initialised."""
  names = [str(i) for i in range(len(parts))]

  def init(key, x):
    params = {}
    for name, part, one in zip(names, parts, jax.random.split(key, len(parts)), strict=True):
      params[name] = part.init(one, x)
      x = part.forward(params[name], None, x)[0]
    return _filled(params)

  def forward(params, stats, x):
    total, seen = zeros(x), {}
    for name, part in zip(names, parts, strict=True):
      x, log_det, seen[name] = part.forward(params.get(name, {}), _of(stats, name), x)
      total = total + log_det
    return x, total, _filled(seen)

  def inverse(params, stats, y):
    total = zeros(y)
    for name, part in reversed(list(zip(names, parts, strict=True))):
      y, log_det = part.inverse(params.get(name, {}), _of(stats, name), y)
      total = total + log_det
    return y, total

  def pull(params, stats, seen, y, cotangents):
    (dy, dlog_det), dparams = cotangents, {}
    for name, part in reversed(list(zip(names, parts, strict=True))):
      part_params = params.get(name, {})
      y, dparams[name], dy = part.pull(part_params, _of(stats, name), seen.get(name, {}), y, (dy, dlog_det))
    return y, _filled(dparams), dy

  return Bijection(init, forward, inverse, pull)


def repeat(n: int, part: Bijection, unroll: int = 1) -> Bijection:
  """n layers of one form, their parameters stacked along a first axis [n, ...], in one compiled loop.

  The part must give back the shapes that it takes.

  Args:
    n: how many.
    part: the layer.
    unroll: so many turns of the loop are written out; n for no loop at all.
  """
  if n == 1:
    unroll = 2  # JAX keeps a loop of one turn, unless told to write out more; convolutions in it are slow on a CPU

  def init(key, x):
    def one(x, key):
      params = part.init(key, x)
      return part.forward(params, None, x)[0], params

    return jax.lax.scan(one, x, jax.random.split(key, n))[1]

  def forward(params, stats, x):
    def one(carry, layer):
      x, log_det, seen = part.forward(*layer, carry[0])
      return (x, carry[1] + log_det), seen

    (x, total), seen = jax.lax.scan(one, (x, zeros(x)), (params, stats), length=n, unroll=unroll)
    return x, total, seen

  def inverse(params, stats, y):
    def one(carry, layer):
      y, log_det = part.inverse(*layer, carry[0])
      return (y, carry[1] + log_det), None

    return jax.lax.scan(one, (y, zeros(y)), (params, stats), length=n, unroll=unroll, reverse=True)[0]

  def pull(params, stats, seen, y, cotangents):
    def one(carry, layer):
      x, dparams, dx = part.pull(*layer, carry[0], (carry[1], cotangents[1]))
      return (x, dx), dparams

    start = y, cotangents[0]
    (x, dx), dparams = jax.lax.scan(one, start, (params, stats, seen), length=n, unroll=unroll, reverse=True)
    return x, dparams, dx

  return Bijection(init, forward, inverse, pull)


def pair(name: str, x):
  """Returns x, which must be a pair: an array would be taken for the first two rows of its batch.

  Raises:
    ValueError: at trace time, it is none; `name` is the layer that was given it.
  """
  if not (isinstance(x, tuple | list) and len(x) == 2):
    raise ValueError(f'{name} takes a pair (a, b), got {jax.tree.map(jnp.shape, x)}: put halves() in front of it')
  return x


def on(index: int, part: Bijection) -> Bijection:
  """Acts on one of a pair and leaves the other alone: what a multi-scale model goes on with, say."""

  def put(x, new):
    return (new, x[1]) if index == 0 else (x[0], new)

  def forward(params, stats, x):
    y, log_det, seen = part.forward(params, stats, pair('on', x)[index])
    return put(x, y), log_det, seen

  def inverse(params, stats, y):
    x, log_det = part.inverse(params, stats, pair('on', y)[index])
    return put(y, x), log_det

  def pull(params, stats, seen, y, cotangents):
    dy, dlog_det = cotangents
    x, dparams, dx = part.pull(params, stats, seen, y[index], (dy[index], dlog_det))
    return put(y, x), dparams, put(dy, dx)

  return Bijection(lambda key, x: part.init(key, pair('on', x)[index]), forward, inverse, pull)


def reversible(part: Bijection) -> Bijection:
  """The same map, of which nothing but the output is kept for the gradient.

  Equal to plain automatic differentiation but for the rounding of x, which is computed anew from y. Costs about one
  more evaluation of the networks: 4 to 3.
  """

  @jax.custom_vjp
  def run(params, stats, x):
    return part.forward(params, stats, x)

  def save(params, stats, x):
    y, log_det, seen = part.forward(params, stats, x)
    return (y, log_det, seen), (params, stats, seen, y)

  def back(saved, cotangents):
    params, stats, seen, y = saved
    # Without the barrier a compiler may find that the last layer was evaluated before, and keep what it made.
    y, cotangents = jax.lax.optimization_barrier((y, cotangents[:2]))
    _, dparams, dx = part.pull(params, stats, seen, y, cotangents)
    return dparams, jax.tree.map(jnp.zeros_like, stats), dx

  run.defvjp(save, back)
  return Bijection(part.init, run, part.inverse, part.pull)


def apply(module: nn.Module, params, stats, x):
  """A linen module's value, with the statistics of x itself where none are given, and those that it used."""
  if stats is None:
    h, changed = module.apply({'params': params}, x, mutable=['batch_stats'])
    return h, jax.lax.stop_gradient(changed.get('batch_stats', {}))
  return module.apply({'params': params, 'batch_stats': stats}, x), stats


def zeros(x: Any) -> jax.Array:
  """A log-determinant of 0 for each example of x, [B]."""
  leaf = jax.tree.leaves(x)[0]
  return jnp.zeros(leaf.shape[0], jnp.promote_types(leaf.dtype, jnp.float32))


def _of(stats, name: str):
  return None if stats is None else stats.get(name, {})


def _filled(tree: dict) -> dict:
  """Without the layers that have nothing."""
  return {name: part for name, part in tree.items() if jax.tree.leaves(part)}
