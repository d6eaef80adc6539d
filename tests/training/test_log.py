"""The writer: exact JSON lines, what a resume cuts, TensorBoard's records, the terminal, W&B's calls."""

import io
import json
import struct
import sys
import types

import ml_collections
import numpy as np
import pytest
from PIL import Image

from dgm_jax.errors import UserError
from dgm_jax.internal import files
from dgm_jax.runs import lines
from dgm_jax.training import log


def settings(tensorboard=False, wandb=''):
  return ml_collections.ConfigDict({'seed': 3, 'log': {'tensorboard': tensorboard, 'wandb': wandb}})


def events(workdir) -> list:
  """All TensorBoard events below a run, decoded from their length-prefixed records."""
  from tensorboardX.proto import event_pb2

  found = []
  for path in sorted((workdir / 'tb').glob('events.out.tfevents.*')):
    data, at = path.read_bytes(), 0
    while at < len(data):
      (length,) = struct.unpack_from('<Q', data, at)
      found.append(event_pb2.Event.FromString(data[at + 12 : at + 12 + length]))
      at += 16 + length
  return found


def steps(path) -> list[int]:
  return [record['step'] for record in lines.read(path)]


def test_a_metrics_line_byte_by_byte(tmp_path):
  with log.open(tmp_path, 0, 10, settings()) as writer:
    writer.metrics(5, 'train', {'loss': np.float32(0.1), 'kl': 2})
    line = (tmp_path / 'metrics.jsonl').read_text()  # before the writer closes: every line is flushed
  assert line == '{"step": 5, "split": "train", "loss": 0.10000000149011612, "kl": 2.0}\n'


def test_float32_values_survive_bit_by_bit(tmp_path):
  bits = np.random.default_rng(0).integers(0, 2**32, 2000, np.uint32)
  values = bits.view(np.float32)
  values = values[np.isfinite(values)]
  assert (np.abs(values) < np.finfo(np.float32).tiny).any()  # subnormal numbers are among them
  with log.open(tmp_path, 0, 1, settings()) as writer:
    writer.metrics(1, 'test', {str(i): v for i, v in enumerate(values)})
  (record,) = lines.read(tmp_path / 'metrics.jsonl')
  back = np.array([record[str(i)] for i in range(len(values))], np.float32)
  np.testing.assert_array_equal(back.view(np.uint32), values.view(np.uint32))


def test_numbers_that_json_lacks_are_strings(tmp_path):
  with log.open(tmp_path, 0, 1, settings()) as writer:
    writer.metrics(1, 'train', {'a': float('nan'), 'b': np.float32('inf'), 'c': -np.inf})
  text = (tmp_path / 'metrics.jsonl').read_text()
  refuse = lambda name: pytest.fail(f'{name} is not JSON')
  assert json.loads(text, parse_constant=refuse) == {'step': 1, 'split': 'train', 'a': 'nan', 'b': 'inf', 'c': '-inf'}
  (record,) = lines.read(tmp_path / 'metrics.jsonl')
  assert np.isnan(record['a']) and record['b'] == np.inf and record['c'] == -np.inf


def test_an_interrupted_run_leaves_the_bytes_of_an_uninterrupted_one(tmp_path):
  def run(workdir, first, last):
    with log.open(workdir, first, 60, settings()) as writer:
      for step in range(first + 10, last + 1, 10):
        writer.metrics(step, 'train', {'loss': 1 / step})
        if step % 20 == 0:
          writer.metrics(step, 'valid', {'loss': 2 / step})
        writer.timing(step, {'steps_per_s': step * 1.5})

  run(tmp_path / 'whole', 0, 60)
  run(tmp_path / 'killed', 0, 50)
  with (tmp_path / 'killed' / 'metrics.jsonl').open('a') as file:
    file.write('{"step": 60, "split": "tra')  # torn by the kill
  run(tmp_path / 'killed', 20, 60)  # from the checkpoint of step 20
  for name in ('metrics.jsonl', 'timing.jsonl'):
    assert (tmp_path / 'killed' / name).read_bytes() == (tmp_path / 'whole' / name).read_bytes()
  assert steps(tmp_path / 'killed' / 'timing.jsonl') == [10, 20, 30, 40, 50, 60]


def test_a_fresh_run_empties_the_files(tmp_path):
  for name in ('metrics.jsonl', 'timing.jsonl'):
    (tmp_path / name).write_text('{"step": 0, "split": "train", "loss": 1.0}\n')
  with log.open(tmp_path, 0, 1, settings()):
    pass
  assert (tmp_path / 'metrics.jsonl').read_bytes() == (tmp_path / 'timing.jsonl').read_bytes() == b''


