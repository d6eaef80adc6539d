"""How many sprites a second are drawn inside jit, batches of 256 with factors drawn there, too; dgm_jax alone.

Usage: python benchmarks/sprites_drawn.py [--rounds=7] [--seconds=2] [--record]
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
BATCH = 256


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--rounds', type=int, default=7)
  parser.add_argument('--seconds', type=float, default=2.0, help='of one round')
  parser.add_argument('--record', action='store_true', help='write the figures into --results')
  parser.add_argument('--results', default=str(ROOT / 'results'))
  args = parser.parse_args()
  rates = {name: measure(name, args.rounds, args.seconds) for name in ('sprites', 'sprites_color')}
  from dgm_jax.runs import workdir

  environment = workdir.environment()
  page = {'what': f'64x64 images drawn a second, batches of {BATCH}, inside jit', 'images_per_second': rates}
  page |= {name: environment[name] for name in ('device', 'devices', 'versions', 'commit')}
  print(json.dumps(page, indent=2))
  if args.record:
    target = Path(args.results) / 'bench_sprites_drawn.json'
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(page, indent=2) + '\n')
    print(f'record: {target}')


def measure(name: str, rounds: int, seconds: float) -> dict:
  """Median and range over the rounds."""
  import jax

  from dgm_jax.data import factors, sprites
  from dgm_jax.data.images import Look

  simulator = sprites.simulator(name, Look())

  @jax.jit
  def draw(key):
    for_factors, for_image = jax.random.split(key)
    return simulator.draw(for_image, factors.sample(for_factors, simulator, BATCH))

  jax.block_until_ready(draw(jax.random.key(0)))
  rates, number = [], 0
  for _ in range(rounds):
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
      jax.block_until_ready(draw(jax.random.key(number := number + 1)))
      done += BATCH
    rates.append(done / (time.perf_counter() - started))
  return {'median': round(statistics.median(rates)), 'spread': [round(min(rates)), round(max(rates))]}


if __name__ == '__main__':
  main()
