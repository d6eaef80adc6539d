"""Sides of a comparison in processes of their own, on the same cores, timed in turn; with the standard library alone.

A script gives `run` its sides: functions that prepare a training step and return what is to be said of the side, and a
function of seconds that trains for about so long and returns the steps/s. The first side may write a file of data for
the others. 'torch' runs under another interpreter. Sides beside 'jax' and 'torch' are parts of the step, bare; of them
the step's time over theirs is recorded.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ADAMS = {'as it comes': {}, 'foreach': {'foreach': True}, 'fused': {'fused': True}}  # forms of PyTorch's


def run(script: str, about: dict, doc: str, sides: dict[str, Callable], variants: tuple[str, ...] = ('',)) -> None:
  """The command line of a comparison.

  Args:
    script: the path of the script, of which the record has the name.
    about: the head of the record.
    doc: the script's description.
    sides: functions of the arguments, by their names; 'jax' and 'torch' among them.
    variants: of the configuration, one of which the command line chooses; the record's `config` and name have it.
  """
  args = _arguments(doc, sides, variants)
  if args.variant:
    about = about | {'config': f'{about["config"]}:{args.variant}'}
  if args.side:
    if args.threads:
      os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    _serve(*sides[args.side](args))
    return
  with tempfile.TemporaryDirectory() as folder:
    args.data = f'{folder}/data.npy'
    page = about | {'threads': args.threads} | _compare(args, script, sides)
  print(json.dumps(page, indent=2))
  if args.record:
    target = Path(args.results) / f'bench_{"_".join(filter(None, (Path(script).stem, args.variant)))}.json'
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(page, indent=2) + '\n')
    print(f'record: {target}')


def _compare(args, script: str, sides: dict) -> dict:
  children, about = {}, {}
  for side in sides:
    python = args.torch_python if side == 'torch' else sys.executable
    command = [python, script, f'--side={side}', f'--data={args.data}', f'--threads={args.threads}']
    command += [f'--variant={args.variant}']
    children[side] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    about[side] = answer(children[side])
  rates = {side: [] for side in sides}
  for _ in range(args.rounds):
    for side, child in children.items():
      print(args.seconds, file=child.stdin, flush=True)
      rates[side].append(answer(child)['steps_per_second'])
  for child in children.values():
    child.stdin.close()
    child.wait()
  middle = {side: statistics.median(rates[side]) for side in sides}
  over = lambda a, b: [round(one / other, 3) for one, other in zip(rates[a], rates[b], strict=True)]
  page = {'ratio': middle['jax'] / middle['torch'], 'ratio_of_each_round': over('jax', 'torch')}
  for side in [side for side in sides if side not in ('jax', 'torch')]:
    page[f'time_over_bare_{side}'] = middle[side] / middle['jax']
    page[f'time_over_bare_{side}_of_each_round'] = over(side, 'jax')
  return page | {
    side: {'steps_per_second': middle[side], 'spread': [min(rates[side]), max(rates[side])]} | about[side]
    for side in sides
  }


def answer(child) -> dict:
  """The next line of JSON of a side; what else it prints is passed over."""
  for line in child.stdout:
    if line.startswith('{'):
      return json.loads(line)
  sys.exit('error: one side ended early; see its message above')


def _serve(about: dict, train) -> None:
  """Answers each line 'SECONDS' on stdin by training for about so long."""
  train(1.0)
  print(json.dumps(about), flush=True)
  for line in sys.stdin:
    print(json.dumps({'steps_per_second': train(float(line))}), flush=True)


def rate(step, seconds: float, wait=lambda value: None, each: int = 1) -> float:
  """Steps/s of `step()`, which makes `each` of them and may run ahead by one call."""
  done, before, started = 0, None, time.perf_counter()
  while time.perf_counter() - started < seconds:
    value = step()
    wait(before)
    before, done = value, done + each
  wait(before)
  return done / (time.perf_counter() - started)


def fastest(trainer: Callable, device: str) -> tuple[dict, Callable[[float], float]]:
  """PyTorch's side: what is to be said of it, and its steps/s with the faster form of Adam.

  Args:
    trainer: of one of `ADAMS` gives a step, which returns an event on an accelerator.
    device: 'cpu' or 'cuda'.
  """
  import torch

  wait = lambda event: event.synchronize() if event else None
  forms = {name: trainer(**form) for name, form in ADAMS.items()}
  found = {name: rate(step, 1.0, wait) for name, step in (*forms.items(), *forms.items())}
  best = max(found, key=found.get)
  about = {'versions': {'torch': torch.__version__}, 'fastest_adam': best, 'device': device}
  return about, lambda seconds: rate(forms[best], seconds, wait)


def whereabouts() -> dict:
  """What dgm_jax says of the machine, the packages and the commit."""
  from dgm_jax.runs import workdir

  environment = workdir.environment()
  return {'device': environment['device'], 'versions': environment['versions'], 'commit': environment['commit']}


def bare(layers: list) -> Callable[[float], float]:
  """Steps/s of layers alone, one after another, each a program of its own.

  Args:
    layers: of each the layer, the shape of its input, and of what gradients are wanted: () for none, (0,) for its
      parameters, (1,) for its input, (0, 1) for both.
  """
  import jax
  import jax.numpy as jnp

  from dgm_jax.runtime import parallel

  programs = []
  for number, (layer, shape, wanted) in enumerate(layers):
    x = jax.random.normal(jax.random.key(number), shape)
    params = layer.init(jax.random.key(number), x)

    def both(params, x, layer=layer, wanted=wanted):
      out, back = jax.vjp(lambda *given: layer.apply(*given), params, x)
      gradients = back(jnp.ones_like(out))
      return out, [gradients[i] for i in wanted]

    options = parallel.compiler_options(parallel.mesh(1))  # those of the training step
    programs.append((jax.jit(both, compiler_options=options or None), params, x))
  step = lambda: [program(params, x) for program, params, x in programs]
  return lambda seconds: rate(step, seconds, jax.block_until_ready)


def loop(run) -> Callable[[float], float]:
  """Steps/s of what the training loop calls, `training.compile_call`, with the order of examples made on the host."""
  import jax
  import numpy as np

  from dgm_jax import training

  call, (state, at), each = training.compile_call(run), training.start(run), run.config.steps_per_call

  def step():
    nonlocal state, at
    state, metrics = call(state, np.uint32(0), run.arrays, training.indices(run, at, each))
    at += each
    return metrics

  return lambda seconds: rate(step, seconds, jax.block_until_ready, each)


def _arguments(doc: str, sides: dict, variants: tuple[str, ...]):
  parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--torch_python', default=sys.executable, help='an interpreter that has PyTorch')
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--seconds', type=float, default=5.0, help='of one side in one round')
  parser.add_argument('--threads', type=int, default=2, help='cores that all sides are held to; 0: all')
  parser.add_argument('--record', action='store_true', help='write the figures into --results')
  parser.add_argument('--results', default=str(ROOT / 'results'))
  parser.add_argument('--variant', default='', choices=variants, help='of the configuration')
  parser.add_argument('--side', choices=sides, help=argparse.SUPPRESS)
  parser.add_argument('--data', help=argparse.SUPPRESS)
  return parser.parse_args()
