"""Time of a training step's work on a codebook: dgm_jax under jit against PyTorch in eager mode.

Usage: python benchmarks/quantizer_vs_torch.py [--jax_python=PATH] [--torch_python=PATH] [--rounds=7] [--threads=2]
       [--record]

Vectors [64, 32, 32, 64] and 8192 codes, float32, one CPU: the nearest code of every vector, the straight-through
output, the commitment loss, its gradient in the vectors, and the running means that move the codes. The PyTorch side
computes what the package vector-quantize-pytorch does with its default, Euclidean codebook (all distances, their
arguments of the maximum, one-hot rows and the product with them), written out, so that its interpreter needs PyTorch
alone. Both sides get the same numbers and must agree on the loss, its gradient and the new codebook. They live in
processes of their own, on the same cores, and are timed in turn, so that a machine whose speed drifts is fair to both.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SHAPE, CODES, DECAY, COMMITMENT = (64, 32, 32, 64), 8192, 0.99, 0.25
NAME = 'bench_quantizer_vs_torch'
WARM_UP = 1


def main() -> None:
  args = _arguments()
  if args.side:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    _serve(*{'jax': _jax, 'torch': _torch}[args.side](args.threads))
    return
  page = compare(args)
  print(json.dumps(page, indent=2))
  print(f'PyTorch / dgm_jax, time of a step = {page["ratio"]:.2f} (rounds {page["ratio_of_each_round"]})')
  if args.record:
    target = Path(args.results) / f'{NAME}.json'
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(page, indent=2) + '\n')
    print(f'record: {target}')


def compare(args) -> dict:
  """Times the two sides in turn, several calls a round."""
  children, about = {}, {}
  for side, python in (('jax', args.jax_python), ('torch', args.torch_python)):
    command = [python, __file__, f'--side={side}', f'--threads={args.threads}']
    children[side] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    about[side] = _answer(children[side], side)
  times = {side: [] for side in children}
  for _ in range(args.rounds):
    for side, child in children.items():
      print(args.calls, file=child.stdin, flush=True)
      times[side].append(_answer(child, side)['milliseconds'])
  for child in children.values():
    child.stdin.close()
    child.wait()
  for figure in ('loss', 'gradient_norm', 'codebook_norm'):
    if not np.isclose(about['jax'][figure], about['torch'][figure], rtol=1e-3):
      sys.exit(f'error: {figure} differs: {about}; the two sides do not compute the same thing')
  return {
    'what': f'quantizer, vectors {list(SHAPE)}, {CODES} codes, ms a training step, both sides in turn',
    'machine': f'{_processor()}, {args.threads} cores',
    'rounds': args.rounds,
    'ratio': statistics.median(times['torch']) / statistics.median(times['jax']),
    'ratio_of_each_round': [round(other / ours, 2) for ours, other in zip(times['jax'], times['torch'], strict=True)],
  } | {side: _summary(times[side]) | about[side] for side in children}


def _summary(times: list[float]) -> dict:
  return {'milliseconds': statistics.median(times), 'spread': [min(times), max(times)]}


def _processor() -> str:
  """The processor's name where Linux tells it."""
  cpus = Path('/proc/cpuinfo')
  lines = cpus.read_text().splitlines() if cpus.exists() else []
  return next((line.split(':')[1].strip() for line in lines if line.startswith('model name')), platform.machine())


def _answer(child, side: str) -> dict:
  """The next line of JSON of a side; what else it prints is passed over."""
  for line in child.stdout:
    if line.startswith('{'):
      return json.loads(line)
  return sys.exit(f'error: the {side} side ended early; see its message above, or give --{side}_python')


def _serve(about: dict, call) -> None:
  """Answers each line 'CALLS' on stdin by the median time of so many calls."""
  for _ in range(WARM_UP):
    call()
  print(json.dumps(about), flush=True)
  for line in sys.stdin:
    times = []
    for _ in range(int(line)):
      started = time.perf_counter()
      call()
      times.append(1e3 * (time.perf_counter() - started))
    print(json.dumps({'milliseconds': statistics.median(times)}), flush=True)