@pytest.mark.parametrize('damage', ['{"step": 7, "spl', '{"split": "train"}', '[7]', '7', '\0\0\0'])
def test_torn_lines_are_neither_read_nor_kept(tmp_path, damage):
  path = tmp_path / 'metrics.jsonl'
  good = '{"step": 7, "split": "train", "loss": 1.0}\n'
  path.write_text(good + damage)
  assert steps(path) == [7]
  log.open(tmp_path, 7, 9, settings()).close()
  assert path.read_text() == good


def test_a_last_line_that_lacks_only_its_end_is_kept(tmp_path):
  (tmp_path / 'metrics.jsonl').write_text('{"step": 7, "split": "train", "loss": 1.0}')
  with log.open(tmp_path, 7, 9, settings()) as writer:
    writer.metrics(8, 'train', {'loss': 2.0})
  assert steps(tmp_path / 'metrics.jsonl') == [7, 8]


def test_reading_a_missing_file_gives_nothing(tmp_path):
  assert lines.read(tmp_path / 'metrics.jsonl') == []


def test_a_failed_replacement_leaves_the_old_file(tmp_path, monkeypatch):
  path = tmp_path / 'page'
  files.write_atomic(path, b'old')

  def full(_):
    raise OSError('no space left on device')

  monkeypatch.setattr('os.fsync', full)
  with pytest.raises(OSError, match='no space'):
    files.write_atomic(path, b'new')
  assert path.read_bytes() == b'old'
  assert list(tmp_path.iterdir()) == [path]


def test_tensorboard_gets_scalars_timing_and_pictures(tmp_path):
  image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
  with log.open(tmp_path, 0, 10, settings(tensorboard=True)) as writer:
    writer.metrics(5, 'valid', {'loss': 0.5})
    writer.timing(5, {'steps_per_s': 20.0})
    writer.picture(5, 'samples', image)
    writer.picture(5, 'grey', image[..., :1])
  seen = {value.tag: (event.step, value) for event in events(tmp_path) for value in event.summary.value}
  assert set(seen) == {'valid/loss', 'timing/steps_per_s', 'samples', 'grey'}
  assert {step for step, _ in seen.values()} == {5}
  assert seen['valid/loss'][1].simple_value == 0.5
  assert seen['timing/steps_per_s'][1].simple_value == 20
  with Image.open(io.BytesIO(seen['samples'][1].image.encoded_image_string)) as shown:
    np.testing.assert_array_equal(np.asarray(shown), image)
  with Image.open(tmp_path / 'pictures' / 'samples_00000005.png') as shown:
    np.testing.assert_array_equal(np.asarray(shown), image)
  with Image.open(tmp_path / 'pictures' / 'grey_00000005.png') as shown:
    np.testing.assert_array_equal(np.asarray(shown), image[..., 0])


def test_tensorboard_forgets_what_a_resume_cuts(tmp_path):
  for first, last in ((0, 30), (10, 20)):
    with log.open(tmp_path, first, 30, settings(tensorboard=True)) as writer:
      for step in range(first + 10, last + 1, 10):
        writer.metrics(step, 'train', {'loss': 1.0})
  starts = [event.step for event in events(tmp_path) if event.session_log.status == event.session_log.START]
  assert starts == [11]  # TensorBoard drops the events at this step and after it that were written before


def test_tensorboard_starts_anew_with_a_fresh_run(tmp_path):
  (tmp_path / 'tb').mkdir()
  (tmp_path / 'tb' / 'events.out.tfevents.1700000000.host.7').write_bytes(b'an earlier attempt')
  with log.open(tmp_path, 0, 10, settings(tensorboard=True)) as writer:
    writer.metrics(10, 'train', {'loss': 1.0})
  assert [event.step for event in events(tmp_path) if event.summary.value] == [10]


def test_tensorboard_is_loaded_at_the_first_figure_only(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'tensorboardX', None)  # makes its import fail
  with log.open(tmp_path, 0, 10, settings(tensorboard=True)) as writer:
    writer.say('compiling')
    writer.progress(0)
    with pytest.raises(ImportError):
      writer.timing(10, {'seconds': 1.0})


def test_tensorboard_off_leaves_no_folder(tmp_path):
  with log.open(tmp_path, 0, 10, settings()) as writer:
    writer.metrics(10, 'train', {'loss': 1.0})
    writer.timing(10, {'seconds': 1.0})
  assert sorted(path.name for path in tmp_path.iterdir()) == ['metrics.jsonl', 'timing.jsonl']


