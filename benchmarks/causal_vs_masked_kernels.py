"""FLOPs and time of Gated PixelCNN's training step: kernels of the causal taps alone against full ones times masks.

Usage: python benchmarks/causal_vs_masked_kernels.py [--variant=small] [--batch=16] [--rounds=9] [--no_time] [--record]

All sides are the system of configs/gated_pixelcnn.py with the same parameters, and must make the same loss. `masked`
convolves with n x n kernels in the vertical stack and with 1 x n in the horizontal one, as published, of which a mask
leaves what may be seen; `square` with n x n in both. FLOPs are those that XLA counts in the compiled step; the sides
are timed in turn. The 1x1 layers, a tenth of all, are the same on all sides.
"""

import argparse
import functools
import json
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def main() -> None:
  args = _arguments()
  import jax

  from dgm_jax.runs import workdir

  jax.config.update('jax_enable_compilation_cache', False)
  sides = {name: side(args, name) for name in ('causal', 'masked', 'square')}
  flops = {name: program.cost_analysis()['flops'] for name, (program, _) in sides.items()}
  page = {
    'what': f'training step of configs/gated_pixelcnn.py:{args.variant}, batch {args.batch}',
    'device': workdir.environment()['device'],
    'versions': workdir.environment()['versions'],
    'commit': workdir.commit(),
    'flops_per_step': flops,
    'flops_causal_over_masked': flops['causal'] / flops['masked'],
    'flops_causal_over_square': flops['causal'] / flops['square'],
  }
  if args.time:
    page |= timed(sides, args.rounds)
  print(json.dumps(page, indent=2))
  if args.record:
    target = Path(args.results) / f'bench_gated_pixelcnn_{args.variant or "paper"}_kernels.json'
    workdir.write_json(target, page)
    print(f'record: {target}')


def side(args, kernels: str):
  """The compiled step and its arguments."""
  import jax
  import jax.numpy as jnp

  from dgm_jax import systems
  from dgm_jax.nn import masked

  causal = masked.correlate
  if kernels != 'causal':
    masked.correlate = functools.partial(correlate_full, square=kernels == 'square')
  config = configuration(args)
  system = systems.build(config)
  x = jax.random.bernoulli(jax.random.key(1), 0.2, (args.batch, *config.data.shape)).astype(jnp.float32)
  batch = {'x': x, 'y': jnp.zeros(args.batch, jnp.int32)}
  state = jax.jit(system.init)(jax.random.key(0), batch)
  program = jax.jit(system.step).lower(jax.random.key(2), state, batch).compile()
  masked.correlate = causal
  return program, (jax.random.key(2), state, batch)


def configuration(args):
  """The experiment, with the shape and the number of MNIST's images."""
  import importlib.util

  spec = importlib.util.spec_from_file_location('gated', ROOT / 'configs' / 'gated_pixelcnn.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config(args.variant)
  config.data.update({'shape': (28, 28, 1), 'examples': 59_600})
  config.batch_size = args.batch
  return config


def correlate_full(x, window, kernel, taps, at, square: bool):
  """`masked.correlate` on whole images by a full kernel times a mask: n x n over rows or if `square`, else 1 x n."""
  import jax.numpy as jnp

  from dgm_jax.nn import masked

  del window, at
  n = 2 * taps.left + 1
  rows, up = (n, taps.up) if taps.height > 1 else (n, taps.left) if square else (1, 0)
  top = up - taps.up
  grown = ((top, rows - top - taps.height), (0, n - taps.width), (0, 0), (0, 0))
  dense = jnp.pad(masked._dense(kernel, taps), grown)
  mask = jnp.pad(jnp.ones((taps.height, taps.width, 1, 1)), grown)
  return masked._convolve(x, dense * mask, ((up, rows - 1 - up), (taps.left, taps.left)), 1)


def timed(sides: dict, rounds: int) -> dict:
  """Milliseconds of a step, and the sides' losses, which must agree."""
  import jax
  import numpy as np

  times, losses = {name: [] for name in sides}, {}
  for turn in range(rounds + 1):
    for name, (program, arguments) in sides.items():
      started = time.perf_counter()
      _, metrics = jax.block_until_ready(program(*arguments))
      if turn:  # the first one warms up
        times[name].append(1e3 * (time.perf_counter() - started))
      losses[name] = float(metrics['model/loss'])
  np.testing.assert_allclose(list(losses.values()), losses['causal'], rtol=1e-5)
  middle = {name: statistics.median(values) for name, values in times.items()}
  over = lambda name: statistics.median(a / b for a, b in zip(times['causal'], times[name], strict=True))
  return {
    'rounds': rounds,
    'milliseconds_per_step': middle,
    'milliseconds_of_each_round': times,
    'time_causal_over_masked': over('masked'),
    'time_causal_over_square': over('square'),
  }


def _arguments():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--variant', default='small', help="of configs/gated_pixelcnn.py; '' for the paper's")
  parser.add_argument('--batch', type=int, default=16)
  parser.add_argument('--rounds', type=int, default=9)
  parser.add_argument('--no_time', dest='time', action='store_false', help='only count FLOPs')
  parser.add_argument('--record', action='store_true')
  parser.add_argument('--results', default=str(ROOT / 'results'))
  return parser.parse_args()


if __name__ == '__main__':
  main()
