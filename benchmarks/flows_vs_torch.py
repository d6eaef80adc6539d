"""Training speed of RealNVP, in the plane and on MNIST: dgm_jax's own training step against normflows and nflows.

Usage: python benchmarks/flows_vs_torch.py --torch_python=PATH [--rounds=5] [--seconds=5] [--threads=2] [--record]

The plane: 8 affine couplings with networks 1-64-64-2, ReLU, batch 512. MNIST: 8 affine couplings of halves of 392, with
networks 392-H-H-784, batch 200, pixels dequantized and through the logit; H is 64, where what is not arithmetic weighs
most, 256, and 512, where all sides do little else than multiply matrices. Adam, in PyTorch the fastest of its forms,
chosen before. Everything that a step needs is timed: the batch drawn from the whole set, noise, forward, backward,
optimizer. The sides live in processes of their own, on the same cores, and are timed in turn. --torch_python names an
interpreter that has torch, normflows and nflows; it needs nothing of dgm_jax.
"""

import argparse
import functools
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
WIDTHS = (64, 256, 512)
PLANE, MNIST = ('flow_toy', 'realnvp_ring'), ('realnvp_mnist', 'fast')
TASKS = {'plane': PLANE} | {f'mnist_{width}': MNIST for width in WIDTHS}
SIZES = {'plane': (2, 64, 512)}  # dimensions, hidden units, batch
SIZES |= {f'mnist_{width}': (784, width, 200) for width in WIDTHS}
TURNS = (('jax', 'jax'), ('torch', 'normflows'), ('torch', 'nflows'))


def main() -> None:
  args = _arguments()
  if args.side:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    _serve(*{'jax': _jax, 'torch': _torch}[args.side](args))
    return
  with tempfile.TemporaryDirectory() as folder:
    args.data = folder
    page = compare(args)
  print(json.dumps(page, indent=2))
  if args.record:
    target = Path(args.results) / 'bench_flows_vs_torch.json'
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(page, indent=2) + '\n')
    print(f'record: {target}')


def compare(args) -> dict:
  """Times the sides in turn; all rates are training steps/s."""
  sides, about = {}, {}
  for side, python in (('jax', sys.executable), ('torch', args.torch_python)):  # the first writes the data
    command = [python, __file__, f'--side={side}', f'--data={args.data}', f'--threads={args.threads}']
    sides[side] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    about[side] = in_turn.answer(sides[side])
  page = {
    'what': 'RealNVP training steps/s in the plane and on MNIST, all sides in turn on the same cores',
    'config': ', '.join(f'configs/{name}.py:{variant}' for name, variant in (PLANE, MNIST)),
    'threads': args.threads,
  }
  for task in TASKS:
    rates = {name: [] for _, name in TURNS}
    for _ in range(args.rounds):
      for side, name in TURNS:
        print(name, task, args.seconds, file=sides[side].stdin, flush=True)
        rates[name].append(in_turn.answer(sides[side])['steps_per_second'])
    page[task] = {'hidden': [SIZES[task][1]] * 2} | _summary(rates)
  for child in sides.values():
    child.stdin.close()
    child.wait()
  return page | {'about': about}


def _summary(rates: dict[str, list[float]]) -> dict:
  median = {name: statistics.median(values) for name, values in rates.items()}
  ratios = {f'ratio_to_{name}': median['jax'] / median[name] for name in ('normflows', 'nflows')}
  each = [round(ours / max(a, b), 3) for ours, a, b in zip(*rates.values(), strict=True)]
  faster = {'ratio_to_the_faster': min(ratios.values()), 'ratio_of_each_round': each}
  return faster | ratios | {'steps_per_second': median}


def _serve(about: dict, train) -> None:
  """Answers each line 'NAME TASK SECONDS' on stdin by training for about so long."""
  print(json.dumps(about), flush=True)
  for line in sys.stdin:
    name, task, seconds = line.split()
    print(json.dumps({'steps_per_second': train(name, task, float(seconds))}), flush=True)


