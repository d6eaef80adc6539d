"""The Inception network as a judge of generated images, its weights from a file that the user brings."""

import hashlib
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from dgm_jax.errors import UserError
from dgm_jax.internal.files import read_bytes
from dgm_jax.models.inception import SIDE, Inception, resize

__all__ = ['check', 'judge']


def judge(source: str) -> tuple[Callable, dict]:
  """Returns the judge's function and its state.

  They are (see(variables, pixels uint8 [n, H, W, C]) -> (logits, features), variables).

  Args:
    source: 'PATH#SHA256' of an .npz file, arrays by their path in the network: 'params/Conv_0/conv/kernel'.

  Raises:
    UserError: the file is not there, is another one, or is of another network.
  """
  path, _, digest = source.partition('#')
  return see, load(pathlib.Path(path), digest)


def see(variables: dict, pixels: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Computes logits [n, 1008] without the last bias, and features [n, 2048], of pixels uint8 [n, H, W, 1 or 3]."""
  colour = jnp.broadcast_to(pixels, (*pixels.shape[:3], 3)).astype(jnp.float32)
  return Inception().apply(variables, (resize(colour) - 128) / 128)


def load(path: pathlib.Path, digest: str) -> dict:
  """Reads the network's variables from a file, which must have the digest."""
  if not path.is_file():
    raise UserError(
      f'there are no Inception weights at {path}, and without them nothing may be called FID: bring the file'
      ' (judge=inception:PATH#SHA256), or take a classifier, --judge=runs/classifier_mnist'
    )
  own_digest = hashlib.sha256(read_bytes(path)).hexdigest()
  if own_digest != digest.lower():
    expected = digest or 'nothing: write judge=inception:PATH#SHA256'
    raise UserError(f'{path} has the SHA-256 {own_digest}, expected {expected}')
  with np.load(path, allow_pickle=False) as file:
    arrays = {name: file[name] for name in file.files}
  check(arrays, path)
  return traverse_util.unflatten_dict(arrays, sep='/')


def check(arrays: dict[str, np.ndarray], source: pathlib.Path) -> None:
  """Compares arrays, by their paths, with the shapes of all arrays of the network.

  Raises:
    UserError: an array is missing, too many, or of another shape.
  """
  expected = jax.eval_shape(Inception().init, jax.random.key(0), jnp.zeros((1, SIDE, SIDE, 3)))
  like = {name: leaf.shape for name, leaf in traverse_util.flatten_dict(expected, sep='/').items()}
  for name in {**like, **arrays}:
    own_shape = np.shape(arrays[name]) if name in arrays else None
    if own_shape != like.get(name):
      raise UserError(
        f'{source} is not of this Inception network: {name} has the shape {own_shape}, expected {like.get(name)}'
      )
