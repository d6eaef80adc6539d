"""Time of the mixture of logistics, forward and backward: dgm_jax under jit against PyTorch in eager mode.

Usage: python benchmarks/logistic_mixture_vs_torch.py [--jax_python=PATH] [--torch_python=PATH] [--rounds=7]
       [--threads=2] [--record]

Pixels [64, 32, 32, 3], 10 components, one CPU: log-probability of every pixel, its mean, and the gradient of that in
the network's output [64, 32, 32, 100]. Both sides get the same numbers and must agree on mean and gradient. They live
in processes of their own, on the same cores, and are timed in turn, so that a machine whose speed drifts is fair to
both. The PyTorch side is the published formula as one writes it there; its interpreter needs nothing of dgm_jax.
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
SHAPE, COMPONENTS = (64, 32, 32, 3), 10
NAME = 'bench_logistic_mixture_vs_torch'
WARM_UP = 3


def main() -> None:
  args = _arguments()
  if args.side:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    _serve(*{'jax': _jax, 'torch': _torch}[args.side](args.threads))
    return
  page = compare(args)
  print(json.dumps(page, indent=2))
  print(f'PyTorch / dgm_jax, time forward and backward = {page["ratio"]:.2f} (rounds {page["ratio_of_each_round"]})')
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
  for figure in ('mean_nats', 'gradient_norm'):
    # The published formula cancels in float32, and is replaced by a density where it would fail.
    if not np.isclose(about['jax'][figure], about['torch'][figure], rtol=1e-3):
      sys.exit(f'error: {figure} differs: {about}; the two sides do not compute the same thing')
  return {
    'what': f'mixture of logistics, {list(SHAPE)} x {COMPONENTS}, ms forward and backward, both sides in turn',
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
  """Pixels in [-1, 1], and a network's output: logits, means, log-scales, coefficients."""
  random = np.random.default_rng(0)
  x = random.integers(0, 256, SHAPE) / 127.5 - 1
  output = random.normal(size=(*SHAPE[:-1], 10, COMPONENTS))
  return x.astype(np.float32), output.reshape(*SHAPE[:-1], -1).astype(np.float32)


def _jax(threads: int):
  del threads  # the process is held to its cores
  sys.path.insert(0, str(ROOT))
  import jax

  from dgm_jax import distributions as dist

  x, output = (jax.numpy.asarray(a) for a in _numbers())

  @jax.jit
  def evaluate(x, output):
    def loss(output):
      return -dist.logistic_mixture_log_prob(x, dist.logistic_mixture_split(output)).mean()

    return jax.value_and_grad(loss)(output)

  value, gradient = evaluate(x, output)
  about = {'versions': {'jax': jax.__version__}, 'device': jax.devices()[0].device_kind}
  about |= {'mean_nats': float(value), 'gradient_norm': float(jax.numpy.linalg.norm(gradient))}
  return about, lambda: jax.block_until_ready(evaluate(x, output))


def _torch(threads: int):
  import torch
  from torch.nn import functional

  torch.set_num_threads(threads)
  x, output = (torch.from_numpy(a) for a in _numbers())
  output.requires_grad_()

  def loss():
    logits, rest = output[..., :COMPONENTS], output[..., COMPONENTS:].unflatten(-1, (9, COMPONENTS))
    means, log_scales, coefficients = rest[..., :3, :], rest[..., 3:6, :].clamp(min=-7), rest[..., 6:, :].tanh()
    red, green = x[..., 0:1], x[..., 1:2]
    green_mean = means[..., 1, :] + coefficients[..., 0, :] * red
    blue_mean = means[..., 2, :] + coefficients[..., 1, :] * red + coefficients[..., 2, :] * green
    centred = x[..., None] - torch.stack([means[..., 0, :], green_mean, blue_mean], -2)
    inverse = torch.exp(-log_scales)
    upper, lower, middle = inverse * (centred + 1 / 255), inverse * (centred - 1 / 255), inverse * centred
    mass = torch.sigmoid(upper) - torch.sigmoid(lower)
    density = middle - log_scales - 2 * functional.softplus(middle) - np.log(127.5)
    inside = torch.where(mass > 1e-5, torch.log(mass.clamp(min=1e-12)), density)
    at_top = torch.where(x[..., None] > 0.999, -functional.softplus(lower), inside)
    log_bins = torch.where(x[..., None] < -0.999, upper - functional.softplus(upper), at_top)
    return -torch.logsumexp(log_bins.sum(-2) + functional.log_softmax(logits, -1), -1).mean()

  def call():
    output.grad = None
    value = loss()
    value.backward()
    return value

  about = {
    'versions': {'torch': torch.__version__},
    'mean_nats': call().item(),
    'gradient_norm': output.grad.norm().item(),
  }
  return about, call


def _arguments():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--jax_python', default=sys.executable, help='an interpreter that has JAX')
  parser.add_argument('--torch_python', default=sys.executable, help='an interpreter that has PyTorch')
  parser.add_argument('--rounds', type=int, default=7)
  parser.add_argument('--calls', type=int, default=3, help='of one side in one round')
  parser.add_argument('--threads', type=int, default=2, help='cores that both sides are held to')
  parser.add_argument('--record', action='store_true', help='write the figures into --results')
  parser.add_argument('--results', default=str(ROOT / 'results'))
  parser.add_argument('--side', choices=('jax', 'torch'), help=argparse.SUPPRESS)
  return parser.parse_args()


if __name__ == '__main__':
  main()
