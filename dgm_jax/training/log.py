"""The places where a run's figures and pictures go: JSON lines, TensorBoard, the terminal, and W&B when asked for.

WORKDIR/metrics.jsonl holds one `{"step", "split", name: value, ...}` a line. It depends on the run alone, so an
interrupted and resumed run leaves the bytes of an uninterrupted one. What depends on the machine (seconds, steps/s)
is in WORKDIR/timing.jsonl. Numbers are written with all their digits; those that JSON lacks are the strings
"nan", "inf" and "-inf", which `float` reads back.

Imports nothing heavy: TensorBoard's writer, tqdm, Pillow and W&B are loaded when first used.
"""

import collections
import contextlib
import functools
import json
import math
import os
import pathlib
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from dgm_jax.errors import UNSAVED, Halt, UserError, printable
from dgm_jax.internal.files import append, exists, make_folder, open_without_links, patiently, read_text, write_atomic
from dgm_jax.runs import lines

__all__ = ['Lost', 'Writer', 'hole', 'lost', 'open', 'silent', 'stopwatch']

Numbers = Mapping[str, float]


class Writer(NamedTuple):
  """What a training loop tells the outside world; closes as a context manager."""

  metrics: Callable[[int, str, Numbers], None]  # (step, split, {name: value}), split 'train', 'valid' or 'test'
  timing: Callable[[int, Numbers], None]  # (step, {name: value}), for what differs from machine to machine
  picture: Callable[[int, str, np.ndarray], None]  # (step, name, uint8 [H, W, 1 or 3])
  progress: Callable[[int], None]  # (step), moves the bar of a terminal
  say: Callable[[str], None]  # a plain line that does not break the bar
  sync: Callable[[], dict[str, int]]  # has metrics.jsonl on the disk; split -> number of its lines
  close: Callable[[], None]

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.close()


class Stopwatch(NamedTuple):
  """Times stretches of training; no second is lost or counted twice."""

  first: Callable[[int], float]  # (step), after a call that compiled: its seconds, which give no rate
  count: Callable[[int], None]  # (step), writes the time since the last stretch, unless there was no step since
  restart: Callable[[int], None]  # (step), leaves out the time since


class Lost(NamedTuple):
  """What an earlier start had done beyond its last checkpoint, as far as it told."""

  steps: int
  seconds: float


class _Sink(NamedTuple):
  """One service that takes scalars and images."""

  scalars: Callable[[int, Numbers], None]
  image: Callable[[int, str, np.ndarray], None]
  close: Callable[[], None]


class _Terminal(NamedTuple):
  """A bar on stderr and lines on stdout, or lines alone."""

  progress: Callable[[int], None]
  say: Callable[[str], None]
  close: Callable[[], None]


def open(workdir: str | os.PathLike, first_step: int, total_steps: int, config: Any, due: bool = False) -> Writer:
  """Opens the writer of a run that goes on after `first_step`.

  It is for one process only; the others use `silent()`. Lines of later steps, which a killed run may have left, are
  cut. At step 0 the files start empty.

  Args:
    workdir: the run's folder, made if missing.
    first_step: completed steps of the checkpoint that the run goes on from, 0 for a fresh run.
    total_steps: the step at which the run ends, for the bar.
    config: a ConfigDict with `log.tensorboard` (bool) and `log.wandb` (project name, '' for off).
    due: whether `first_step` must still be measured; if so, its lines that are not of training are cut, too.

  Raises:
    UserError: W&B is requested and missing, or it refuses to start.
  """
  workdir = pathlib.Path(workdir)
  make_folder(workdir)
  sinks = []  # first of all, because W&B may refuse, and then no file must have been touched
  if config.log.wandb:
    sinks.append(_wandb(workdir, first_step, config))
  if config.log.tensorboard:
    sinks.append(_tensorboard(workdir / 'tb', first_step))
  opened = {name: _Lines(workdir / f'{name}.jsonl', first_step, due) for name in ('metrics', 'timing')}
  terminal = _terminal(total_steps)

  def metrics(step: int, split: str, numbers: Numbers) -> None:
    numbers = _floats(numbers)
    opened['metrics'].write({'step': int(step), 'split': split} | numbers)
    terminal.say(f'step {step}/{total_steps}  {split}  ' + '  '.join(f'{k}={v:.5g}' for k, v in numbers.items()))
    for sink in sinks:
      sink.scalars(int(step), {f'{split}/{name}': value for name, value in numbers.items()})

  def timing(step: int, numbers: Numbers) -> None:
    numbers = _floats(numbers)
    opened['timing'].write({'step': int(step)} | numbers)
    for sink in sinks:
      sink.scalars(int(step), {f'timing/{name}': value for name, value in numbers.items()})

  def picture(step: int, name: str, image: np.ndarray) -> None:
    from dgm_jax.pictures.gallery import write_png

    write_png(workdir / 'pictures' / f'{name}_{step:08d}.png', image)
    for sink in sinks:
      sink.image(int(step), name, image)

  def close() -> None:
    for part in (terminal, *sinks, *opened.values()):
      part.close()

  return Writer(metrics, timing, picture, terminal.progress, terminal.say, opened['metrics'].sync, close)


