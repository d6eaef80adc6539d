"""How experiments of older runs and records are read: in the keys that there are now, computing what they did."""

import functools

from dgm_jax.internal import metrics

__all__ = ['filled', 'flag', 'renamed', 'today']

# System -> where a key that came later stands, and what the system computed before it.
BEFORE = {
  'flow.glow': ('model', 'network', 'edge', 'image'),
  'flow.realnvp': ('model', 'network', 'channel_factor', 2.0),
  'disentangle.tc_vae': ('model', 'divergence', 'sampled'),
}

# Keys of config.model that had another name.
NAMES = {'ema': 'average', 'generator_loss': 'objective'}


def renamed(page: dict) -> dict:
  """Returns an experiment's JSON data with the present names of its keys."""
  return page | {'model': {NAMES.get(key, key): value for key, value in page.get('model', {}).items()}}


def flag(word: str) -> str:
  """Returns a word of the command line with the present name of its key."""
  key, sign, value = word.partition('=')
  parent, _, last = key.rpartition('.')
  return f'{parent}.{NAMES[last]}{sign}{value}' if parent.endswith('config.model') and last in NAMES else word


def filled(page: dict, present: dict) -> dict:
  """Returns an experiment's JSON data with the keys that came later, at every depth, as `present` has them."""
  later = {key: value for key, value in present.items() if key not in page}
  both = {key: filled(page[key], value) for key, value in present.items() if _are_dicts(page.get(key), value)}
  return page | both | later


def _are_dicts(*values: object) -> bool:
  return all(isinstance(value, dict) for value in values)


def today(page: dict) -> dict:
  """Converts an experiment's JSON data to the present keys.

  A key that is newer than the run gets the value that keeps the run's results.
  """
  page = renamed(page)
  page.pop('published', None)  # figures of papers, which dgm_jax/pages/published.toml has
  if 'data' in page:
    page['data'].setdefault('levels', 256)  # which all data was taken to have
    page['data'].setdefault('pad', 0)
    page['data'].setdefault('where', 'auto')
  for settings in page.get('optimizer', {}).values():
    settings.setdefault('clip_value', 0.0)
    settings.setdefault('skip_norm', 0.0)
  if 'nll' in page:
    page.setdefault('ais', {'temperatures': 1000, 'chains': 16, 'leapfrogs': 10, 'examples': 100})
  if 'nll' in page and 'examples' not in page['nll']:
    page['nll']['examples'] = 0
    if page.get('system') == 'flow.planar':
      page['model'].setdefault('network', {}).setdefault('identity', False)
  if 'generated' not in page:
    page['generated'] = {'samples': 0, 'splits': 10}
    *parents, key, value = BEFORE.get(page.get('system', ''), ('', None))
    inner = functools.reduce(lambda inner, parent: inner.get(parent, {}), parents, page)
    inner.setdefault(key, value) if key else None
  if page.get('best'):
    page['best'] = metrics.named(page['best'], page.get('system', ''), page.get('conditional', False))
  return page
