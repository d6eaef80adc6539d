"""A user's array in an .npy or .npz file."""

import contextlib
import pathlib
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from dgm_jax.data.cache import cached, stamp
from dgm_jax.data.folder import dealt
from dgm_jax.data.images import Look, conform
from dgm_jax.data.split import Arrays
from dgm_jax.errors import UserError

__all__ = ['parts']

_PARTS = ('train', 'valid', 'test')


def parts(where: str, look: Look) -> dict[str, Callable[[], Arrays]]:
  """The arrays of a file: pictures uint8 [N, H, W] or [N, H, W, C], or floats [N, ...].

  An .npz may hold x_train, x_test and x_valid, each with labels y_...: then the split
  is the file's own. Otherwise the array 'x', or the only one, with labels 'y' if there
  are any, is dealt 80 : 10 : 10 by a fixed permutation.

  Raises:
    UserError: the file cannot be read, or holds no such array.
  """
  path = pathlib.Path(where).expanduser().resolve()
  with _opened(path) as arrays:
    members = list(arrays)
  if 'x_train' in members:
    own = [part for part in _PARTS if f'x_{part}' in members]
    return {part: lambda part=part: _read(path, f'x_{part}', f'y_{part}', look) for part in own}
  names = [name for name in members if name != 'y']
  name = 'x' if 'x' in names else names[0] if len(names) == 1 else ''
  if not name:
    raise UserError(f'{path} holds {", ".join(members) or "nothing"}: name the examples x (or x_train and x_test)')
  return dealt(lambda: _read(path, name, 'y', look))


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[Mapping[str, np.ndarray]]:
  """The named arrays of a file; that of an .npy is 'x', mapped from disk."""
  if not path.is_file():
    raise UserError(f'no file {path}: give --config.data.name=npz:PATH or npy:PATH the path of a NumPy file')
  try:
    with path.open('rb') as file:
      zipped = file.read(2) == b'PK'
      file.seek(0)
      content = np.load(file if zipped else path, None if zipped else 'r', allow_pickle=False)
      yield content if zipped else {'x': content}
  except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
    raise UserError(f'cannot read {path} as NumPy arrays without pickled objects: save it anew by np.savez') from error


def _read(path: pathlib.Path, name: str, label: str, look: Look) -> Arrays:
  with _opened(path) as members:
    x, y = members[name], members.get(label)
  where = f'{name} of {path}'
  if x.size == 0:
    raise UserError(f'{where} is empty, of shape {x.shape}')
  arrays = {'x': _floats(x, where, look) if x.dtype.kind == 'f' else _pictures(x, where)}
  if y is not None:
    arrays['y'] = _labels(y, len(x), f'{label} of {path}')
  if x.dtype.kind == 'f' or look == Look():
    return arrays
  return _conformed(arrays, where, {'file': stamp(path), 'member': name, 'look': look}, look)


def _floats(x: np.ndarray, where: str, look: Look) -> np.ndarray:
  if x.ndim < 2:
    raise UserError(f'{where} has shape {x.shape}: floats must be [N, ...], one row an example')
  if look != Look():
    raise UserError(f'{where} holds {x.dtype}: --config.data.size, channels and invert are for uint8 images only')
  x = np.asarray(x, np.float32)
  if not np.isfinite(x).all():
    raise UserError(f'{where} holds values that are not finite float32: remove them')
  return x


def _pictures(x: np.ndarray, where: str) -> np.ndarray:
  if x.dtype != np.uint8:
    raise UserError(f'{where} holds {x.dtype}: images must be uint8 (0 to 255), anything else floats')
  if x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[-1] > 4):
    raise UserError(f'{where} has shape {x.shape}: images must be [N, H, W] or [N, H, W, C] with C up to 4')
  return np.asarray(x if x.ndim == 4 else x[..., None])


def _labels(y: np.ndarray, size: int, where: str) -> np.ndarray:
  if y.dtype.kind not in 'iu' or y.size != size or y.shape[:1] != (size,):
    raise UserError(f'{where} is {y.dtype} of shape {y.shape}: labels must be {size} integers')
  return y.reshape(size).astype(np.int32)


def _conformed(arrays: Arrays, where: str, facts: dict, look: Look) -> Arrays:
  """The pictures with the asked size, channels and polarity, by way of the cache."""
  if look.channels and arrays['x'].shape[-1] not in (1, 3):
    raise UserError(f'{where} has {arrays["x"].shape[-1]} channels: --config.data.channels must be 0')
  examples = ((f'example {i}', conform(pixels, look), None) for i, pixels in enumerate(arrays['x']))
  return arrays | {'x': cached(where, facts, lambda: (len(arrays['x']), examples))['x']}
