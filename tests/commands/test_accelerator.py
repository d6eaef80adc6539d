"""The command for an accelerator: tiny items on a CPU, processes that fail, parts that travel."""

import json
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks import accelerator, accelerator_pack, accelerator_page, accelerator_plan, accelerator_side
from benchmarks.accelerator_process import Ended, Process
from dgm_jax.evals import measuring
from dgm_jax.runtime import signals

ROOT = Path(__file__).parents[2]
CHILD = """
import json, os, sys, time
for line in sys.stdin:
  item = json.loads(line)
  if item['name'] == 'crash': os._exit(7)
  if item['name'] == 'hang': time.sleep(60)
  print(json.dumps({'found': item['name']}), flush=True)
"""


class Here:
  """The side's own functions, in this process."""

  def __init__(self, *_):
    pass

  def ask(self, item, seconds):
    return json.loads(json.dumps(accelerator_side.answer(item), default=float))

  def close(self):
    pass


@pytest.fixture
def mended(monkeypatch):
  monkeypatch.setattr(measuring, 'find', lambda subject, names: {'mean.metrics': lambda *_: {'neg_elbo_nats': 1.5}})


def test_tiny_measurements_have_a_line_each(tmp_path, capsys):
  with jax.check_tracer_leaks(False):
    accelerator.main(['--tiny', '--minutes=1', f'--out={tmp_path}', '--record', f'--results={tmp_path / "r"}'], Here)
  lines = [json.loads(line) for line in (tmp_path / 'measurements.jsonl').read_text().splitlines()]
  assert [line['name'] for line in lines] == [item['name'] for item in accelerator_plan.measurements(tiny=True)]
  rates, ours, unknown, theirs = lines
  assert 'torch' in theirs.get('error', '') or theirs['images_per_second'] > 0
  assert min(rates['rates'].values()) > 0
  # 64 pixels, 16 hidden units, 4 latents, 16 images: products forward, and backward but for the first layer's input.
  kernels = ((64, 16), (16, 8), (4, 16), (16, 64))
  assert ours['product_flops_per_step'] == 2 * 16 * sum((3 - (i == 0)) * m * n for i, (m, n) in enumerate(kernels))
  assert ours['parameters'] == sum((m + 1) * n for m, n in kernels)
  assert ours['images_per_second'] == 16 * ours['steps_per_second'] > 0
  assert 'no_such_experiment' in unknown['error']
  (path,) = (tmp_path / 'r').glob('accelerator_*.json')
  page = json.loads(path.read_text())
  assert page == json.loads((tmp_path / path.name).read_text()) and page['device']
  line = page['lines'][1]
  assert line['fraction_of_matrix_product'] == pytest.approx(
    ours['product_flops_per_step'] * ours['steps_per_second'] / rates['rates']['float32']
  )
  assert line['mfu'] is None  # nobody has published a CPU's
  assert accelerator_page.table(page) in capsys.readouterr().out


def test_a_tiny_run_is_trained_measured_and_comes_back(tmp_path, mended):
  out = tmp_path / 'out'
  accelerator.main(['--train', '--tiny', '--minutes=1', f'--out={out}'], Here)
  (line,) = [json.loads(line) for line in (out / 'training.jsonl').read_text().splitlines()]
  assert line['at_published_length'] and line['steps'] == 12 and line['metrics'] == {'neg_elbo_nats': 1.5}, line
  names = accelerator_pack.zipfile.ZipFile(out / 'runs_1.zip').namelist()
  assert {'results/vae_digits_tiny.json', 'vae_digits_tiny/metrics.jsonl'} <= set(names)
  assert len(list(out.iterdir())) <= 8


def test_what_crashes_or_hangs_costs_its_own_line():
  started, lines, opened = time.monotonic(), [], []

  def connect(side):
    opened.append(side)
    return Process(side, None, command=(sys.executable, '-S', '-c', CHILD))

  item = lambda name, side='jax', seconds=0.0: {'name': name, 'side': side, 'seconds': seconds}
  items = [item('a'), item('crash'), item('b', 'torch'), item('c'), item('long', seconds=1000.0), item('d')]
  accelerator.work(items, time.monotonic() + 30, connect, lines.append)
  assert [line.get('found') for line in lines] == ['a', None, 'b', 'c', None, 'd']
  assert 'code 7' in lines[1]['error'] and 'not begun' in lines[4]['error']
  assert opened == ['jax', 'torch', 'jax'] and time.monotonic() - started < 30
  hanging = Process('jax', None, command=(sys.executable, '-S', '-c', CHILD))
  with pytest.raises(Ended, match='without an answer'):
    hanging.ask({'name': 'hang'}, 0.2)
  hanging.close()
  assert hanging.child.returncode < 0


