"""Memory and time of runs whose data are larger than the memory: a sparse array of 200 GB, 200,000 pictures in folders.

Usage: python benchmarks/large_data.py [--bytes=200e9] [--pictures=200000] [--folder=DIR] [--record]

Each set is trained on by `train.py` with a small VQ-VAE-2 at 64x64, asked to end after some steps, and taken up again,
which ends with measurements of `config.eval_examples` examples of two parts. For each start: seconds from the start of
Python to the first finished step, compilation included; seconds in which names and headers were read; the greatest
resident memory of the process (VmHWM). The array has holes alone, which cost no disk. The pictures are JPEGs of smooth
noise in 1,000 folders; rows that were decoded are kept in the same temporary folder.
"""

import argparse
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
SIDE, CLASSES, STEPS, STOP_AFTER = 64, 1000, 400, 5.0
FLAGS = (
  '--config=vqvae2_cifar10:tiny', f'--config.steps={STEPS}', '--config.batch_size=32', '--config.steps_per_call=1',
  '--config.log_every=20', f'--config.eval_every={STEPS}', f'--config.save_every={STEPS}', '--config.picture_every=0',
  '--config.eval_examples=500', '--config.log.tensorboard=False', '--config.init_examples=256',
)  # fmt: skip
# Runs a program with the words after it, and says how large the process was.
CHILD = """
import runpy, sys, time
from dgm_jax.runs import workdir
load = workdir.with_data
def timed(*args):
  started = time.perf_counter()
  found = load(*args)
  print(f'headers: {time.perf_counter() - started:.3f} s', flush=True)
  return found
workdir.with_data = timed
sys.argv = sys.argv[1:]
try:
  runpy.run_path(sys.argv[0], run_name='__main__')
finally:
  peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))
  print('peak kB:', peak.split()[1], flush=True)
"""


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--bytes', type=float, default=200e9, help='of the sparse array; 0: none')
  parser.add_argument('--pictures', type=int, default=200_000, help='0: none')
  parser.add_argument('--folder', default='', help='where the pictures lie, or are to be made; empty: a temporary one')
  parser.add_argument('--record', action='store_true', help='write the figures into --results')
  parser.add_argument('--results', default=str(ROOT / 'results'))
  args = parser.parse_args()
  page = {'what': 'training on data larger than the memory: memory of the process, and time to the first step'}
  with tempfile.TemporaryDirectory() as folder:
    os.environ['DGM_JAX_CACHE'] = f'{folder}/cache'
    if args.bytes:
      page['sparse_array'] = {'bytes': int(args.bytes)} | trained(folder, f'npy:{sparse(folder, int(args.bytes))}')
      print(json.dumps(page['sparse_array']), flush=True)
    if args.pictures:
      pictures = Path(args.folder or f'{folder}/pictures')
      if not pictures.is_dir():
        draw(pictures, args.pictures)
      page['pictures'] = {'pictures': args.pictures} | trained(folder, f'folder:{pictures}')
      print(json.dumps(page['pictures']), flush=True)
  from dgm_jax.runs import workdir

  environment = workdir.environment()
  page |= {name: environment[name] for name in ('device', 'versions', 'commit')}
  if args.record:
    target = Path(args.results) / 'bench_large_data.json'
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(page, indent=2) + '\n')
    print(f'record: {target}')


def sparse(folder: str, size: int) -> Path:
  """An array of uint8 pictures without contents."""
  path = Path(folder, 'sparse.npy')
  with path.open('wb') as file:
    shape = (size // (3 * SIDE**2), SIDE, SIDE, 3)
    np.lib.format.write_array_header_1_0(file, {'descr': '|u1', 'fortran_order': False, 'shape': shape})
    file.truncate(file.tell() + int(np.prod(shape)))
  return path


def draw(folder: Path, count: int) -> None:
  """JPEGs of smooth noise in `CLASSES` folders."""
  from PIL import Image

  contents = []
  for seed in range(64):
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(file, 'JPEG', quality=90)
    contents.append(file.getvalue())
  for number in range(min(CLASSES, count)):
    (folder / f'class_{number:04d}').mkdir(parents=True)
  for number in range(count):
    (folder / f'class_{number % CLASSES:04d}' / f'{number:07d}.jpg').write_bytes(contents[number % len(contents)])


def trained(folder: str, name: str) -> dict:
  """Trains until asked to end, and from there to the end."""
  run = f'{folder}/run_{name.partition(":")[0]}'
  words = [sys.executable, '-c', CHILD, 'train.py', *FLAGS, f'--config.data.name={name}', f'--workdir={run}']
  return {'start': started(words, STOP_AFTER), 'taken_up_again': started(words)}


def started(words: list[str], stop_after: float = 0) -> dict:
  """One start: it gets SIGTERM so many seconds after its first step; 0: it goes on to the end."""
  begun, first, said, figures = time.perf_counter(), 0.0, [], {}
  child = subprocess.Popen(
    words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    env=os.environ | {'PYTHONPATH': str(ROOT), 'PYTHONUNBUFFERED': '1'},
  )  # fmt: skip
  for line in child.stdout:
    said.append(line)
    if line.startswith('headers: '):
      figures['seconds_of_names_and_headers'] = float(line.split()[1])
    if line.startswith('first call ') and not first:
      first = figures['seconds_to_first_step'] = time.perf_counter() - begun
      times = Path(f'/proc/{child.pid}/stat').read_text().rpartition(')')[2].split()
      figures['cpu_seconds_to_first_step'] = sum(map(int, times[11:13])) / os.sysconf('SC_CLK_TCK')
      if stop_after:
        time.sleep(stop_after)
        status = Path(f'/proc/{child.pid}/status').read_text().split()
        figures['peak_memory_mb'] = int(status[status.index('VmHWM:') + 1]) / 1024
        child.send_signal(signal.SIGTERM)
    if line.startswith('peak kB: '):
      figures['peak_memory_mb'] = int(line.split()[2]) / 1024
    if line.startswith('data: ') and 'on the' in line:
      figures['placement'] = line.strip()
    if line.startswith('ending early'):
      figures['ended'] = line.strip()
    if '  valid  ' in line or '  test  ' in line:
      figures['measured'] = figures.get('measured', 0) + 1
  if child.wait() not in (0, 143) or not first:
    sys.exit('error: a run failed: ' + ''.join(said[-20:]))
  return figures | {'seconds': time.perf_counter() - begun}


if __name__ == '__main__':
  main()
