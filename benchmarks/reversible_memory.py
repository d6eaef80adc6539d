"""Memory, time and exactness of stacked reversible units, with and without kept activations.

Usage: python benchmarks/reversible_memory.py [--depths=3,9,18,54,150] [--timed=9] [--rounds=5] [--record]

Units as RevNet's, two streams of 16 channels, images of 16x16, batch 8. Memory is what the compiler sets aside beside
arguments and results, so that parameters and their gradients do not count. Times are of programs whose units are
written out, taken in turn. Drift is how far normal inputs are off after the way there and back in float32, and how far
the gradient is off automatic differentiation's, relative to its largest number.

The same memory is given of a whole training step of configs/revnet_cifar10.py:revnet_small with as many units in its
three stages, images of 32x32, batch 100, and beside it what of it holds the gradients: as much as the parameters.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from configs import revnet_cifar10  # noqa: E402
from dgm_jax import systems  # noqa: E402
from dgm_jax.models import resnet  # noqa: E402
from dgm_jax.nn import coupling  # noqa: E402
from dgm_jax.nn import reversible as rev  # noqa: E402
from dgm_jax.pages import svg  # noqa: E402
from dgm_jax.runs import workdir  # noqa: E402


def main() -> None:
  args = _arguments()
  depths = list(map(int, args.depths.split(',')))
  memory = {name: [_temporary(depth, name) for depth in depths] for name in ('plain', 'reversible')}
  seconds = _seconds(args.timed, args.rounds)
  environment = workdir.environment()
  page = {
    'what': 'gradient through reversible units: temporary MiB of the compiled program by depth, seconds at one depth',
    'depths': depths,
    'temporary_mib': memory,
    'training_step': [_training_step(depth, name) for name in memory for depth in depths if depth % 3 == 0],
    'timed_depth': args.timed,
    'seconds': seconds,
    'time_ratio': seconds['reversible'] / seconds['plain'],
    'drift': list(map(_drift, depths)),
    'device': environment['device'],
    'versions': environment['versions'],
    'commit': environment['commit'],
  }
  print(json.dumps(page, indent=2))
  if args.record:
    (ROOT / 'results' / 'bench_reversible_memory.json').write_text(json.dumps(page, indent=2) + '\n')
    (ROOT / 'docs' / 'reversible_memory.svg').write_text(_picture(depths, memory))


def _picture(depths: list[int], memory: dict) -> str:
  """MiB over depth, as a file of its own."""
  figure = svg.chart('temporary MiB', {name: list(zip(depths, values, strict=True)) for name, values in memory.items()})
  drawn = figure[figure.index('<svg') : figure.rindex('</svg>') + len('</svg>')]
  alone = 'xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="10"'
  return drawn.replace('<svg', f'<svg {alone}', 1) + '\n'


def _drift(depth: int) -> dict[str, float]:
  x = tuple(jax.random.normal(jax.random.key(i), (8, 16, 16, 16)) for i in (1, 2))
  (part, gradient), (_, plain) = _gradient(depth, 'reversible', 1), _gradient(depth, 'plain', 1)
  params = jax.jit(part.init)(jax.random.key(0), x)
  y, _, stats = jax.jit(part.forward)(params, None, x)
  largest = lambda tree: max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(tree))
  far = lambda a, b: largest(jax.tree.map(jnp.subtract, a, b))
  slopes = plain(params, x)
  back = jax.jit(part.inverse)(params, stats, y)[0]
  return {'depth': depth, 'inputs': far(back, x), 'gradient': far(gradient(params, x), slopes) / largest(slopes)}


def _gradient(depth: int, memory: str, unroll: int):
  residual = lambda features: resnet.Residual(features)
  unit = rev.chain(*(coupling.coupling(residual, coupling.additive(), kept) for kept in (1, 0)))
  part = resnet.MEMORY[memory](rev.repeat(depth, unit, unroll))
  loss = lambda params, x: sum(jnp.square(y).mean() for y in part.forward(params, None, x)[0])
  return part, jax.jit(jax.grad(loss))


def _temporary(depth: int, memory: str) -> float:
  part, gradient = _gradient(depth, memory, 1)
  x = (jax.ShapeDtypeStruct((8, 16, 16, 16), 'float32'),) * 2
  params = jax.eval_shape(lambda x: part.init(jax.random.key(0), x), x)
  return gradient.lower(params, x).compile().memory_analysis().temp_size_in_bytes / 2**20


def _training_step(depth: int, memory: str) -> dict:
  config = revnet_cifar10.get_config('revnet_small')
  config.model.network.update({'units': (depth // 3,) * 3, 'memory': memory, 'unroll': 1})
  with config.unlocked():
    config.data.update({'shape': (32, 32, 3), 'examples': 49_000})
  experiment = systems.build(config)
  batch = {'x': jnp.zeros((config.batch_size, 32, 32, 3)), 'y': jnp.zeros(config.batch_size, jnp.int32)}
  state = jax.eval_shape(experiment.init, jax.random.key(0), batch)
  step = jax.jit(experiment.step, donate_argnums=1).lower(jax.random.key(0), state, batch).compile()
  gradients = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state.params)) / 2**20
  temporary = step.memory_analysis().temp_size_in_bytes / 2**20
  return {'memory': memory, 'depth': depth, 'temporary_mib': temporary, 'gradients_mib': gradients}


def _seconds(depth: int, rounds: int) -> dict[str, float]:
  x, times, compiled = (jnp.ones((8, 16, 16, 16)),) * 2, {'plain': [], 'reversible': []}, {}
  for name in times:
    part, gradient = _gradient(depth, name, depth)
    compiled[name] = gradient, jax.jit(part.init)(jax.random.key(0), x)
    jax.block_until_ready(gradient(compiled[name][1], x))
  for _ in range(rounds):
    for name, (gradient, params) in compiled.items():
      started = time.perf_counter()
      jax.block_until_ready([gradient(params, x) for _ in range(10)])
      times[name].append((time.perf_counter() - started) / 10)
  return {name: statistics.median(values) for name, values in times.items()}


def _arguments():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--depths', default='3,9,18,54,150')
  parser.add_argument('--timed', type=int, default=9)
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--record', action='store_true', help='write results/bench_reversible_memory.json')
  return parser.parse_args()


if __name__ == '__main__':
  main()