def _jax(args):
  """What the training loop calls, `training.compile_call`, with the order of the examples made on the host."""
  sys.path.insert(0, str(ROOT))
  import importlib

  import jax
  import numpy as np

  from dgm_jax import training
  from dgm_jax.runs import workdir
  from dgm_jax.runtime import cluster

  cluster.start()
  ready = {}
  for task, (name, variant) in TASKS.items():
    config = importlib.import_module(f'configs.{name}').get_config(variant)
    config.model.network.hidden = (SIZES[task][1],) * 2
    run = training.prepare(config, Path(args.data) / task)
    np.save(f'{args.data}/{task}.npy', run.splits['train'].arrays['x'].reshape(run.splits['train'].size, -1))
    ready[task] = [run, training.compile_call(run), training.start(run)[0], 0]

  def train(name: str, task: str, seconds: float) -> float:
    del name  # there is one
    run, call, state, step = ready[task]
    first, metrics, size, started = step, None, run.config.steps_per_call, time.perf_counter()
    while time.perf_counter() - started < seconds:
      before, (state, metrics) = metrics, call(state, np.uint32(0), run.arrays, training.indices(run, step, size))
      jax.block_until_ready(before)  # one call behind, as in `training.train`
      step += size
    jax.block_until_ready(metrics)
    ready[task][2:] = [state, step]
    return (step - first) / (time.perf_counter() - started)

  for task in TASKS:
    train('jax', task, 0.5)
  environment = workdir.environment()
  return {'device': environment['device'], 'versions': environment['versions'], 'commit': environment['commit']}, train


def _torch(args):
  """The same couplings as the two libraries have them."""
  import importlib.metadata

  import numpy as np
  import torch

  torch.set_num_threads(args.threads)

  def prepared(x):
    if x.dtype != torch.uint8:
      return x
    x = 1e-6 + (1 - 2e-6) * (x.float() + torch.rand(x.shape)) / 256
    return torch.log(x) - torch.log1p(-x)

  def trainer(data, batch, model, log_prob, **form):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, **form)

    def step():
      x = prepared(data[torch.randint(len(data), (batch,))])
      optimizer.zero_grad(set_to_none=True)
      (-log_prob(x).mean()).backward()
      optimizer.step()

    return step

  builders = {'normflows': _normflows, 'nflows': _nflows}
  ready = {}
  for task, (dims, hidden, batch) in SIZES.items():
    data = torch.from_numpy(np.load(f'{args.data}/{task}.npy'))
    for name, build in builders.items():
      ready[name, task] = in_turn.fastest(functools.partial(trainer, data, batch, *build(dims, hidden)), 'cpu')
  versions = {name: importlib.metadata.version(name) for name in ('torch', 'normflows', 'nflows')}
  adams = {f'{name}, {task}': about['fastest_adam'] for (name, task), (about, _) in ready.items()}
  train = lambda name, task, seconds: ready[name, task][1](seconds)
  return {'versions': versions, 'fastest_adam': adams}, train


def _normflows(dims: int, hidden: int):
  import normflows as nf

  layers = []
  for _ in range(8):
    network = nf.nets.MLP([dims // 2, hidden, hidden, dims], init_zeros=True)
    layers += [nf.flows.AffineCouplingBlock(network), nf.flows.Permute(dims, mode='swap')]
  model = nf.NormalizingFlow(nf.distributions.base.DiagGaussian(dims), [*layers, nf.flows.ActNorm(dims)])
  return model, model.log_prob


def _nflows(dims: int, hidden: int):
  import torch
  from nflows.distributions.normal import StandardNormal
  from nflows.flows.base import Flow
  from nflows.transforms import ActNorm, AffineCouplingTransform, CompositeTransform
  from torch import nn

  def network(inputs: int, outputs: int) -> nn.Module:
    layers = nn.Sequential(
      nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )
    return _Contextless(layers)

  class _Contextless(nn.Module):
    """nflows hands its networks a context, which is None here."""

    def __init__(self, layers):
      super().__init__()
      self.layers = layers

    def forward(self, x, context=None):
      return self.layers(x)

  masks = [(torch.arange(dims) + i) % 2 for i in range(8)]
  couplings = [AffineCouplingTransform(mask, network) for mask in masks]
  flow = Flow(CompositeTransform([ActNorm(dims), *couplings]), StandardNormal([dims]))
  return flow, flow.log_prob


def _arguments():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--torch_python', default=sys.executable, help='an interpreter that has torch and both libraries')
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--seconds', type=float, default=5.0, help='of one side in one round')
  parser.add_argument('--threads', type=int, default=2, help='cores that all sides are held to')
  parser.add_argument('--record', action='store_true', help='write the figures into --results')
  parser.add_argument('--results', default=str(ROOT / 'results'))
  parser.add_argument('--side', choices=('jax', 'torch'), help=argparse.SUPPRESS)
  parser.add_argument('--data', help=argparse.SUPPRESS)
  return parser.parse_args()


if __name__ == '__main__':
  main()
