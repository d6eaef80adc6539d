"""FLOPs and time of Gated PixelCNN's training step: kernels of the causal taps alone against full ones times masks.

Usage: python benchmarks/causal_vs_masked_kernels.py [--variant=small] [--batch=16] [--rounds=9] [--no_time] [--record]

Both sides are the system of configs/gated_pixelcnn.py with the same parameters, and must make the same loss. The other
side's vertical stack convolves with n x n kernels and its horizontal one with 1 x n kernels, as published, of which a
mask leaves what may be seen. FLOPs are those that XLA counts in the compiled step; the sides are timed in turn.
"""

import argparse
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

  from dgm_jax import workdir

  jax.config.update('jax_enable_compilation_cache', False)
  sides = {name: side(args, full) for name, full in (('causal', False), ('masked', True))}
  flops = {name: program.cost_analysis()['flops'] for name, (program, _) in sides.items()}
  page = {
    'what': f'training step of configs/gated_pixelcnn.py:{args.variant}, batch {args.batch}',
    'device': workdir.environment()['device'],
    'versions': workdir.environment()['versions'],
    'commit': workdir.commit(),
    'flops_per_step': flops,
    'flops_causal_over_masked': flops['causal'] / flops['masked'],
  }
  if args.time:
    page |= timed(sides, args.rounds)
  print(json.dumps(page, indent=2))
  if args.record:
    target = Path(args.results) / f'bench_gated_pixelcnn_{args.variant or "paper"}_kernels.json'
    workdir.write_json(target, page)
    print(f'record: {target}')


def side(args, full: bool):
  """The compiled step and its arguments."""
  import jax
  import jax.numpy as jnp

  from dgm_jax import systems
  from dgm_jax.nn import masked

  causal = masked.correlate
  if full:
    masked.correlate = correlate_full
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


def correlate_full(x, window, kernel, taps, at):
  """`masked.correlate` on whole images by a full kernel times a mask: n x n where there are rows, else 1 x n."""
  import jax.numpy as jnp

  from dgm_jax.nn import masked

  del window, at
  n = 2 * taps.left + 1
  rows = n if taps.height > 1 else 1
  grown = ((0, rows - taps.height), (0, n - taps.width), (0, 0), (0, 0))
  dense = jnp.pad(masked._dense(kernel, taps), grown)
  mask = jnp.pad(jnp.ones((taps.height, taps.width, 1, 1)), grown)
  return masked._convolve(x, dense * mask, ((taps.up, rows - 1 - taps.up), (taps.left, taps.left)), 1)


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
  np.testing.assert_allclose(losses['causal'], losses['masked'], rtol=1e-5)
  middle = {name: statistics.median(values) for name, values in times.items()}
  ratios = [a / b for a, b in zip(times['causal'], times['masked'], strict=True)]
  return {
    'rounds': rounds,
    'milliseconds_per_step': middle,
    'milliseconds_of_each_round': times,
    'time_causal_over_masked': statistics.median(ratios),
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
