"""Runs topics one after another."""

import time

from dgm_jax import config as experiment
from dgm_jax.pages.topics import page
from dgm_jax.runtime import cluster

__all__ = ['document']

NAMES = (
  'estimators', 'mean_field', 'em', 'elbo_forms', 'surgery', 'collapse', 'impossibility', 'flows', 'baselines',
  'receptive_field', 'information_preference', 'ladder', 'diffusion',
)  # fmt: skip
TITLE = 'The theory, run'


def document(chosen: str) -> str:
  """Runs the topics, prints each one's tables when it is done, and returns the page of all.

  Args:
    chosen: names with commas between, or 'all'.

  Raises:
    UserError: there is no such topic.
  """
  names = NAMES if chosen == 'all' else tuple(chosen.split(','))
  for name in names:
    experiment.one_of('--topic', name, (*NAMES, 'all'))
  cluster.start()
  topics, seconds = {}, {}
  for name in names:
    started = time.perf_counter()
    topics[name] = experiment.by_path('dgm_jax.pages.topics', f'{name}.{name}')()
    seconds[name] = time.perf_counter() - started
    print(page.text(name, topics[name]), f'({seconds[name]:.0f} s)\n', flush=True)
  missed = [f'{name}: {row.name}' for name, topic in topics.items() for row in topic.rows if not row.holds]
  print(f'{len(missed)} predicted figures do not hold' if missed else 'every predicted figure holds')
  return page.document(TITLE, topics, seconds)
