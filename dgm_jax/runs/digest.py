"""Fingerprints of a state, and whether its numbers are finite: the same answers on any number of devices."""

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dgm_jax.core import State

__all__ = ['digest', 'finite', 'first_bad', 'named_leaves', 'num_bytes', 'of', 'shapes']


def digest(state: State) -> dict[str, str]:
  """Computes a fingerprint of each part of the state: {'params/encoder': '9c..'}."""
  parts = sorted(_parts(state).items())
  sums = iter(_each(_sum, jax.tree.leaves([part for _, part in parts])))
  return {name: _fold([next(sums) for _ in jax.tree.leaves(part)]) for name, part in parts}


def of(tree: Any) -> str:
  """Computes the fingerprint of one tree of arrays."""
  return _fold(_each(_sum, jax.tree.leaves(tree)))


@jax.jit
def finite(tree: Any) -> jax.Array:
  """Returns whether every real number in a tree is finite, [] bool.

  It does not wait for the devices, as chex.assert_tree_all_finite does.
  """
  return functools.reduce(jnp.logical_and, [_finite(jnp, leaf) for leaf in jax.tree.leaves(tree)], jnp.bool_(True))


def first_bad(tree: Any) -> str:
  """Returns the path of the first array that holds a NaN or an infinity, '' if there is none."""
  names, leaves = zip(*named_leaves(tree), strict=True)
  good = _each(_finite, leaves)
  return next((name for name, fine in zip(names, good, strict=True) if not fine), '')


def named_leaves(tree: Any) -> Iterator[tuple[str, Any]]:
  """Returns ('params/encoder/kernel', array) for every array of a tree, in its order."""
  for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
    yield '/'.join(re.sub(r'\W', '', str(entry)) for entry in path), leaf


def shapes(tree: Any) -> dict[str, str]:
  """Returns 'path' -> 'float32[784,200]' for every array or shape of a tree."""
  return {name: f'{leaf.dtype}{list(leaf.shape)}'.replace(' ', '') for name, leaf in named_leaves(tree)}


def num_bytes(tree: Any) -> int:
  """Computes the bytes of one copy of the arrays or shapes of a tree."""
  return sum(leaf.size * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(tree))


def _parts(state: State) -> dict[str, Any]:
  parts = {'step': state.step}
  for field in ('params', 'opt', 'extra'):
    parts |= {f'{field}/{name}': part for name, part in getattr(state, field).items()}
  return parts


# Functions of one array take the library as `xp`: NumPy where the arrays are on the host, where nothing is compiled.


def _each(function: Callable[[Any, Any], Any], leaves: Sequence[jax.Array]) -> list[Any]:
  """Returns what a function gives for each array, on the host."""
  if all(map(_on_host, leaves)):
    return [function(np, np.asarray(leaf)) for leaf in leaves]
  return jax.device_get(_on_devices(function, leaves))


def _on_host(leaf: Any) -> bool:
  if not isinstance(leaf, jax.Array):
    return True
  return leaf.is_fully_addressable and next(iter(leaf.devices())).platform == 'cpu'


@functools.partial(jax.jit, static_argnums=0)
def _on_devices(function: Callable[[Any, Any], Any], leaves: Sequence[jax.Array]) -> list[jax.Array]:
  return [function(jnp, leaf) for leaf in leaves]


def _finite(xp: Any, leaf: Any) -> Any:
  """Returns whether every number of an array is finite, [] bool. An array of other than real numbers is."""
  return xp.isfinite(leaf).all() if jnp.issubdtype(leaf.dtype, jnp.inexact) else xp.bool_(True)


def _fold(sums: Sequence[Any]) -> str:
  """Computes one fingerprint of arrays from the sums of each, [2]. Their order matters."""
  total = [0, 0]
  for number, pair in enumerate(sums):
    total = [(old * 0x01000193 + int(new) * (2 * number + 1)) % 2**32 for old, new in zip(total, pair, strict=True)]
  return '-'.join(f'{word:08x}' for word in total)


def _sum(xp: Any, leaf: Any) -> Any:
  """Computes two sums modulo 2^32 over the words of an array, weighted by position, [2] uint32.

  Sums of integers do not depend on the order of summation, hence not on the sharding. Since the weights are odd, every
  single flipped bit changes a sum.
  """
  words = _words(xp, leaf)
  place = xp.arange(words.size, dtype=np.uint32).reshape(words.shape)
  first = (words * (2 * place + 1)).sum(dtype=np.uint32)
  second = ((words ^ np.uint32(0x9E3779B9)) * ((place * np.uint32(0x85EBCA6B)) | 1)).sum(dtype=np.uint32)
  return xp.stack([first, second])


def _words(xp: Any, leaf: Any) -> Any:
  """Returns the bits of an array as uint32 [n], one word an element, two of 64 bits."""
  if leaf.dtype == np.bool_:
    return leaf.astype(np.uint32).reshape(-1)
  word = np.dtype(f'uint{8 * min(4, leaf.dtype.itemsize)}')
  bits = leaf.reshape(-1).view(word) if xp is np else jax.lax.bitcast_convert_type(leaf, word).reshape(-1)
  return bits.astype(np.uint32)
