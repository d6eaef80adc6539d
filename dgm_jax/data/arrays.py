"""A user's array in an .npy or .npz file."""

import math
import pathlib

import numpy as np

from dgm_jax.data import archive, rows
from dgm_jax.data.cache import cached, stamp
from dgm_jax.data.folder import split_three_ways
from dgm_jax.data.images import Look, conform
from dgm_jax.data.kept import kept
from dgm_jax.data.names import PARTS, located, role_of
from dgm_jax.data.split import Arrays, Dataset
from dgm_jax.errors import UserError

__all__ = ['source']

CHANNELS = 4  # most of an image
_LARGEST = np.iinfo(np.int32).max


def source(where: str, look: Look) -> Dataset:
  """Finds the arrays of a file: pictures uint8 [N, H, W] or [N, H, W, C], or floats of these shapes or points [N, D].

  If an .npz holds x_train, x_test and x_valid, each with labels y_..., the split is the file's own. Otherwise the
  array 'x', or the only one, is split 80 : 10 : 10 by a fixed permutation. Its labels 'y' are optional. `names.role_of`
  lists the other names of these arrays.

  Raises:
    UserError: the file cannot be read, or holds no such array.
  """
  path = located(where)
  members, others = archive.members(path)
  roles = _roles(path, list(members))
  if ('x', 'train') in roles:
    used = {part: (roles[('x', part)], roles.get(('y', part), '')) for part in PARTS if ('x', part) in roles}
    parts = {part: lambda pair=pair: _read(path, *pair, look) for part, pair in used.items()}
  else:
    used = {'': (_only(path, list(members), roles), roles.get(('y', ''), ''))}
    alone = members[used[''][0]]
    large = alone.start and math.prod(alone.shape) * alone.dtype.itemsize > rows.LARGE
    parts = split_three_ways(lambda: _rows(path, alone, look) if large else _read(path, *used[''], look))
  rest = [name for name in (*members, *others) if not any(name in pair for pair in used.values())]
  return Dataset(parts, (), (f'left out, other members: {len(rest)} ({", ".join(rest)})',) if rest else ())


def _roles(path: pathlib.Path, names: list[str]) -> dict[tuple[str, str], str]:
  """Returns (role, part) -> name of the member. An exact name such as x_train has precedence."""
  roles: dict[tuple[str, str], str] = {}
  for name in names:
    role = role_of(name)
    if role == ('', ''):
      continue
    exact = '_'.join(filter(None, role))
    if role in roles and exact not in (name, roles[role]):
      raise UserError(f'{path} holds both {roles[role]} and {name}: call the one to be used {exact}')
    if name == exact or role not in roles:
      roles[role] = name
  return roles


def _only(path: pathlib.Path, names: list[str], roles: dict[tuple[str, str], str]) -> str:
  """Returns the name of the one array of examples, which is to be split."""
  for part in PARTS:
    if ('x', part) in roles:
      raise UserError(f'{path} holds {", ".join(names)}: name the examples to be trained on x_train')
  rest = [name for name in names if name != roles.get(('y', ''))]
  name = roles.get(('x', ''), rest[0] if len(rest) == 1 else '')
  if not name:
    raise UserError(f'{path} holds {", ".join(names) or "nothing"}: name the examples x (or x_train and x_test)')
  return name


def _read(path: pathlib.Path, name: str, label: str, look: Look) -> Arrays:
  x, where = archive.read(path, name), f'{name} of {path}'
  if x.size == 0:
    raise UserError(f'{where} is empty, of shape {x.shape}')
  arrays = {'x': _floats(x, where, look) if x.dtype.kind == 'f' else _pictures(x, where)}
  if label:
    arrays['y'] = _labels(archive.read(path, label), len(x), f'{label} of {path}')
  if x.dtype.kind == 'f' or look == Look():
    return arrays
  return _conformed(arrays, where, {'file': stamp(path), 'member': name, 'look': look.facts}, look)


