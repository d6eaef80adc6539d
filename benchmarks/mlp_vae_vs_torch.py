"""Training speed of the MLP-VAE on MNIST: dgm_jax's own training step against PyTorch in eager mode.

Usage: python benchmarks/mlp_vae_vs_torch.py --torch_python=PATH [--rounds=5] [--seconds=5] [--threads=2] [--record]

Network 784-200-200-50-200-200-784 with tanh, Bernoulli likelihood, batch 100, Adam, pixels binarized anew for every
batch. Both sides draw their batch from the whole training set, held as uint8, and everything that a step needs is
timed: random numbers, gather, forward, backward, optimizer. PyTorch is timed twice, with `torch.optim.Adam(params)` as
it comes and with the fastest of its three forms. The sides live in processes of their own, on the same
cores, and are timed in turn. --torch_python names an interpreter that has PyTorch; it needs nothing of dgm_jax.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import in_turn

ROOT = Path(__file__).resolve().parents[1]
CONFIG = 'configs/vae_mnist.py'
WARM_UP_STEPS = 300  # of each PyTorch optimizer, before the fastest is chosen


def main() -> None:
  args = _arguments()
  if args.side:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    _serve(*{'jax': _jax, 'torch': _torch}[args.side](args))
    return
  with tempfile.TemporaryDirectory() as folder:
    args.data = f'{folder}/pixels.npy'
    page = compare(args)
  print(json.dumps(page, indent=2))
  print(
    f'dgm_jax / PyTorch = {page["ratio"]:.2f} (rounds {page["ratio_of_each_round"]}) with Adam as it comes,'
    f' {page["ratio_to_fastest_adam"]:.2f} with Adam({page["torch"]["fastest_adam"]}=True)'
  )
  if args.record:
    target = Path(args.results) / 'bench_mlp_vae_vs_torch.json'
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(page, indent=2) + '\n')
    print(f'record: {target}')


def compare(args) -> dict:
  """Times the two sides in turn; all rates are examples/s."""
  sides, about = {}, {}
  for side, python in (('jax', sys.executable), ('torch', args.torch_python)):  # the first writes the data
    command = [python, __file__, f'--side={side}', f'--data={args.data}', f'--threads={args.threads}']
    sides[side] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    about[side] = in_turn.answer(sides[side])
  turns = [('jax', 'jax'), ('torch', 'default'), ('torch', 'fastest')]  # the forms of PyTorch's Adam
  rates = {form: [] for _, form in turns}
  for _ in range(args.rounds):
    for side, form in turns:
      print(form, args.seconds, file=sides[side].stdin, flush=True)
      rates[form].append(in_turn.answer(sides[side])['examples_per_second'])
  for child in sides.values():
    child.stdin.close()
    child.wait()
  return {
    'what': 'MLP-VAE on MNIST, batch 100, examples/s, both sides in turn on the same cores',
    'config': CONFIG,
    'threads': args.threads,
    'ratio': _ratio(rates, 'default'),
    'ratio_of_each_round': _each(rates, 'default'),
    'ratio_to_fastest_adam': _ratio(rates, 'fastest'),
    'ratio_to_fastest_adam_of_each_round': _each(rates, 'fastest'),
    'jax': _summary(rates['jax']) | about['jax'],
    'torch': _summary(rates['default']) | about['torch'],
    'torch_fastest_adam': _summary(rates['fastest']),
  }


def _ratio(rates: dict[str, list[float]], form: str) -> float:
  return statistics.median(rates['jax']) / statistics.median(rates[form])


def _each(rates: dict[str, list[float]], form: str) -> list[float]:
  return [round(ours / other, 3) for ours, other in zip(rates['jax'], rates[form], strict=True)]


def _summary(rates: list[float]) -> dict:
  return {'examples_per_second': statistics.median(rates), 'spread': [min(rates), max(rates)]}


def _serve(about: dict, train) -> None:
  """Answers each line 'FORM SECONDS' on stdin by training for about so long."""
  train('default', 0.5)
  print(json.dumps(about), flush=True)
  for line in sys.stdin:
    form, seconds = line.split()
    print(json.dumps({'examples_per_second': train(form, float(seconds))}), flush=True)


def _jax(args):
  """What the training loop calls, `training.compile_call`, with the order of the examples made on the host."""
  sys.path.insert(0, str(ROOT))
  import jax
  import numpy as np

  from configs import vae_mnist
  from dgm_jax import errors, training
  from dgm_jax.runs import workdir
  from dgm_jax.runtime import cluster

  cluster.start()
  try:
    run = training.prepare(vae_mnist.get_config(), Path(args.data).parent / 'run')
  except errors.UserError as error:
    sys.exit(f'error: {error}')
  np.save(args.data, run.splits['train'].arrays['x'].reshape(run.splits['train'].size, -1))
  call, seed, size = training.compile_call(run), np.uint32(0), run.config.steps_per_call
  state, step = training.start(run)[0], 0

  def train(form: str, seconds: float) -> float:
    del form  # there is one
    nonlocal state, step
    first, started, metrics = step, time.perf_counter(), None
    while time.perf_counter() - started < seconds:
      before, (state, metrics) = metrics, call(state, seed, run.arrays, training.indices(run, step, size))
      jax.block_until_ready(before)  # one call behind, as in `training.train`
      step += size
    jax.block_until_ready(metrics)
    return (step - first) * run.config.batch_size / (time.perf_counter() - started)

  environment = workdir.environment()
  return {'device': environment['device'], 'versions': environment['versions'], 'commit': environment['commit']}, train


def _torch(args):
  """The same network and loss as one writes them in PyTorch, with the fastest form of Adam."""
  import numpy as np
  import torch
  from torch import nn
  from torch.nn import functional

  torch.set_num_threads(args.threads)
  pixels = torch.from_numpy(np.load(args.data))

  def mlp(*sizes: int) -> list[nn.Module]:
    return [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.Tanh())]

  encoder = nn.Sequential(*mlp(784, 200, 200), nn.Linear(200, 2 * 50))
  decoder = nn.Sequential(*mlp(50, 200, 200), nn.Linear(200, 784))
  params = [*encoder.parameters(), *decoder.parameters()]

  def step(optimizer) -> None:
    x = torch.bernoulli(pixels[torch.randint(len(pixels), (100,))].float().div_(255))
    mean, log_std = encoder(x).chunk(2, 1)
    std = log_std.exp()
    logits = decoder(mean + std * torch.randn_like(mean))
    reconstruction = functional.binary_cross_entropy_with_logits(logits, x, reduction='sum')
    kl = 0.5 * (mean.square() + std.square() - 1).sum() - log_std.sum()
    optimizer.zero_grad(set_to_none=True)
    ((reconstruction + kl) / 100).backward()
    optimizer.step()

  def rate(optimizer, seconds: float, steps: int = 0) -> float:
    done, started = 0, time.perf_counter()
    while done < steps or time.perf_counter() - started < seconds:
      step(optimizer)
      done += 1
    return 100 * done / (time.perf_counter() - started)

  forms = {'default': {}, 'foreach': {'foreach': True}, 'fused': {'fused': True}}
  optimizers = {name: torch.optim.Adam(params, lr=1e-3, **form) for name, form in forms.items()}
  rates = {name: rate(optimizer, 0.5, WARM_UP_STEPS) for name, optimizer in (*optimizers.items(), *optimizers.items())}
  best = max(rates, key=rates.get)
  about = {'versions': {'torch': torch.__version__}, 'fastest_adam': best}
  forms = {'default': optimizers['default'], 'fastest': optimizers[best]}
  return about, lambda form, seconds: rate(forms[form], seconds)


def _arguments():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--torch_python', default=sys.executable, help='an interpreter that has PyTorch')
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--seconds', type=float, default=5.0, help='of one side in one round')
  parser.add_argument('--threads', type=int, default=2, help='cores that both sides are held to')
  parser.add_argument('--record', action='store_true', help='write the figures into --results')
  parser.add_argument('--results', default=str(ROOT / 'results'))
  parser.add_argument('--side', choices=('jax', 'torch'), help=argparse.SUPPRESS)
  parser.add_argument('--data', help=argparse.SUPPRESS)
  return parser.parse_args()


if __name__ == '__main__':
  main()
