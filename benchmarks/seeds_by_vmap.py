"""What eight seeds trained in one program cost beside one, and whether each is what it would be alone; dgm_jax alone.

Usage: python benchmarks/seeds_by_vmap.py [--rounds=7] [--seconds=3] [--record]

The experiments are beta-VAEs: of the tests' size, on digits, and dense ones on sprites of 16 and 64 pixels. One seed
and eight take turns on the same cores: one seed on one device, eight dealt out over the cores as devices, as they are
by `dgm_jax.study`. Where one seed leaves the machine idle, seven more are nearly free; where it does not, they cost
what they cost, and a member's images are drawn for it alone.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
MEMBERS = 8
STEPS = 10  # a call, after the first of which the eighth seed is compared with its lone run
CASES = {'digits_8x8': ('tiny', 0), 'sprites_16x16': ('beta_small', 16), 'sprites_64x64': ('beta_small', 64)}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--rounds', type=int, default=7)
  parser.add_argument('--seconds', type=float, default=3.0, help='of one side in one round')
  parser.add_argument('--record', action='store_true', help='write the figures into --results')
  parser.add_argument('--results', default=str(ROOT / 'results'))
  args = parser.parse_args()
  from dgm_jax.runs import workdir
  from dgm_jax.runtime import cluster

  cluster.start(every_core=True)
  page = {'what': f'{MEMBERS} seeds in one program against one, time of a step, in turn', 'cases': {}}
  for name, (variant, size) in CASES.items():
    page['cases'][name] = compare(variant, size, args.rounds, args.seconds)
    print(name, json.dumps(page['cases'][name]), flush=True)
  environment = workdir.environment()
  page |= {name: environment[name] for name in ('device', 'devices', 'versions', 'commit')}
  if args.record:
    target = Path(args.results) / 'bench_seeds_by_vmap.json'
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(page, indent=2) + '\n')
    print(f'record: {target}')


def compare(variant: str, size: int, rounds: int, seconds: float) -> dict:
  """Seconds a step of one seed and of all, and how far the last seed is from its lone run after the first call."""
  import jax

  from dgm_jax.training import ensemble

  one, alone = _trainer(variant, size, (MEMBERS - 1,))
  every, together = _trainer(variant, size, range(MEMBERS))
  last = ensemble.one_of(together, MEMBERS - 1)
  pairs = zip(jax.tree.leaves(ensemble.one_of(alone, 0)), jax.tree.leaves(last), strict=True)
  apart = max(float(abs(a - b).max()) for a, b in pairs)
  times = {'one': [], 'all': []}
  for _ in range(rounds):
    for name, train in (('one', one), ('all', every)):
      times[name].append(train(seconds))
  middle = {name: statistics.median(found) for name, found in times.items()}
  return {
    'cost_of_all_over_one': middle['all'] / middle['one'],
    'of_each_round': [round(b / a, 3) for a, b in zip(*times.values(), strict=True)],
    'milliseconds_a_step': {name: 1000 * value for name, value in middle.items()},
    'largest_difference_from_the_lone_run': apart,
  }


def _trainer(variant: str, size: int, seeds):
  """(train(seconds) -> seconds a step, the state after a call)."""
  import jax

  from dgm_jax.pages import disentanglement_study
  from dgm_jax.training import ensemble

  config = disentanglement_study.settings('disentanglement', variant, size=size)
  every = dict.fromkeys(('log_every', 'eval_every', 'save_every', 'picture_every'), 0)
  config.update({'steps_per_call': STEPS, **every})
  members = ensemble.make(config, 'beta', (4.0,), seeds)
  call, steps = ensemble.compiled(members), config.steps_per_call
  index = ensemble.indices(members, 0, steps)
  state = call(ensemble.start(members), index)[0]
  first = jax.device_get(state)  # a copy: the next call takes the buffers

  def train(seconds: float) -> float:
    nonlocal state
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds or not done:
      state, metrics = call(state, index)
      jax.block_until_ready(metrics)
      done += steps
    return (time.perf_counter() - started) / done

  return train, first


if __name__ == '__main__':
  main()
