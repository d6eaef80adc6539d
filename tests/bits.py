"""Whether experiments compute the bits that they computed at another commit.

python tests/bits.py COMMIT [--jobs=2] [--only=TEXT] [--small]

Trains twenty steps of every tiny experiment here and at COMMIT (in a worktree that is removed afterwards), and compares
the fingerprints that their checkpoints hold. --small adds one larger experiment a family, which needs the data sets.
Programs are compiled quickly: set JAX_DISABLE_MOST_OPTIMIZATIONS=0 to compare those that a run has.
"""

import argparse
import concurrent.futures
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]
STEPS = 20
SMALL = (
  'dcgan_mnist:small', 'disentangle:factor_small', 'gated_pixelcnn:small', 'glow_cifar10:fast', 'iwae_mnist:1x5',
  'vqvae2_cifar10:small', 'revnet_cifar10:revnet_small', 'improved_gan_mnist:',
)  # fmt: skip


def variants(folder: pathlib.Path) -> list[str]:
  """'vae_mnist:tiny' and all others that the configs of a tree have for tests."""
  names = []
  for path in sorted((folder / 'configs').glob('[a-z]*.py')):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    names += [f'{path.stem}:{variant}' for variant in getattr(module, 'TINY', ('tiny',))]
  return names


def bits(folder: pathlib.Path, name: str) -> dict[str, str]:
  """The fingerprint of each part of the state after the steps; 'error' where they could not be made."""
  stem, variant = name.split(':')
  never = [f'--config.{key}_every={0 if key != "save" else STEPS}' for key in ('log', 'eval', 'picture', 'save')]
  alone = ['--config.steps_per_call=1'] if name in SMALL else []
  # A warm-up longer than the run is refused.
  alone += ['--config.optimizer.model.warmup_steps=10'] * (name == 'glow_cifar10:fast')
  env = os.environ | {'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(folder)}
  env.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
  with tempfile.TemporaryDirectory(prefix='bits-') as run:
    flags = [f'--config=configs/{stem}.py' + f':{variant}' * bool(variant), f'--workdir={run}/run']
    flags += [f'--config.steps={STEPS}', '--config.log.tensorboard=False', *never, *alone]
    command = [sys.executable, 'train.py', *flags]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    pages = list(pathlib.Path(run).glob(f'run/checkpoints/{STEPS}/meta/metadata'))
    if done.returncode or not pages:
      return {'error': done.stderr.strip().splitlines()[-1] if done.stderr.strip() else done.stdout[-200:]}
    return json.loads(pages[0].read_text())['digest']


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('commit')
  parser.add_argument('--jobs', type=int, default=2)
  parser.add_argument('--only', default='')
  parser.add_argument('--small', action='store_true')
  args = parser.parse_args()
  with tempfile.TemporaryDirectory(prefix='bits-tree-') as parent:
    other = pathlib.Path(parent) / 'tree'
    subprocess.run(['git', 'worktree', 'add', '-q', '--detach', other, args.commit], cwd=ROOT, check=True)
    try:
      names = [name for name in (*variants(other), *(SMALL if args.small else ())) if args.only in name]
      with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        pairs = [(name, pool.submit(bits, other, name), pool.submit(bits, ROOT, name)) for name in names]
        alike = [compared(name, old.result(), new.result()) for name, old, new in pairs]
    finally:
      subprocess.run(['git', 'worktree', 'remove', '--force', other], cwd=ROOT, check=True)
  print(f'{sum(alike)} of {len(alike)} experiments have the same bits')
  sys.exit(not all(alike))


def compared(name: str, old: dict[str, str], new: dict[str, str]) -> bool:
  """Whether two experiments are alike, with a line about it."""
  apart = sorted(part for part in {*old, *new} if old.get(part) != new.get(part))
  if 'error' in old or 'error' in new:
    apart = [f'before: {old.get("error", "ran")}; now: {new.get("error", "ran")}']
  print(f'{name}: {"; ".join(apart) if apart else "the same bits"}', flush=True)
  return not apart


if __name__ == '__main__':
  main()
