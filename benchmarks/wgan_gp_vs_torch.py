"""Training speed of WGAN-GP on 25 normals: dgm_jax's own training step against PyTorch in eager mode.

Usage: python benchmarks/wgan_gp_vs_torch.py --torch_python=PATH [--rounds=5] [--seconds=5] [--threads=2] [--record]

A step is one turn of the game: five moves of the critic, each with a gradient penalty and 256 points of its own, and
one of the generator. Networks have three layers of 512 (the paper's) or 128 units; Adam. Both sides draw their points
from the whole training set, and everything that a step needs is timed. PyTorch is timed twice: as it is usually
written, with Adam as it comes and a pass of the critic each for real and generated points; and in the fastest of the
forms (Adam as it comes, foreach or fused, two passes or one), chosen before. The sides live in processes of their own,
on the same cores, and are timed in turn. --torch_python names an interpreter that has PyTorch; it needs nothing of
dgm_jax.
"""

import argparse
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
CONFIG = 'configs/wgan_gp_25gaussians.py'
WIDTHS = ('512', '128')
TURNS = (('jax', 'jax'), ('torch', 'usual'), ('torch', 'fastest'))  # process, form


def main() -> None:
  args = _arguments()
  if args.side:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    _serve(*{'jax': _jax, 'torch': _torch}[args.side](args))
    return
  with tempfile.TemporaryDirectory() as folder:
    args.data = f'{folder}/points.npy'
    page = compare(args)
  print(json.dumps(page, indent=2))
  if args.record:
    target = Path(args.results) / 'bench_wgan_gp_vs_torch.json'
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(page, indent=2) + '\n')
    print(f'record: {target}')


def compare(args) -> dict:
  """Times the two sides in turn; all rates are turns/s."""
  sides, about = {}, {}
  for side, python in (('jax', sys.executable), ('torch', args.torch_python)):  # the first writes the data
    command = [python, __file__, f'--side={side}', f'--data={args.data}', f'--threads={args.threads}']
    sides[side] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    about[side] = in_turn.answer(sides[side])
  rates = {(form, width): [] for width in WIDTHS for _, form in TURNS}
  for _ in range(args.rounds):
    for width in WIDTHS:
      for side, form in TURNS:
        print(form, width, args.seconds, file=sides[side].stdin, flush=True)
        rates[form, width].append(in_turn.answer(sides[side])['turns_per_second'])
  for child in sides.values():
    child.stdin.close()
    child.wait()
  page = {
    'what': 'WGAN-GP on 25 normals, 5 critic moves of 256 points and one of the generator, turns/s, in turn',
    'config': CONFIG,
    'threads': args.threads,
  }
  for width in WIDTHS:
    found = {form: rates[form, width] for _, form in TURNS}  # turns/s of each round
    page[f'width_{width}'] = {
      form: {'turns_per_second': statistics.median(rates), 'spread': [min(rates), max(rates)]}
      for form, rates in found.items()
    }
    for form in ('usual', 'fastest'):
      page[f'width_{width}'] |= _ratios(form, found['jax'], found[form])
  return page | about


def _ratios(form: str, ours: list[float], other: list[float]) -> dict:
  return {
    f'ratio_to_the_{form}': statistics.median(ours) / statistics.median(other),
    f'ratio_to_the_{form}_of_each_round': [round(a / b, 3) for a, b in zip(ours, other, strict=True)],
  }


def _serve(about: dict, train) -> None:
  """Answers each line 'FORM WIDTH SECONDS' on stdin by training for about so long."""
  for width in WIDTHS:
    train('usual', width, 0.5)
  print(json.dumps(about), flush=True)
  for line in sys.stdin:
    form, width, seconds = line.split()
    print(json.dumps({'turns_per_second': train(form, width, float(seconds))}), flush=True)


def _jax(args):
  """What the training loop calls, `training.compile_call`, with the order of the examples made on the host."""
  sys.path.insert(0, str(ROOT))
  import jax
  import numpy as np

  from configs import wgan_gp_25gaussians
  from dgm_jax import training
  from dgm_jax.runs import workdir
  from dgm_jax.runtime import cluster

  cluster.start()
  runs = {}
  for width in WIDTHS:
    config = wgan_gp_25gaussians.get_config()
    config.model.generator.hidden = config.model.critic.hidden = (int(width),) * 3
    config.steps_per_call = {'128': 100, '512': 10}[width]
    run = training.prepare(config, Path(args.data).parent / f'run_{width}')
    runs[width] = [run, training.compile_call(run), training.start(run)[0], 0]
  np.save(args.data, run.splits['train'].arrays['x'])

  def train(form: str, width: str, seconds: float) -> float:
    del form  # there is one
    run, call, state, step = runs[width]
    first, started, metrics = step, time.perf_counter(), None
    size = run.config.steps_per_call
    while time.perf_counter() - started < seconds:
      order = training.indices(run, step, size)
      before, (state, metrics) = metrics, call(state, np.uint32(0), run.arrays, order)
      jax.block_until_ready(before)  # one call behind, as in `training.train`
      step += size
    jax.block_until_ready(metrics)
    runs[width][2:] = state, step
    return (step - first) / (time.perf_counter() - started)

  environment = workdir.environment()
  return {'device': environment['device'], 'versions': environment['versions'], 'commit': environment['commit']}, train


def _torch(args):
  """The same game as one writes it in PyTorch."""
  import numpy as np
  import torch
  from torch import nn

  torch.set_num_threads(args.threads)
  points = torch.from_numpy(np.load(args.data))

  def mlp(width: int, features: int) -> nn.Module:
    hidden = [nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(width, features))

  def game(width: int, together: bool, **form):
    generator, critic = mlp(width, 2), mlp(width, 1)
    adam = lambda network: torch.optim.Adam(network.parameters(), lr=1e-4, betas=(0.5, 0.9), **form)
    for_generator, for_critic = adam(generator), adam(critic)

    def turn() -> None:
      for parameter in critic.parameters():
        parameter.requires_grad_(True)
      for _ in range(5):
        real = points[torch.randint(len(points), (256,))]
        with torch.no_grad():
          fake = generator(torch.randn(256, 2))
        mix = torch.rand(256, 1)
        between = (mix * real + (1 - mix) * fake).requires_grad_(True)
        (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
        penalty = (slope.norm(dim=1) - 1).square().mean()
        if together:
          of_fake, of_real = critic(torch.cat([fake, real])).chunk(2)
        else:
          of_fake, of_real = critic(fake), critic(real)
        loss = of_fake.mean() - of_real.mean() + 0.1 * penalty
        for_critic.zero_grad(set_to_none=True)
        loss.backward()
        for_critic.step()
      for parameter in critic.parameters():
        parameter.requires_grad_(False)
      for_generator.zero_grad(set_to_none=True)
      (-critic(generator(torch.randn(256, 2))).mean()).backward()
      for_generator.step()

    return turn

  forms, games = {}, {}
  for width in WIDTHS:
    found = {
      f'{name}{", one pass" if together else ""}': game(int(width), together, **form)
      for name, form in in_turn.ADAMS.items()
      for together in (False, True)
    }
    rates = {name: in_turn.rate(turn, 1.0) for name, turn in (*found.items(), *found.items())}
    forms[width] = max(rates, key=rates.get)
    games['usual', width], games['fastest', width] = game(int(width), together=False), found[forms[width]]
  about = {'versions': {'torch': torch.__version__}, 'fastest_form': forms}
  return about, lambda form, width, seconds: in_turn.rate(games[form, width], seconds)


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