def test_plain_lines_without_a_terminal(tmp_path, capsys):
  with log.open(tmp_path, 0, 10, settings()) as writer:
    writer.say('compiling')
    writer.progress(5)
    writer.metrics(5, 'train', {'loss': 123.456789, 'kl': 1e-7})
    writer.timing(5, {'steps_per_s': 20.0})
  out, err = capsys.readouterr()
  assert out == 'compiling\nstep 5/10  train  loss=123.46  kl=1e-07\n'
  assert err == ''


def test_a_bar_and_lines_on_a_terminal(tmp_path, capsys, monkeypatch):
  terminal = io.StringIO()
  terminal.isatty = lambda: True
  monkeypatch.setattr(sys, 'stderr', terminal)
  with log.open(tmp_path, 4, 16, settings()) as writer:
    writer.progress(8)
    writer.metrics(8, 'valid', {'loss': 1.5})
    writer.progress(16)
  assert capsys.readouterr().out == 'step 8/16  valid  loss=1.5\n'
  assert ' 0/16' not in terminal.getvalue()  # the first step is no progress of this run, nor part of its rate
  assert '50%' in terminal.getvalue() and '8/16' in terminal.getvalue()
  assert '100%' in terminal.getvalue() and '16/16' in terminal.getvalue()


def test_the_silent_writer_takes_everything_and_does_nothing(capsys):
  with log.silent() as writer:
    writer.metrics(1, 'train', {'loss': 1.0})
    writer.timing(1, {'seconds': 1.0})
    writer.picture(1, 'samples', np.zeros((2, 2, 1), np.uint8))
    writer.progress(1)
    writer.say('hello')
  assert capsys.readouterr() == ('', '')


def test_wandb_asked_for_but_missing_is_one_line_and_no_harm(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'wandb', None)
  (tmp_path / 'metrics.jsonl').write_text('{"step": 9, "split": "train", "loss": 1.0}\n')
  with pytest.raises(UserError, match=r"config\.log\.wandb='mine' needs the package wandb.*pip install") as caught:
    log.open(tmp_path, 0, 10, settings(wandb='mine'))
  assert '\n' not in str(caught.value)
  assert steps(tmp_path / 'metrics.jsonl') == [9]


def fake_wandb(monkeypatch, error=None) -> list:
  """A stand-in for the package, which needs an account; gives the list of the calls made to it."""
  calls, package = [], types.ModuleType('wandb')
  package.errors = types.ModuleType('wandb.errors')
  package.errors.Error = type('Error', (Exception,), {})

  def init(**options):
    if error:
      raise package.errors.Error(error)
    calls.append(('init', options))
    return types.SimpleNamespace(
      define_metric=lambda name, step_metric: calls.append(('define_metric', name, step_metric)),
      log=lambda values: calls.append(('log', values)),
      finish=lambda: calls.append(('finish',)),
    )

  package.init, package.Image = init, lambda pixels: ('image', pixels.shape)
  monkeypatch.setitem(sys.modules, 'wandb', package)
  monkeypatch.setitem(sys.modules, 'wandb.errors', package.errors)
  return calls


def test_wandb_gets_what_tensorboard_gets(tmp_path, monkeypatch):
  calls = fake_wandb(monkeypatch)
  with log.open(tmp_path, 0, 10, settings(wandb='mine')) as writer:
    writer.metrics(5, 'train', {'loss': 0.5})
    writer.timing(5, {'seconds': 2.0})
    writer.picture(5, 'samples', np.zeros((2, 4, 1), np.uint8))
  (_, options), *rest = calls
  assert options['project'] == 'mine' and options['config'] == settings(wandb='mine').to_dict()
  assert rest == [
    ('define_metric', '*', 'step'),
    ('log', {'step': 5, 'train/loss': 0.5}),
    ('log', {'step': 5, 'timing/seconds': 2.0}),
    ('log', {'step': 5, 'samples': ('image', (2, 4, 1))}),
    ('finish',),
  ]


def test_wandb_goes_on_with_its_run_after_a_resume(tmp_path, monkeypatch):
  calls = fake_wandb(monkeypatch)
  for first in (0, 5, 0):
    log.open(tmp_path, first, 10, settings(wandb='mine')).close()
  a, b, c = (call[1]['id'] for call in calls if call[0] == 'init')
  assert a == b != c


def test_wandb_that_refuses_is_one_line(tmp_path, monkeypatch):
  fake_wandb(monkeypatch, error='api_key not configured\n(no-tty)')
  with pytest.raises(UserError, match=r'W&B did not start \(api_key not configured \(no-tty\)\): log in'):
    log.open(tmp_path, 0, 10, settings(wandb='mine'))