def _rows(path: pathlib.Path, member: archive.Member, look: Look) -> Arrays:
  """Returns the array of a large .npy file, of which each row is read and checked when it is asked for."""
  stored = rows.of_file(path, member)
  first, where = stored[:1], f'x of {path}'
  form = (lambda x: _floats(x, where, look)) if first.dtype.kind == 'f' else (lambda x: _pictures(x, where))
  resized = look != Look() and first.dtype.kind != 'f'

  def read(index: np.ndarray) -> np.ndarray:
    x = form(stored.read(index))
    return np.stack([conform(pixels, look) for pixels in x]) if resized and len(x) else x

  _refuse_recolouring(form(first), where, look)
  example = read(np.zeros(1, np.int64))
  mark = rows.fingerprint(stored.mark, str(look.facts))
  array = rows.Rows((len(stored), *example.shape[1:]), example.dtype, read, mark)
  return {'x': kept(array, where, {'file': stamp(path), 'look': look.facts}) if resized else array}


def _floats(x: np.ndarray, where: str, look: Look) -> np.ndarray:
  if x.ndim not in (2, 3, 4):
    raise UserError(f'{where} has shape {x.shape}: floats must be [N, ...], points [N, D] or images [N, H, W, C]')
  if look != Look():
    raise UserError(f'{where} holds {x.dtype}: --config.data.size, channels, invert and pad are for uint8 images only')
  _refuse_channels(x, where)
  if 4 * x.size > archive.memory():
    raise UserError(f'{where} has shape {x.shape}, more float32 than the memory of this machine holds: cut it')
  with np.errstate(over='ignore'):
    x = np.asarray(x, np.float32)
  if not np.isfinite(x).all():
    raise UserError(f'{where} holds values that are not finite float32: remove them')
  return x[..., None] if x.ndim == 3 else x


def _pictures(x: np.ndarray, where: str) -> np.ndarray:
  if x.dtype != np.uint8:
    hint = '255 * x.astype(np.uint8)' if x.dtype == bool else 'x.astype(np.uint8) if these are 0 to 255'
    raise UserError(f'{where} holds {x.dtype}: images must be uint8 (0 to 255), anything else floats; save {hint}')
  _refuse_channels(x, where)
  if x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[-1] > CHANNELS):
    raise UserError(f'{where} has shape {x.shape}: images must be [N, H, W] or [N, H, W, C] with C up to {CHANNELS}')
  return np.asarray(x if x.ndim == 4 else x[..., None])


def _refuse_channels(x: np.ndarray, where: str) -> None:
  """Refuses images whose channels are not on the last axis."""
  if x.ndim != 4 or x.shape[-1] <= CHANNELS:
    return
  limit = f'has shape {x.shape}: images must be [N, H, W] or [N, H, W, C] with C up to {CHANNELS}'
  if x.shape[1] <= CHANNELS:
    raise UserError(f'{where} {limit}; channels come first here: save x.transpose(0, 2, 3, 1)')
  if x.shape[-1] > max(x.shape[1:3]):
    raise UserError(f'{where} {limit}; examples seem to be on the last axis: save x.transpose(3, 0, 1, 2)')


def _refuse_recolouring(x: np.ndarray, where: str, look: Look) -> None:
  """Refuses to change the colours of images that have neither one channel nor three."""
  if look.channels and x.shape[-1] not in (1, 3):
    raise UserError(f'{where} has {x.shape[-1]} channels: --config.data.channels must be 0')


def _labels(y: np.ndarray, size: int, where: str) -> np.ndarray:
  if y.dtype.kind not in 'iu' or y.size != size or y.shape[:1] != (size,):
    raise UserError(f'{where} is {y.dtype} of shape {y.shape}: labels must be {size} integers')
  if int(y.min()) < 0 or int(y.max()) > _LARGEST:
    raise UserError(
      f'{where} goes from {y.min()} to {y.max()}: labels must be classes, counted from 0; leave out examples'
      ' without one'
    )
  return y.reshape(size).astype(np.int32)


def _conformed(arrays: Arrays, where: str, facts: dict, look: Look) -> Arrays:
  """Returns the pictures with the requested size, channels and polarity, through the cache."""
  _refuse_recolouring(arrays['x'], where, look)
  examples = ((f'example {i}', conform(pixels, look), None) for i, pixels in enumerate(arrays['x']))
  return arrays | {'x': cached(where, facts, lambda: (len(arrays['x']), examples))['x']}
