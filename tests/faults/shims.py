"""The shim that lets calls of a file system fail, or kills a process at one of them."""

import errno
import pathlib
import shutil
import subprocess
import sys

import pytest

COMPILER = shutil.which('cc') or shutil.which('gcc')
needed = pytest.mark.skipif(not (COMPILER and sys.platform == 'linux'), reason='no C compiler for the shim')
CALLS = ('open', 'read', 'write', 'fsync', 'rename', 'mkdir', 'list', 'stat')


def build(folder) -> pathlib.Path:
  library, source = folder / 'shim.so', pathlib.Path(__file__).with_name('shim.c')
  subprocess.run([COMPILER, '-shared', '-fPIC', '-O1', '-o', library, source, '-ldl'], check=True)
  return library


def faults(library, place, call, error='EIO', times=1, skip=0, log='', kill=False) -> dict[str, str]:
  """The surroundings of a process whose calls on paths with `place` in them fail, after `skip` of them."""
  page = {
    'LD_PRELOAD': str(library), 'FAULT_PATH': place, 'FAULT_CALLS': f',{call},', 'FAULT_TIMES': str(times),
    'FAULT_ERRNO': str(getattr(errno, error)), 'FAULT_SKIP': str(skip),
  }  # fmt: skip
  return page | ({'FAULT_LOG': str(log)} if log else {}) | ({'FAULT_KILL': '1'} if kill else {})
