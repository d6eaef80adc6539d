"""Preprocessing of stored pixels for a model: (key, batch) -> batch, inside jit.

Each takes a batch with 'x' uint8 [B, H, W, C] and 'index' int32 [B], and gives it
back with 'x' float32. Noise is made row by row, so that neither the batch size nor
the number of devices changes it.
"""

import difflib
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dgm_jax.errors import UserError
from dgm_jax.internal.noise import words16

__all__ = ['GRID', 'evaluation', 'pixels', 'to_uint8', 'training']

Batch = dict[str, jax.Array]

PIXEL = 256  # levels that a byte holds
_STATIC_KEY = np.uint32((0x3EBEB57F, 0x1EF21F35))  # of the noise that an example keeps for good, whatever the seed


def identity(key: jax.Array, batch: Batch) -> Batch:
  """Returns the stored values as float32, for arrays of floats."""
  del key
  return batch | {'x': batch['x'].astype(jnp.float32)}


def scale(key: jax.Array, batch: Batch) -> Batch:
  """Computes pixels / 255: x in [0, 1]."""
  del key
  return batch | {'x': _pixels(batch).astype(jnp.float32) / 255}


def scale_symmetric(key: jax.Array, batch: Batch, levels: int = 256) -> Batch:
  """Computes (pixels - 127.5) / 127.5: x in [-1, 1], both ends included.

  Of L levels, level k is at 2 k / (L - 1) - 1.
  """
  del key
  if levels != PIXEL:
    return batch | {'x': 2 * _level(_pixels(batch), levels).astype(jnp.float32) / (levels - 1) - 1}
  return batch | {'x': (_pixels(batch).astype(jnp.float32) - 127.5) / 127.5}


def threshold(key: jax.Array, batch: Batch) -> Batch:
  """Returns 1 where a pixel exceeds half of 255, else 0. Figures are not comparable with published binary MNIST."""
  del key
  return batch | {'x': (_pixels(batch) >= 128).astype(jnp.float32)}


def dynamic_binarize(key: jax.Array, batch: Batch) -> Batch:
  """Samples Bernoulli(pixel / 255) anew with every key.

  It computes in integers, from 16 random bits a pixel. The probability of a 1 is within 2^-17 of pixel / 255, and
  exactly 0 and 1 at 0 and 255.

  Reference:
    Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders, ICLR 2016, section 5.
  """
  return batch | {'x': _binarize(key, _pixels(batch), _places(batch))}


def static_binarize(key: jax.Array, batch: Batch) -> Batch:
  """Samples Bernoulli(pixel / 255) once: the result is a function of the pixel and the example's 'index'."""
  del key
  return batch | {'x': _binarize(_static_key(), _pixels(batch), batch['index'])}


def dequantize(key: jax.Array, batch: Batch, levels: int = 256) -> Batch:
  """Computes (pixels + u) / 256 with u uniform in [0, 1), sampled anew with every key: x in [0, 1).

  If there are L levels, it computes (level + u) / L. u is a multiple of 2^-16, the precision that float32 has beside
  255, so that floor(256 x) is the pixel.
  """
  return batch | {'x': _dequantize(key, _pixels(batch), _places(batch), levels)}


def static_dequantize(key: jax.Array, batch: Batch, levels: int = 256) -> Batch:
  """Computes (pixels + u) / 256 with u fixed: a function of the pixel and the example's 'index'."""
  del key
  return batch | {'x': _dequantize(_static_key(), _pixels(batch), batch['index'], levels)}


def dequantize_symmetric(key: jax.Array, batch: Batch, levels: int = 256) -> Batch:
  """Computes 2 (pixels + u) / 256 - 1, u uniform in [0, 1), sampled anew with every key: x in [-1, 1)."""
  return batch | {'x': 2 * _dequantize(key, _pixels(batch), _places(batch), levels) - 1}


# name -> (the function, its counterpart without fresh noise, model space back to [0, 255] or to one of so many levels)
_TABLE: dict[str, tuple[Callable, str, Callable]] = {
  'identity': (identity, 'identity', lambda xp, x: xp.round(255 * x)),
  'scale': (scale, 'scale', lambda xp, x: xp.round(255 * x)),
  'scale_symmetric': (scale_symmetric, 'scale_symmetric', lambda xp, x: xp.round(127.5 * (x + 1))),
  'threshold': (threshold, 'threshold', lambda xp, x: xp.round(255 * x)),
  'dynamic_binarize': (dynamic_binarize, 'static_binarize', lambda xp, x: xp.round(255 * x)),
  'static_binarize': (static_binarize, 'static_binarize', lambda xp, x: xp.round(255 * x)),
  'dequantize': (dequantize, 'static_dequantize', lambda xp, x, levels: xp.floor(levels * x)),
  'dequantize_symmetric': (
    dequantize_symmetric, 'scale_symmetric', lambda xp, x, levels: xp.floor(levels / 2 * (x + 1))
  ),
  'static_dequantize': (static_dequantize, 'static_dequantize', lambda xp, x, levels: xp.floor(levels * x)),
}  # fmt: skip
NAMES = tuple(_TABLE)
DEQUANTIZED = ('dequantize', 'dequantize_symmetric', 'static_dequantize')
GRID = (*DEQUANTIZED, 'scale_symmetric')  # depend on how many grey levels the data has