def test_mfu_and_the_comparison_by_hand():
  speed = {
    'name': 'vae', 'kind': 'speed', 'config': 'vae_mnist', 'batch_size': 100, 'dtype': 'float32',
    'steps_per_second': 50.0,
    'images_per_second': 5000.0, 'product_flops_per_step': 1e12, 'compile_seconds': 2.0,
  }  # fmt: skip
  torch = {name: value for name, value in speed.items() if name not in ('product_flops_per_step', 'compile_seconds')}
  torch |= {'kind': 'torch', 'first_step_seconds': 1.0, 'compiled': False, 'images_per_second': 2500.0}
  failed = torch | {'compiled': True, 'error': "ModuleNotFoundError: No module named 'torch'"}
  del failed['images_per_second']
  rates = {'kind': 'rates', 'device': 'NVIDIA H200', 'rates': dict.fromkeys(
    ('bfloat16', 'float32', 'float32_highest', 'copied_bytes'), 1e14)}  # fmt: skip
  page = accelerator_page.summary([rates, speed, torch, failed], 9.0)
  assert page['name'] == 'nvidia_h200'
  ours, theirs = page['lines'][1:3]
  assert ours['mfu'] == pytest.approx(5e13 / 495e12) and ours['fraction_of_matrix_product'] == pytest.approx(0.5)
  assert theirs['mfu'] == pytest.approx(ours['mfu'] / 2)
  table = accelerator_page.table(page)
  assert '| dense VAE | float32 | 5000 | 2500 | - | 2.00 |' in table and "No module named 'torch'" in table


def test_the_page_has_the_records():
  text = (ROOT / 'docs' / 'scaling.md').read_text()
  assert accelerator_page.rendered(text, ROOT / 'results') == text


def test_every_item_is_an_experiment_with_its_changes():
  for item in [*accelerator_plan.measurements(False), *accelerator_plan.runs(False)]:
    if 'changes' in item:
      config = accelerator_side._config(item)
      assert all(config.to_dict()[key] == value for key, value in item['changes'].items() if key == 'steps_per_call')


def test_parts_travel_one_at_a_time(tmp_path, monkeypatch, capsys):
  home, folder = tmp_path / 'home', tmp_path / 'parts'
  (home / 'mnist' / '3.0.1').mkdir(parents=True)
  content = np.random.default_rng(0).bytes(5000)
  (home / 'mnist' / '3.0.1' / 'records').write_bytes(content)
  monkeypatch.setenv('TFDS_DATA_DIR', str(home))
  assert (
    len(accelerator_pack.pack(folder, ('mnist', 'cifar10'))) == 1 and 'cifar10: not here' in capsys.readouterr().out
  )
  parts = accelerator_pack.split(folder, 'mnist', accelerator_pack.archive(home / 'mnist', 'mnist'), 2000)
  assert len(parts) == 3 and max(part.stat().st_size for part in parts) <= 2000
  last = parts[-1].read_bytes()
  parts[-1].unlink()
  assert accelerator_pack.unpack(folder) == [] and 'parts 3 of 3' in capsys.readouterr().out
  parts[-1].write_bytes(last)
  assert accelerator_pack.unpack(folder) == ['mnist']
  assert (folder / 'tfds/mnist/3.0.1/records').read_bytes() == content
  assert accelerator_pack.PART <= 30 * 2**20


def test_wheels_are_of_what_is_missing_there():
  missing = accelerator_pack.missing_there()
  assert {'ml-collections', 'tensorboardx', 'array-record', 'tensorflow-datasets'} <= set(missing)
  assert not {'jax', 'flax', 'numpy', 'orbax-checkpoint', 'optax', 'absl-py'} & set(missing)


def test_what_comes_back_is_small(tmp_path, monkeypatch):
  assert accelerator_pack.MOST <= 16 * 2**20 and accelerator_pack.FILES + 3 <= 8
  monkeypatch.setattr(accelerator_pack, 'MOST', 15_000)
  bundle = accelerator_pack.Bundle(tmp_path)
  run, record = tmp_path / 'run', tmp_path / 'none.json'
  run.mkdir()
  for number in range(3):
    (run / f'{number}.json').write_bytes(np.random.default_rng(number).bytes(6000))
  bundle.add(run, record)
  zips = sorted(tmp_path.glob('runs_*.zip'))
  assert len(zips) == 2 and max(path.stat().st_size for path in zips) <= 16000
  said = tmp_path / 'said.txt'
  said.write_bytes(b'x' * 100)
  accelerator_pack.shorten(said, 10)
  assert said.stat().st_size == 10


def test_training_is_asked_to_end_in_time():
  with signals.owned(), signals.deferred(), accelerator_side._stopping(0.1):
    signals.poll()
    time.sleep(0.3)
    with pytest.raises(signals.Stopped):
      signals.poll()
  signals.poll()  # what comes after the training is not ended by the same signal
