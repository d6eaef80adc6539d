"""Fingerprints of a state, and whether its numbers are finite: the same answers on any number of devices."""

import functools
import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dgm_jax.core import State

__all__ = ['digest', 'finite', 'first_bad', 'named_leaves', 'num_bytes', 'of', 'shapes']


def digest(state: State) -> dict[str, str]:
  """Computes a fingerprint of each part of the state: {'params/encoder': '9c..'}."""
  return {name: of(part) for name, part in sorted(_parts(state).items())}


def of(tree: Any) -> str:
  """Computes the fingerprint of one tree of arrays."""
  total = [0, 0]
  for number, sums in enumerate(jax.device_get([_sums(leaf) for leaf in jax.tree.leaves(tree)])):
    total = [(old * 0x01000193 + int(new) * (2 * number + 1)) % 2**32 for old, new in zip(total, sums, strict=True)]
  return '-'.join(f'{word:08x}' for word in total)


@jax.jit
def finite(tree: Any) -> jax.Array:
  """Returns whether every real number in a tree is finite, [] bool.

  It does not wait for the devices, as chex.assert_tree_all_finite does.
  """
  checks = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
  return functools.reduce(jnp.logical_and, checks, jnp.bool_(True))


def first_bad(tree: Any) -> str:
  """Returns the path of the first array that holds a NaN or an infinity, '' if there is none."""
  leaves = list(named_leaves(tree))
  good = jax.device_get([finite(leaf) for _, leaf in leaves])
  return next((name for (name, _), fine in zip(leaves, good, strict=True) if not fine), '')


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
def _sums(leaf: jax.Array) -> jax.Array:
  """Computes two sums modulo 2^32 over the words of an array, weighted by position, [2] uint32.

  Sums of integers do not depend on the order of summation, hence not on the sharding. Since the weights are odd, every
  single flipped bit changes a sum. Arrays of one shape share one small program.
  """
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