def _numbers() -> tuple[np.ndarray, np.ndarray]:
  """Vectors, and codes in their midst."""
  random = np.random.default_rng(0)
  return random.normal(size=SHAPE).astype('f4'), random.normal(size=(CODES, SHAPE[-1])).astype('f4')


def _jax(threads: int):
  del threads  # the process is held to its cores
  sys.path.insert(0, str(ROOT))
  import jax
  from jax import numpy as jnp

  from dgm_jax import losses
  from dgm_jax.nn import quantize

  z, sums = map(jnp.asarray, _numbers())

  @jax.jit
  def step(counts, sums, z):
    book = losses.codebook_vectors(counts, sums)

    def loss(z):
      codes = quantize.nearest(z, book)
      vectors = quantize.straight_through(z, book[codes])
      return COMMITMENT * losses.commitment_loss(z, book, codes).mean() / z.shape[-1], (codes, vectors)

    (value, (codes, vectors)), gradient = jax.value_and_grad(loss, has_aux=True)(z)
    return value, gradient, vectors, losses.codebook_ema(counts, sums, z, codes, decay=DECAY)

  counts = jnp.ones(CODES)
  program = step.lower(counts, sums, z).compile()
  value, gradient, _, book = program(counts, sums, z)
  about = {
    'versions': {'jax': jax.__version__},
    'device': jax.devices()[0].device_kind,
    'loss': float(value),
    'gradient_norm': float(jnp.linalg.norm(gradient)),
    'codebook_norm': float(jnp.linalg.norm(book.vectors)),
    'temporary_bytes': program.memory_analysis().temp_size_in_bytes,
    'bytes_of_all_distances': 4 * CODES * z.size // z.shape[-1],
  }
  return about, lambda: jax.block_until_ready(program(counts, sums, z))


def _torch(threads: int):
  import torch
  from torch.nn import functional

  torch.set_num_threads(threads)
  z, start = (torch.from_numpy(a) for a in _numbers())
  z.requires_grad_()
  state = {}

  def reset():
    state.update(counts=torch.ones(CODES), sums=start.clone(), book=start.clone())

  def call():
    z.grad = None
    flat = z.reshape(-1, z.shape[-1])
    book = state['book']
    with torch.no_grad():
      squares = (flat**2).sum(-1)[:, None] + (book**2).sum(-1)[None]
      distances = (squares + -2 * torch.einsum('id,jd->ij', flat, book)).clamp(min=0).sqrt()
      codes = (-distances).argmax(-1)
      rows = functional.one_hot(codes, CODES).type(flat.dtype)
      nearest = book[codes].reshape(z.shape)
      state['counts'].lerp_(rows.sum(0), 1 - DECAY)
      state['sums'].lerp_(torch.einsum('nd,nc->cd', flat, rows), 1 - DECAY)
      total = state['counts'].sum()
      smoothed = (state['counts'] + 1e-5) / (total + CODES * 1e-5) * total
      state['book'] = state['sums'] / smoothed[:, None]
    vectors = z + (nearest - z).detach()
    loss = COMMITMENT * functional.mse_loss(nearest, z)
    loss.backward()
    return loss, vectors

  reset()
  value, _ = call()
  about = {
    'versions': {'torch': torch.__version__},
    'loss': value.item(),
    'gradient_norm': z.grad.norm().item(),
    'codebook_norm': state['book'].norm().item(),
  }
  reset()
  return about, call


def _arguments():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--jax_python', default=sys.executable, help='an interpreter that has JAX')
  parser.add_argument('--torch_python', default=sys.executable, help='an interpreter that has PyTorch')
  parser.add_argument('--rounds', type=int, default=7)
  parser.add_argument('--calls', type=int, default=1, help='of one side in one round')
  parser.add_argument('--threads', type=int, default=2, help='cores that both sides are held to')
  parser.add_argument('--record', action='store_true', help='write the figures into --results')
  parser.add_argument('--results', default=str(ROOT / 'results'))
  parser.add_argument('--side', choices=('jax', 'torch'), help=argparse.SUPPRESS)
  return parser.parse_args()


if __name__ == '__main__':
  main()
