"""Processes that are asked to end all stop at the same poll, however far one is ahead of another."""

import random
import threading
import time

import pytest

from dgm_jax.runtime import stopping


class Board:
  """A board in memory, which can be taken away."""

  def __init__(self):
    self.lines, self.gone = {}, False

  def write(self, process, line):
    self.lines[process] = line

  def read(self):
    if self.gone:
      raise RuntimeError('the coordinator has ended')
    return list(self.lines.values())


def run(board, processes, heard, polls=10_000, pause=lambda process: 0.0):
  """The poll at which each process stops and the signal it then knows of, None where it goes on to the end."""
  ended = [None] * processes

  def work(process):
    agreement = stopping.Stopping(board, process, processes, lambda: heard(process, agreement))
    for number in range(polls):
      if signal := agreement.poll():
        ended[process] = number, signal
        break
      time.sleep(pause(process))
    agreement.close()

  threads = [threading.Thread(target=work, args=(process,), daemon=True) for process in range(processes)]
  [thread.start() for thread in threads]
  [thread.join(60) for thread in threads]
  assert not any(thread.is_alive() for thread in threads)
  return ended


@pytest.fixture(autouse=True)
def quick(monkeypatch):
  monkeypatch.setattr(stopping, 'LOOK', 0.01)
  monkeypatch.setattr(stopping, 'HURRY', 0.001)


@pytest.mark.parametrize('seed', range(6))
def test_all_stop_at_the_same_poll(seed):
  """Processes of different speed that do not wait for one another may be many polls apart before the signal."""
  chance = random.Random(seed)
  who, when, speeds = chance.randrange(3), chance.randint(1, 60), [chance.uniform(0, 0.002) for _ in range(3)]
  ended = run(Board(), 3, lambda p, agreement: 15 * (p == who and agreement.polls >= when),
              pause=lambda process: speeds[process])  # fmt: skip
  assert len(set(ended)) == 1 and ended[0][0] >= when - 1 and ended[0][1] == 15


def test_signals_to_all_are_one():
  ended = run(Board(), 2, lambda p, agreement: 2 if agreement.polls > 20 + p else 0)
  assert ended[0] == ended[1] and ended[0][1] == 2


def test_without_a_signal_none_stops():
  assert run(Board(), 2, lambda p, agreement: 0, polls=200) == [None, None]


def test_a_signal_after_the_last_poll_stops_none():
  assert run(Board(), 2, lambda p, agreement: 15 * (agreement.polls == 30), polls=30) == [None, None]


def test_a_process_whose_board_is_gone_goes_on():
  """JAX ends it then; it must not wait for what never comes."""
  board = Board()
  board.gone = True
  assert run(board, 2, lambda p, agreement: 15, polls=50) == [None, None]
