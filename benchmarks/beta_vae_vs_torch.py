"""Speed of the convolutional beta-VAE on 64x64 sprites: dgm_jax's own step, its bare convolutions, PyTorch eager.

Usage: python benchmarks/beta_vae_vs_torch.py --torch_python=PATH [--rounds=5] [--seconds=5] [--threads=2] [--record]

A step is that of configs/disentangle.py:beta_conv, batch 64: four convolutions, four transposed ones, Adam. dgm_jax
draws its images inside the step; PyTorch picks them from an array of 20,000 that were drawn before. The bare
convolutions are those eight layers alone, forward and backward, each a program of its own. All three live in processes
of their own, on the same cores, and are timed in turn. On an accelerator, name a PyTorch that sees it.
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

ROOT = Path(__file__).resolve().parents[1]
CONFIG = 'configs/disentangle.py:beta_conv'
SIDES = ('jax', 'convolutions', 'torch')
IMAGES = 20_000


def main() -> None:
  args = _arguments()
  if args.side:
    if args.threads:
      os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    _serve(*{'jax': _jax, 'convolutions': _convolutions, 'torch': _torch}[args.side](args))
    return
  with tempfile.TemporaryDirectory() as folder:
    args.data = f'{folder}/sprites.npy'
    page = compare(args)
  print(json.dumps(page, indent=2))
  if args.record:
    target = Path(args.results) / 'bench_beta_vae_vs_torch.json'
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(page, indent=2) + '\n')
    print(f'record: {target}')


def compare(args) -> dict:
  """Times the sides in turn; all rates are steps/s."""
  children, about = {}, {}
  for side in SIDES:  # the first writes the images
    python = args.torch_python if side == 'torch' else sys.executable
    command = [python, __file__, f'--side={side}', f'--data={args.data}', f'--threads={args.threads}']
    children[side] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    about[side] = _answer(children[side])
  rates = {side: [] for side in SIDES}
  for _ in range(args.rounds):
    for side, child in children.items():
      print(args.seconds, file=child.stdin, flush=True)
      rates[side].append(_answer(child)['steps_per_second'])
  for child in children.values():
    child.stdin.close()
    child.wait()
  middle = {side: statistics.median(rates[side]) for side in SIDES}
  return {
    'what': 'convolutional beta-VAE on 64x64 sprites, batch 64, training steps/s, all sides in turn on the same cores',
    'config': CONFIG,
    'threads': args.threads,
    'ratio': middle['jax'] / middle['torch'],
    'ratio_of_each_round': [round(a / b, 3) for a, b in zip(rates['jax'], rates['torch'], strict=True)],
    'time_over_bare_convolutions': middle['convolutions'] / middle['jax'],
    'time_over_bare_convolutions_of_each_round': [
      round(a / b, 3) for a, b in zip(rates['convolutions'], rates['jax'], strict=True)
    ],
    **{
      side: {'steps_per_second': middle[side], 'spread': [min(rates[side]), max(rates[side])]} | about[side]
      for side in SIDES
    },
  }


def _answer(child) -> dict:
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


def _rate(step, seconds: float, wait=lambda value: None, each: int = 1) -> float:
  """Steps/s of `step()`, which makes `each` of them and may run ahead by one call."""
  done, before, started = 0, None, time.perf_counter()
  while time.perf_counter() - started < seconds:
    value = step()
    wait(before)
    before, done = value, done + each
  wait(before)
  return done / (time.perf_counter() - started)


def _prepared():
  """The experiment, with one step a call on a CPU, where convolutions in a loop are slow."""
  sys.path.insert(0, str(ROOT))
  import jax

  from dgm_jax import parallel, studies

  parallel.start()
  config = studies.settings('disentanglement', 'beta_conv')
  config.steps_per_call = 1 if jax.default_backend() == 'cpu' else 100
  config.update({'log_every': 0, 'eval_every': 0, 'save_every': 0, 'picture_every': 0})
  return config


def _about() -> dict:
  from dgm_jax import workdir

  environment = workdir.environment()
  return {'device': environment['device'], 'versions': environment['versions'], 'commit': environment['commit']}


def _jax(args):
  """What the training loop calls, `fit.compiled_call`, with the order of the examples made on the host."""
  config = _prepared()
  import jax
  import numpy as np

  from dgm_jax import fit

  run = fit.prepare(config, Path(args.data).parent / 'run')
  call, (state, at), train = fit.compiled_call(run), fit.start(run), run.splits['train']
  drawn = [np.asarray(jax.jit(train.fetch)(run.arrays, np.arange(i, i + 1000))['x']) for i in range(0, IMAGES, 1000)]
  np.save(args.data, np.concatenate(drawn))

  def step():
    nonlocal state, at
    state, metrics = call(state, np.uint32(0), run.arrays, fit.indices(run, at, config.steps_per_call))
    at += config.steps_per_call
    return metrics

  return _about(), lambda seconds: _rate(step, seconds, jax.block_until_ready, config.steps_per_call)


def _convolutions(args):
  """The eight layers, forward and backward, one after another."""
  del args
  config = _prepared()
  import flax.linen as nn
  import jax
  import jax.numpy as jnp

  from dgm_jax.nn.blocks import TransposedConv

  channels = tuple(config.model.channels)
  layers = [(nn.Conv(width, (4, 4), (2, 2)), size) for width, size in zip(channels, (64, 32, 16, 8), strict=True)]
  inputs = (1, *channels[:-1])
  up = [TransposedConv(width) for width in (*channels[:-1][::-1], 1)]
  shapes = [(64, size, size, depth) for (_, size), depth in zip(layers, inputs, strict=True)]
  shapes += [(64, size, size, depth) for size, depth in zip((4, 8, 16, 32), channels[::-1], strict=True)]
  programs = []
  for number, (layer, shape) in enumerate(zip([layer for layer, _ in layers] + up, shapes, strict=True)):
    x = jax.random.normal(jax.random.key(number), shape)
    params = layer.init(jax.random.key(number), x)

    def both(params, x, layer=layer, wanted=(0,) if number == 0 else (0, 1)):
      out, back = jax.vjp(lambda *given: layer.apply(*given), params, x)
      return out, [part for i, part in enumerate(back(jnp.ones_like(out))) if i in wanted]

    programs.append((jax.jit(both), params, x))

  def step():
    return [program(params, x) for program, params, x in programs]

  return _about(), lambda seconds: _rate(step, seconds, jax.block_until_ready)


def _torch(args):
  """The same network and step as one writes it in PyTorch."""
  import numpy as np
  import torch
  from torch import nn
  from torch.nn import functional

  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  if args.threads:
    torch.set_num_threads(args.threads)
  images = torch.from_numpy(np.load(args.data)).permute(0, 3, 1, 2).contiguous().to(device)
  down = lambda a, b: [nn.Conv2d(a, b, 4, 2, 1), nn.ReLU()]
  up = lambda a, b: [nn.ConvTranspose2d(a, b, 4, 2, 1), nn.ReLU()]
  encoder = nn.Sequential(
    *down(1, 32), *down(32, 32), *down(32, 64), *down(64, 64), nn.Flatten(), nn.Linear(1024, 256), nn.ReLU(),
    nn.Linear(256, 20),
  ).to(device)  # fmt: skip
  decoder = nn.Sequential(
    nn.Linear(10, 256), nn.ReLU(), nn.Linear(256, 1024), nn.ReLU(), nn.Unflatten(1, (64, 4, 4)), *up(64, 64),
    *up(64, 32), *up(32, 32), nn.ConvTranspose2d(32, 1, 4, 2, 1),
  ).to(device)  # fmt: skip
  weights = [*encoder.parameters(), *decoder.parameters()]

  def trainer(**form):
    adam = torch.optim.Adam(weights, lr=1e-4, **form)

    def step():
      x = images[torch.randint(len(images), (64,), device=device)].float() / 255
      mean, logvar = encoder(x).chunk(2, 1)
      logits = decoder(mean + torch.randn_like(mean) * (0.5 * logvar).exp())
      lost = functional.binary_cross_entropy_with_logits(logits, x, reduction='sum') / 64
      kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(1).mean()
      adam.zero_grad(set_to_none=True)
      (lost + 4 * kl).backward()
      adam.step()

    return step

  wait = (lambda value: torch.cuda.synchronize()) if device == 'cuda' else (lambda value: None)
  forms = {name: trainer(**{name: True}) for name in ('foreach', 'fused')}
  found = {name: _rate(step, 1.0, wait) for name, step in (*forms.items(), *forms.items())}
  best = max(found, key=found.get)
  about = {'versions': {'torch': torch.__version__}, 'fastest_adam': best, 'device': device}
  return about, lambda seconds: _rate(forms[best], seconds, wait)


def _arguments():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--torch_python', default=sys.executable, help='an interpreter that has PyTorch')
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--seconds', type=float, default=5.0, help='of one side in one round')
  parser.add_argument('--threads', type=int, default=2, help='cores that all sides are held to; 0: all')
  parser.add_argument('--record', action='store_true', help='write the figures into --results')
  parser.add_argument('--results', default=str(ROOT / 'results'))
  parser.add_argument('--side', choices=SIDES, help=argparse.SUPPRESS)
  parser.add_argument('--data', help=argparse.SUPPRESS)
  return parser.parse_args()


if __name__ == '__main__':
  main()
