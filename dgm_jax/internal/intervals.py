"""Ranges of numbers as they are written, '[0, 1)' or '[1, 2^32)', and those of an experiment and of an optimizer."""

import math
import re
from typing import Any

__all__ = ['EXPERIMENT', 'OPTIMIZER', 'described', 'holds']

WORDS = {'[0, inf)': 'must not be negative', '[1, inf)': 'must be at least 1', '(0, inf)': 'must be positive'}

EXPERIMENT = {
  **dict.fromkeys(('steps', 'epochs', 'budget', 'log_every', 'eval_every', 'save_every', 'picture_every'), '[0, inf)'),
  **dict.fromkeys(('keep', 'generated.samples', 'nll.examples', 'eval_examples'), '[0, inf)'), 'seed': '[0, 2^32)',
  'data.size': '[0, 4096]', 'data.pad': '[0, 4096]',
  **dict.fromkeys(('batch_size', 'accumulate', 'steps_per_call', 'eval_batch_size', 'init_examples'), '[1, inf)'),
  **dict.fromkeys(('ais.temperatures', 'ais.chains', 'ais.leapfrogs', 'ais.examples'), '[1, inf)'),
  **dict.fromkeys(('pictures', 'nll.samples', 'nll.rows', 'generated.splits'), '[1, inf)'),
}  # fmt: skip
OPTIMIZER = {
  'learning_rate': '(0, inf)', 'b1': '[0, 1)', 'b2': '[0, 1)', 'eps': '[0, inf)', 'eps_root': '[0, inf)',
  'momentum': '[0, 1)', 'weight_decay': '[0, inf)', 'clip_norm': '[0, inf)', 'clip_value': '[0, inf)',
  'skip_norm': '[0, inf)', 'warmup_steps': '[0, inf)', 'end_factor': '[0, inf)', 'decay': '(0, 1]',
}  # fmt: skip


def holds(interval: str, number: Any) -> bool:
  """Returns whether a number lies in an interval. Infinity, NaN and what is no number lie in none."""
  if not isinstance(number, (int, float)):
    return False
  start, low, high, end = re.fullmatch(r'([\[(])(.+), (.+)([\])])', interval).groups()
  low, high = map(_number, (low, high))
  above = low < number if start == '(' else low <= number
  below = number < high if end == ')' else number <= high
  return math.isfinite(number) and above and below


def _number(text: str) -> float:
  sign, bits = (-1 if text.startswith('-') else 1), text.removeprefix('-')
  return sign * (2.0 ** int(bits[2:]) if bits.startswith('2^') else float(bits))


def described(interval: str, number: Any) -> str:
  """Describes the allowed values of a number and its value: 'must be in [0, 1), got 1.2'."""
  if not isinstance(number, (int, float)):
    return f'must be a number, got {number!r}'
  finite = isinstance(number, int) or math.isfinite(number)
  words = WORDS.get(interval, f'must be in {interval}') if finite else 'must be a finite number'
  return f'{words}, got {number}'
