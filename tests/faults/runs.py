"""Runs of `train.py` in processes of their own, on the tiny digits, and what they leave."""

import os
import pathlib
import subprocess
import sys
import tempfile

import jax
import numpy as np

from dgm_jax import config as experiment
from dgm_jax.runs import checkpoint, workdir

ROOT = pathlib.Path(__file__).parents[2]
STEPS, SAVE_EVERY = 240, 40
FLAGS = (
  '--config=configs/vae_digits.py:tiny', f'--config.steps={STEPS}', '--config.log_every=4', '--config.eval_every=40',
  f'--config.save_every={SAVE_EVERY}', '--config.picture_every=80', '--config.eval_batch_size=2', '--config.keep=3',
  '--config.best=neg_elbo_nats', '--config.log.tensorboard=False',
)  # fmt: skip


def environment(devices: int = 1, **changes) -> dict[str, str]:
  return os.environ | {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': str(devices)} | changes


def start(folder, *flags, child=(), devices=1, **changes) -> subprocess.Popen:
  """Starts a run; with `child=(phase, occasion, delay, signal)` one that a signal comes to."""
  program = ['tests/faults/child.py', *map(str, child), '--'] if child else ['train.py']
  words = [sys.executable, *program, *FLAGS, f'--workdir={folder}', *flags]
  # To files: a pipe that nobody reads would hold the process up.
  out, err = (tempfile.TemporaryFile('w+') for _ in range(2))  # noqa: SIM115
  process = subprocess.Popen(words, cwd=ROOT, env=environment(devices, **changes), stdout=out, stderr=err, text=True)
  process.files = out, err
  return process


def finish(process: subprocess.Popen, timeout: float = 300) -> tuple[int, str, str]:
  """Waits for the end: exit code, stdout, stderr."""
  code = process.wait(timeout)
  texts = []
  for file in process.files:
    file.seek(0)
    texts.append(file.read())
    file.close()
  return code, *texts


def complete(folder, *flags, **options) -> str:
  """Runs to the end; returns what was said."""
  code, out, err = finish(start(folder, *flags, **options))
  assert code == 0, err
  return out


def newest(folder) -> int:
  """The last committed step, 0 for none."""
  return max(checkpoint.steps(folder), default=0)


def final_state(folder):
  state = workdir.open_subject(folder, '', config=experiment.load(folder)).state
  return jax.tree.map(np.asarray, state)


def same(folder, other) -> bool:
  """Whether two runs ended with the same bits, and wrote the same figures."""
  equal = jax.tree.all(jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), final_state(folder), final_state(other)))
  return equal and figures(folder) == figures(other)


def figures(folder) -> bytes:
  return (pathlib.Path(folder) / 'metrics.jsonl').read_bytes()