def silent() -> Writer:
  """Returns a writer that does nothing, for all processes but the first."""

  def nothing(*_) -> None:
    pass

  return Writer(nothing, nothing, nothing, nothing, nothing, dict, nothing)


def hole(workdir: str | os.PathLike, first_step: int, logged: Mapping[str, int], due: bool) -> str:
  """Describes the lines of metrics.jsonl that were on the disk when a checkpoint was saved, and are not there now.

  Args:
    workdir: the run's folder.
    first_step: the checkpoint's step.
    logged: split -> number of lines, from its page.
    due: whether `first_step` must still be measured, so that only the lines of training count.

  Returns:
    a line, '' if none is missing.
  """
  there = lines.read(pathlib.Path(workdir) / 'metrics.jsonl')
  counts = collections.Counter(record.get('split') for record in there if record['step'] <= first_step)
  missing = {
    split: n - counts[split] for split, n in logged.items() if n > counts[split] and not (due and split != 'train')
  }
  if not missing:
    return ''
  what = ', '.join(f'{n} of {split}' for split, n in missing.items())
  return (
    f'warning: {pathlib.Path(workdir) / "metrics.jsonl"} lacks lines of steps up to {first_step} ({what}) that stood'
    ' there when the checkpoint was saved: its figures have a hole, the state has none'
  )


def stopwatch(writer: Writer, step: int, batch_size: int) -> Stopwatch:
  """Starts a watch now, at `step`. It writes to the timing of `writer`."""
  started, counted = time.perf_counter(), step

  def restart(at: int) -> None:
    nonlocal started, counted
    started, counted = time.perf_counter(), at

  def count(at: int) -> None:
    if at > counted:
      seconds = time.perf_counter() - started
      rate = (at - counted) / seconds
      writer.timing(at, {'seconds': seconds, 'steps_per_second': rate, 'examples_per_second': rate * batch_size})
      restart(at)

  def first(at: int) -> float:
    seconds = time.perf_counter() - started
    writer.timing(at, {'seconds': seconds})
    restart(at)
    return seconds

  return Stopwatch(first, count, restart)


def lost(workdir: str | os.PathLike, first_step: int) -> Lost:
  """Returns a run's lost work: the steps after `first_step` in its timing. Call it before `open` cuts the timing."""
  later = [line for line in lines.read(pathlib.Path(workdir) / 'timing.jsonl') if line['step'] > first_step]
  steps = max((line['step'] for line in later), default=first_step) - first_step
  return Lost(steps, sum(line.get('seconds', 0.0) for line in later))


class _Lines:
  """A file of JSON lines that grows, after cutting the lines that do not belong to the first `first_step` steps."""

  def __init__(self, path: pathlib.Path, first_step: int, due: bool):
    def belongs(record: dict[str, Any] | None) -> bool:
      if first_step == 0 or record is None or record['step'] > first_step:
        return False
      return not due or record['step'] < first_step or record.get('split', 'train') == 'train'

    kept = [(line, record) for line in lines.raw(path) if belongs(record := lines.parse(line))]
    write_atomic(path, b''.join(line + b'\n' for line, _ in kept))
    self.path, self.file = path, open_without_links(path)
    self.counts = collections.Counter(record.get('split') for _, record in kept if record)

  def write(self, record: dict[str, Any]) -> None:
    """Appends a line.

    Raises:
      Halt: it cannot be written.
    """
    line = json.dumps({name: _jsonable(value) for name, value in record.items()}) + '\n'
    with self._written():
      append(self.file.fileno(), line.encode())
    self.counts[record.get('split')] += 1

  def sync(self) -> dict[str, int]:
    """Has all lines on the disk, and returns how many there are of each split."""
    with self._written():
      patiently(lambda: os.fsync(self.file.fileno()))
    return dict(self.counts)

  def close(self) -> None:
    self.file.close()

  @contextlib.contextmanager
  def _written(self):
    try:
      yield
    except OSError as error:
      raise Halt(f'{self.path} cannot be written ({error.strerror}); the last checkpoint stands', UNSAVED) from error


