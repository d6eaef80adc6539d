"""Fingerprints of a state, and whether its numbers are finite: the same answers on any number of devices."""

import functools
import re
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dgm_jax.core import State

__all__ = ['digest', 'finite', 'first_bad', 'named_leaves', 'num_bytes', 'of', 'shapes']


def digest(state: State) -> dict[str, str]:
  """Computes a fingerprint of each part of the state: {'params/encoder': '9c..'}."""
  parts = sorted(_parts(state).items())
  sums = iter(jax.device_get(_sums(jax.tree.leaves([part for _, part in parts]))))
  return {name: _fold([next(sums) for _ in jax.tree.leaves(part)]) for name, part in parts}


def of(tree: Any) -> str:
  """Computes the fingerprint of one tree of arrays."""
  return _fold(jax.device_get(_sums(jax.tree.leaves(tree))))


@jax.jit
def finite(tree: Any) -> jax.Array:
  """Returns whether every real number in a tree is finite, [] bool. It does not wait for the devices."""
  return functools.reduce(jnp.logical_and, _finite_leaves(jax.tree.leaves(tree)), jnp.bool_(True))


def first_bad(tree: Any) -> str:
  """Returns the path of the first array that holds a NaN or an infinity, '' if there is none."""
  names, leaves = zip(*named_leaves(tree), strict=True)
  good = jax.device_get(_finite_leaves(leaves))
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


@jax.jit
def _finite_leaves(leaves: Sequence[jax.Array]) -> list[jax.Array]:
  """Returns whether every number of each array is finite; what is not real is."""
  real = [jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in leaves]
  return [jnp.isfinite(leaf).all() if number else jnp.bool_(True) for leaf, number in zip(leaves, real, strict=True)]


def _fold(sums: Sequence[Any]) -> str:
  """Computes one fingerprint of arrays from the sums of each, [2]. Their order matters."""
  total = [0, 0]
  for number, pair in enumerate(sums):
    total = [(old * 0x01000193 + int(new) * (2 * number + 1)) % 2**32 for old, new in zip(total, pair, strict=True)]
  return '-'.join(f'{word:08x}' for word in total)


@jax.jit
def _sums(leaves: Sequence[jax.Array]) -> list[jax.Array]:
  """Computes two sums modulo 2^32 over the words of each array, weighted by position, [2] uint32 each.

  Sums of integers do not depend on the order of summation, hence not on the sharding. Since the weights are odd, every
  single flipped bit changes a sum.
  """
  return [_sum(leaf) for leaf in leaves]


def _sum(leaf: jax.Array) -> jax.Array:
  words = _words(leaf)
  place = jax.lax.iota(jnp.uint32, words.size).reshape(words.shape)
  first = (words * (2 * place + 1)).sum(dtype=jnp.uint32)
  second = ((words ^ jnp.uint32(0x9E3779B9)) * ((place * jnp.uint32(0x85EBCA6B)) | 1)).sum(dtype=jnp.uint32)
  return jnp.stack([first, second])


def _words(leaf: jax.Array) -> jax.Array:
  """Returns the bits of an array as uint32, one word an element. For 64 bits the two halves are added."""
  if leaf.dtype == jnp.bool_:
    return leaf.astype(jnp.uint32)
  bits = jax.lax.bitcast_convert_type(leaf, jnp.dtype(f'uint{8 * min(4, leaf.dtype.itemsize)}'))
  return bits.astype(jnp.uint32)
