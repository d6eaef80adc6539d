"""`train.py` with a signal on its way: python child.py PHASE OCCASION DELAY SIGNAL -- FLAGS of train.py.

A thread of the process sends it the signal so many seconds after the PHASE has begun for the OCCASION-th time (0: no
signal). Every finished step is noted in WORKDIR/../steps before the next one is begun, for the tests to compare.
"""

import os
import pathlib
import runpy
import signal
import sys
import threading
import time

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

phase, occasion, delay, name, _, *words = sys.argv[1:]
folder = pathlib.Path(next(word for word in words if word.startswith('--workdir=')).removeprefix('--workdir='))
count = 0


def send():
  time.sleep(float(delay))
  os.kill(os.getpid(), getattr(signal, name))


def begin(this):
  """Called when a phase begins."""
  global count
  if this == phase:
    count += 1
    if count == int(occasion):
      (folder.parent / 'sent').write_text(this)
      threading.Thread(target=send, daemon=True).start()


def announced(module, attribute, this):
  """Makes the function of a module say when it begins."""
  function = getattr(module, attribute)

  def call(*args, **kwargs):
    begin(this)
    return function(*args, **kwargs)

  setattr(module, attribute, call)


def install():
  from dgm_jax import data, training
  from dgm_jax.runs import checkpoint
  from dgm_jax.runtime import parallel, signals

  announced(signals, 'interruptible', 'compile')
  announced(training.loop, '_draw', 'sampling')
  announced(checkpoint, 'save', 'save')
  means, indices, load = training.loop.mean.per_example, training.feed.indices, data.load_parts

  def per_example(*args, **kwargs):
    run = means(*args, **kwargs)

    def measured(*args):
      begin('evaluation')
      return run(*args)

    return measured

  def noted(run, step, steps):
    with (folder.parent / 'steps').open('a') as file:
      file.write(f'{step + steps}\n')
    begin('step')
    return indices(run, step, steps)

  def slow(*args):
    begin('data wait')
    if phase == 'data wait':
      time.sleep(1)  # as on a disk that is far away
    return load(*args)

  training.loop.mean.per_example, training.feed.indices, data.load_parts = per_example, noted, slow
  del parallel


install()
sys.argv = [str(ROOT / 'train.py'), *words]
runpy.run_path(str(ROOT / 'train.py'), run_name='__main__')
