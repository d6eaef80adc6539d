"""How folders and arrays are called that hold the parts of a dataset."""

import pathlib
import re

from dgm_jax.errors import UserError

__all__ = ['PARTS', 'located', 'part_of', 'resembles_part', 'role_of']

PARTS = ('train', 'valid', 'test')
_SPELLINGS = {
  'train': ('train', 'training', 'trn'),
  'valid': ('valid', 'val', 'validation', 'validate', 'dev'),
  'test': ('test', 'testing', 'tst'),
}
_PART = {spelling: part for part, spellings in _SPELLINGS.items() for spelling in spellings}
_FILLERS = re.compile('(?:images?|imgs?|data|split|set)+$')
_EXAMPLES = ('x', 'image', 'images', 'img', 'imgs', 'data', 'samples', 'features')
_LABELS = ('y', 'label', 'labels', 'target', 'targets')


def located(where: str) -> pathlib.Path:
  """Returns the absolute path that a dataset's name gives, links followed.

  Raises:
    UserError: it cannot be a path, or leads through a folder that may not be read.
  """
  try:
    path = pathlib.Path(where).expanduser().resolve()
    path.exists()
  except (OSError, RuntimeError, ValueError) as error:  # a name too long; a loop of links; a NUL
    reason = getattr(error, 'strerror', None) or error
    raise UserError(f'no dataset at {where} ({reason}): give --config.data.name another path') from error
  return path


def part_of(name: str) -> str:
  """Returns 'train', 'valid' or 'test' for a name such as 'Training_set', 'val2017' or 'TEST'; '' for any other."""
  word = re.sub('[^a-z]', '', name.lower())
  return _PART.get(word) or _PART.get(_FILLERS.sub('', word), '')


def resembles_part(name: str) -> str:
  """Returns the part whose spelling a name begins with, as in 'trainA' or 'test_old'; '' if there is none."""
  match = re.match('((?i:train|test|valid|val))(?![a-z])', name.strip('_-. '))
  return part_of(match[1]) if match else ''


def role_of(name: str) -> tuple[str, str]:
  """Returns the role of an array of an .npz, by the array's name.

  Returns:
    ('x' or 'y', part) for examples or labels: 'x_train', 'trainX' and 'train_images' are ('x', 'train'). The part is ''
    if the name has none. ('', '') for any other name.
  """
  words = [word.lower() for word in re.findall('[A-Z]?[a-z]+|[A-Z]+(?![a-z])', name)]
  parts = [part for part in map(part_of, words) if part]
  rest = [word for word in words if not part_of(word)]
  role = 'x' if rest in [[word] for word in _EXAMPLES] else 'y' if rest in [[word] for word in _LABELS] else ''
  return (role, parts[0] if parts else '') if role and len(parts) <= 1 else ('', '')