def _jsonable(value: Any) -> Any:
  return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _floats(numbers: Numbers) -> dict[str, float]:
  return {name: float(value) for name, value in numbers.items()}


def _terminal(total_steps: int) -> _Terminal:
  clean = lambda text: '\n'.join(map(printable, text.split('\n')))  # names of files may hold anything
  if not sys.stderr.isatty():
    return _Terminal(lambda step: None, lambda text: print(clean(text), flush=True), lambda: None)
  from tqdm import tqdm

  bars = []  # one, from the first progress on, so that its rate leaves compilation out

  def progress(step: int) -> None:
    if not bars:
      bars.append(tqdm(initial=step, total=total_steps, unit=' step', dynamic_ncols=True))
    bars[0].update(step - bars[0].n)

  def say(text: str) -> None:
    tqdm.write(clean(text))
    sys.stdout.flush()

  def close() -> None:
    for bar in bars:
      bar.close()

  return _Terminal(progress, say, close)


def _tensorboard(folder: pathlib.Path, first_step: int) -> _Sink:
  """Returns a sink of event files in `folder`.

  TensorBoard drops the events of an earlier run after `first_step`.
  """
  if first_step == 0:
    for old in folder.glob('events.out.tfevents.*'):
      old.unlink()

  @functools.cache
  def writer():
    from tensorboardX import SummaryWriter  # 0.4 s: paid after the first update, not before it

    purge_step = first_step + 1 if first_step else None
    # File names carry whole seconds, so two short runs could share one without the process id.
    return SummaryWriter(str(folder), purge_step=purge_step, flush_secs=10, filename_suffix=f'.{os.getpid()}')

  def scalars(step: int, numbers: Numbers) -> None:
    for name, value in numbers.items():
      writer().add_scalar(name, value, step)

  def image(step: int, name: str, pixels: np.ndarray) -> None:
    writer().add_image(name, pixels, step, dataformats='HWC')

  def close() -> None:
    if writer.cache_info().currsize:
      writer().close()

  return _Sink(scalars, image, close)


def _wandb(workdir: pathlib.Path, first_step: int, config: Any) -> _Sink:
  """Starts a run of the W&B project `config.log.wandb`. After a resume it is the same run."""
  try:
    import wandb  # pyright: ignore[reportMissingImports]  (an extra)
    from wandb.errors import Error  # pyright: ignore[reportMissingImports]
  except ImportError as error:  # a folder named `wandb` imports too, but has no `errors`
    raise UserError(
      f"config.log.wandb='{config.log.wandb}' needs the package wandb, which is not installed: "
      "pip install 'dgm_jax[wandb]', or give --config.log.wandb=''"
    ) from error
  note, before = workdir / 'wandb_id', exists(workdir / 'wandb')
  own = read_text(note) if first_step and exists(note) else secrets.token_hex(4)
  try:
    run = wandb.init(
      project=config.log.wandb,
      dir=str(workdir),
      name=workdir.resolve().name,
      id=own,
      resume='allow',
      config=config.to_dict(),
    )
  except Error as error:
    reason = ' '.join(str(error).split())
    if not before:
      shutil.rmtree(workdir / 'wandb', ignore_errors=True)
    raise UserError(f"W&B did not start ({reason}): log in, or give --config.log.wandb=''") from error
  write_atomic(note, own.encode())
  run.define_metric('*', step_metric='step')  # W&B's own counter refuses to go back to a checkpoint

  def scalars(step: int, numbers: Numbers) -> None:
    run.log({'step': step} | dict(numbers))

  def image(step: int, name: str, pixels: np.ndarray) -> None:
    run.log({'step': step, name: wandb.Image(pixels)})

  return _Sink(scalars, image, run.finish)
