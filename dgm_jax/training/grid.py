"""Trainings of one experiment for every combination of some settings' values, and for several seeds.

A grid of one weight of the objective that can be traced is trained in one program (`ensemble`). Other grids are trained
one run after another. Either goes on where it was killed.
"""

import hashlib
import itertools
import json
import re
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import data, systems
from dgm_jax.core import State
from dgm_jax.evals import mean
from dgm_jax.internal.files import write_with
from dgm_jax.runs import workdir
from dgm_jax.runs.subject import Subject
from dgm_jax.runtime import parallel, signals
from dgm_jax.training import ensemble
from dgm_jax.training.loop import fit

__all__ = ['Member', 'Trained', 'config_of', 'members_of', 'traced_weight', 'train_alone', 'train_together']

SAVES = 20  # of an ensemble whose experiment saves less often
LONGEST = 160  # letters of a name


class Member(NamedTuple):
  """One training of a grid."""

  values: tuple[tuple[str, Any], ...]  # ('model.beta', its value), ...
  seed: int

  @property
  def settings(self) -> dict[str, Any]:
    """Its values by their keys."""
    return dict(self.values)

  @property
  def name(self) -> str:
    """The name of its files: nothing in it is a folder, and it is short enough for one."""
    text = ','.join(f'{key}={value}' for key, value in (*self.values, ('seed', self.seed)))
    text = re.sub(r'[^\w.=,:+ -]', lambda letter: f'%{ord(letter[0]):02X}', text, flags=re.ASCII)
    return text if len(text) <= LONGEST else f'{text[:LONGEST]}-{hashlib.sha256(text.encode()).hexdigest()[:16]}'


class Trained(NamedTuple):
  """What a training has reached."""

  figures: dict[str, float]  # on the test split
  steps: int


def members_of(config: ConfigDict, grid: Mapping[str, Sequence[Any]], seeds: int) -> list[Member]:
  """Returns the trainings of a grid: every combination of its values, with the experiment's seed and those after it.

  Raises:
    UserError: a combination is a mistake in the experiment.
  """
  combinations = [tuple(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
  members = [Member(values, config.seed + number) for values in combinations for number in range(seeds)]
  for member in members:
    experiment.check(config_of(config, member))
  return members


def config_of(config: ConfigDict, member: Member) -> ConfigDict:
  """Returns the experiment of one training."""
  own = config.copy_and_resolve_references()
  own.update_from_flattened_dict(member.settings | {'seed': member.seed})
  return own


def traced_weight(config: ConfigDict, grid: Mapping[str, Sequence[Any]], members: Sequence[Member]) -> str:
  """Returns the setting of `config.model` for whose values members are trained in one program, '' if there is none.

  They must be all combinations of some of the grid's values and of some seeds.
  """
  (key, values), *others = grid.items()
  weight = ensemble.weight_of(config)
  numbers = all(isinstance(value, float) for value in values)
  alone = bool(config.graft) or config.parallel != 'jit' or config.shard_params
  alone = alone or config.data.where in ('sharded', 'host')  # an ensemble has copies on the devices
  whole = len({m.values for m in members}) * len({m.seed for m in members}) == len(members)
  return weight if weight and key == f'model.{weight}' and numbers and not others and not alone and whole else ''


def train_alone(config: ConfigDict, member: Member, folder: Path) -> Trained:
  """Trains one member as `train.py` does, or goes on with it."""
  own = config_of(config, member)
  fit(own, folder)
  subject = workdir.open_subject(folder, 'test')
  return Trained(mean.metrics(own.seed, subject), int(subject.state.step))


def train_together(config: ConfigDict, weight: str, members: Sequence[Member], file: Path) -> list[Trained]:
  """Trains members of one weight in one program, or goes on.

  Args:
    config: of all members.
    weight: see `traced_weight`.
    members: values with seeds, as `members_of` orders them.
    file: where the states are kept meanwhile.

  Raises:
    UserError: a value is a mistake in the experiment.
  """
  values = list(dict.fromkeys(member.settings[f'model.{weight}'] for member in members))
  seeds = list(dict.fromkeys(member.seed for member in members))
  group = ensemble.make(config, weight, values, seeds)
  # A value that a system refuses is refused before any is trained.
  built = [systems.build(config_of(group.config, member)) for member in members]
  call, total = ensemble.compiled(group), workdir.total_steps(group.config)
  mark = _mark(config, members)
  state, step = _restored(file, mark, ensemble.start(group))
  every = min(config.save_every or total, max(1, total // SAVES))
  saved = step
  while step < total:
    signals.poll()
    steps = min(config.steps_per_call - step % config.steps_per_call, total - step)
    state, _ = call(state, ensemble.indices(group, step, steps))
    step += steps
    if step - saved >= every:
      write_with(file, lambda out, state=state, step=step: _write(out, mark, step, state))
      saved = step
      print(f'step {step} of {total}', file=sys.stderr, flush=True)
  test = data.load(group.config.data, 'test')
  reached = []
  for number, member in enumerate(members):
    own = config_of(group.config, member)
    subject = Subject(own, built[number], ensemble.one_of(state, number), test, parallel.mesh(1))
    reached.append(Trained(mean.metrics(own.seed, subject), total))
  return reached


def _mark(config: ConfigDict, members: Sequence[Member]) -> str:
  """Returns a checksum of what a saved ensemble is of."""
  page = [experiment.to_json(config) | {'overrides': None}, [member.name for member in members]]
  return hashlib.sha256(json.dumps(page, sort_keys=True).encode()).hexdigest()


def _write(file: Any, mark: str, step: int, state: State) -> None:
  leaves = {f'leaf_{i}': np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
  np.savez(file, mark=np.array(mark), completed=np.array(step), **leaves)


def _restored(file: Path, mark: str, fresh: State) -> tuple[State, int]:
  """Returns the saved states of these members and their step, or the fresh ones and 0."""
  if not file.is_file():
    return fresh, 0
  leaves, tree = jax.tree.flatten(fresh)
  try:
    with file.open('rb') as raw, np.load(raw, allow_pickle=False) as page:
      if str(page['mark']) == mark:
        saved = [page[f'leaf_{i}'] for i in range(len(leaves))]
        put = [jax.device_put(array, leaf.sharding) for array, leaf in zip(saved, leaves, strict=True)]
        return jax.tree.unflatten(tree, put), int(page['completed'])
  except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
    print(f'warning: {file} cannot be read ({error}): starting anew', file=sys.stderr)
  return fresh, 0
