"""What 50 steps of a diffusion sampler cost beside 50 passes of its network, and how often a chain compiles.

Usage: python benchmarks/diffusion_sampler.py [--rounds=7] [--images=64] [--steps=50] [--record]

The experiments are configs/deep_diffusion_cifar10.py:small and configs/ddpm_cifar10.py:small: images of CIFAR-10's
size, a thousand steps of which every twentieth is made; dgm_jax alone. `System.sample` and a loop of jitted passes of
the network take turns on the same cores; CPU time tells more than the clock where others use the machine. A chain of
the same stride is then run for three numbers of steps, and its programs are counted.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
CASES = ('deep_diffusion_cifar10', 'ddpm_cifar10')
SHAPE = (32, 32, 3)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--rounds', type=int, default=7)
  parser.add_argument('--images', type=int, default=64, help='of one draw')
  parser.add_argument('--steps', type=int, default=50, help='of the sampler, a divisor of 1000')
  parser.add_argument('--record', action='store_true', help='write the figures into --results')
  parser.add_argument('--results', default=str(ROOT / 'results'))
  args = parser.parse_args()
  from dgm_jax.runs import workdir
  from dgm_jax.runtime import cluster

  cluster.start()
  page = {
    'what': f'{args.images} images of 32x32 by {args.steps} steps over as many passes of the network',
    'cases': {},
  }
  for name in CASES:
    page['cases'][name] = compare(name, args.images, args.steps, args.rounds)
    print(name, json.dumps(page['cases'][name]), flush=True)
  environment = workdir.environment()
  page |= {name: environment[name] for name in ('device', 'devices', 'versions', 'commit')}
  if args.record:
    target = Path(args.results) / 'bench_diffusion_sampler.json'
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(page, indent=2) + '\n')
    print(f'record: {target}')


def compare(name: str, images: int, steps: int, rounds: int) -> dict:
  """Times of a draw and of bare passes, in turn, and the programs of chains of three lengths."""
  import jax
  import jax.numpy as jnp

  from dgm_jax import config as experiment
  from dgm_jax import systems
  from dgm_jax.systems import diffusion as family
  from dgm_jax.systems.parts import diffusion

  config = experiment.build_on(str(ROOT / 'configs' / 'x.py'), f'{name}:small')
  config.data.update({'shape': SHAPE, 'examples': 49_600})
  config.model.sampler.steps = steps
  system, parts = systems.build(config), family.build_parts(config)
  x, key = jax.random.normal(jax.random.key(0), (images, *SHAPE)), jax.random.key(1)
  state = jax.jit(system.init)(key, {'x': x[:2]})
  params, times = state.params['model'], jnp.full(images, config.model.steps // 2, jnp.int32)
  sample = jax.jit(lambda state: system.sample(key, state, images))
  apply = jax.jit(lambda params, x: parts.chain.apply(params, x, times, None))

  def passes():
    for _ in range(steps):
      out = apply(params, x)
    return out

  found = {'sample': [], 'passes': []}
  jax.block_until_ready((sample(state), passes()))
  for _ in range(rounds):
    for side, call in (('sample', lambda: sample(state)), ('passes', passes)):
      started, cpu = time.perf_counter(), time.process_time()
      jax.block_until_ready(call())
      found[side].append((time.perf_counter() - started, time.process_time() - cpu))
  wall, cpu = ({side: statistics.median(row[i] for row in rows) for side, rows in found.items()} for i in (0, 1))
  chain = jax.jit(lambda x, first, count: diffusion.reverse(key, parts.chain, params, x, first, count))
  for count in (1, 2, steps // 2):
    jax.block_until_ready(chain(x, count, count))
  return {
    'time_over_passes': wall['sample'] / wall['passes'],
    'cpu_time_over_passes': cpu['sample'] / cpu['passes'],
    'of_each_round': [round(a[0] / b[0], 3) for a, b in zip(found['sample'], found['passes'], strict=True)],
    'seconds_a_draw': wall['sample'],
    'cpu_seconds_a_draw': cpu['sample'],
    'programs_of_chains_of_three_lengths': chain._cache_size(),
  }


if __name__ == '__main__':
  main()