def find(name: str, levels: int = 256) -> Callable[[jax.Array, Batch], Batch]:
  """Returns the function of this name, for data of `levels` evenly spread grey levels.

  Raises:
    UserError: there is none.
  """
  if name not in _TABLE:
    near = difflib.get_close_matches(name, NAMES, 1)
    hint = f'did you mean {near[0]!r}?' if near else f'there are {", ".join(NAMES)}'
    raise UserError(f'no preprocessing named {name!r} (--config.data.preprocess): {hint}')
  return functools.partial(_TABLE[name][0], levels=levels) if name in GRID else _TABLE[name][0]


def for_evaluation(name: str) -> str:
  """Returns the name of the evaluation's preprocessing, if training's is `name`.

  The evaluation uses every image once, with fixed noise.
  """
  return _TABLE[name][1]


def training(data: ConfigDict) -> Callable[[jax.Array, Batch], Batch]:
  """Returns the preprocessing of an experiment's training batches, for `config.data`."""
  return find(data.preprocess, data.levels)


def evaluation(data: ConfigDict) -> Callable[[jax.Array, Batch], Batch]:
  """Returns the preprocessing of an experiment's evaluation, for `config.data`. Its noise is fixed."""
  return find(for_evaluation(data.preprocess), data.levels)


def pixels(data: ConfigDict) -> Callable[[jax.Array], jax.Array | np.ndarray]:
  """Returns the map from an experiment's model space back to pixels, uint8 [...], for `config.data`."""
  return lambda x: to_uint8(data.preprocess, x, data.levels)


def to_uint8(name: str, x: jax.Array, levels: int = 256) -> jax.Array | np.ndarray:
  """Maps model space back to pixels for pictures. Values outside the range are clipped.

  Args:
    name: the preprocessing whose space x is in; under 'identity', x is assumed to lie in [0, 1].
    x: float [...].
    levels: grey levels of the data, evenly spread over 0..255.

  Returns:
    uint8 [...].
  """
  xp: Any = jnp if isinstance(x, jax.core.Tracer) else np  # outside a program NumPy does the same, and compiles nothing
  x = xp.nan_to_num(x)
  if name not in DEQUANTIZED:
    return xp.clip(_TABLE[name][2](xp, x), 0, 255).astype(np.uint8)
  level = xp.clip(_TABLE[name][2](xp, x, levels), 0, levels - 1)
  return (level if levels == PIXEL else xp.floor(255 * level / (levels - 1) + 0.5)).astype(np.uint8)


def _pixels(batch: Batch) -> jax.Array:
  if batch['x'].dtype != jnp.uint8:
    raise ValueError(f"this preprocessing takes uint8 pixels, got {batch['x'].dtype}: use 'identity' for floats")
  return batch['x']


def _level(pixels: jax.Array, levels: int) -> jax.Array:
  """Returns the number of a pixel's nearest level, of `levels` evenly spread ones."""
  return pixels if levels == PIXEL else (pixels.astype(jnp.int32) * (levels - 1) + 127) // 255


def _static_key() -> jax.Array:
  return jax.random.wrap_key_data(jnp.asarray(_STATIC_KEY), impl='threefry2x32')


def _places(batch: Batch) -> jax.Array:
  return jnp.arange(batch['x'].shape[0], dtype=jnp.uint32)


def _noise(key: jax.Array, pixels: jax.Array, rows: jax.Array) -> jax.Array:
  return words16(key, rows, pixels.shape[1])


# Both work on flat pixels [B, D]: on images, a CPU spends more time on indices than on the arithmetic.


def _binarize(key: jax.Array, x: jax.Array, rows: jax.Array) -> jax.Array:
  pixels = x.reshape(x.shape[0], -1)
  # round(65536 x / 255), which is 257 x up to 127 and one more from 128 on
  limit = pixels.astype(jnp.uint32) * 257 + (pixels >= 128).astype(jnp.uint32)
  return (_noise(key, pixels, rows) < limit).astype(jnp.float32).reshape(x.shape)


def _dequantize(key: jax.Array, x: jax.Array, rows: jax.Array, levels: int) -> jax.Array:
  pixels = _level(x.reshape(x.shape[0], -1), levels)
  noise = _noise(key, pixels, rows).astype(jnp.float32)
  return ((pixels.astype(jnp.float32) + noise / 65536) / levels).reshape(x.shape)
