"""Commands in forks of one process that has imported the package: what a command costs after its imports.

A line of JSON {"command": "train", "words": [...], "only_checks": true} on stdin is answered by one on stdout: {"code",
"out", "err", "seconds"}. With `only_checks` a training ends before its first step, once all was checked. The code of a
command that takes longer than LIMIT seconds of one processor, or ten times as long by the clock, is "hung"; one that
trains may take FACTOR times as long, since it compiles.
"""

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time

LIMIT, FACTOR = 30, 4
MEMORY = 12 * 2**30  # bytes of addresses, so that a command that wants all memory ends alone


class Server:
  """Runs commands one at a time: `Server(folder).run('train', '--config=...')`."""

  def __init__(self, cwd, **environment):
    words = [sys.executable, __file__]
    pipe = subprocess.PIPE
    self.process = subprocess.Popen(words, cwd=cwd, env=os.environ | environment, stdin=pipe, stdout=pipe, text=True)

  def run(self, command: str, *words: str, only_checks: bool = False) -> dict:
    question = {'command': command, 'words': words, 'only_checks': only_checks}
    self.process.stdin.write(json.dumps(question) + '\n')
    self.process.stdin.flush()
    return json.loads(self.process.stdout.readline())

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.process.stdin.close()
    self.process.wait()
    self.process.stdout.close()


def seconds(question: dict) -> int:
  return LIMIT if question['only_checks'] else LIMIT * FACTOR


def child(question: dict, out, err) -> None:
  """Becomes the command."""
  os.dup2(out.fileno(), 1)
  os.dup2(err.fileno(), 2)
  os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
  resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
  limit = seconds(question)
  resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))  # SIGXCPU
  sys.argv = [f'{question["command"]}.py', *question['words']]
  sys.stdout, sys.stderr = os.fdopen(1, 'w'), os.fdopen(2, 'w')
  code = 0
  try:
    if question['only_checks']:
      from dgm_jax import training
      from dgm_jax.commands import report

      training.fit = lambda config, folder, *_: training.build_run(config, folder)
      report.write_report = lambda folder: folder
    importlib.import_module(f'dgm_jax.commands.{question["command"]}').run()
  except SystemExit as end:
    code = end.code if isinstance(end.code, int) else int(end.code is not None)
  except BaseException:
    sys.excepthook(*sys.exc_info())
    code = 1
  finally:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def answer(question: dict) -> dict:
  with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
    began = time.monotonic()
    number = os.fork()
    if not number:
      child(question, out, err)
    code: int | str | None = None
    while code is None:
      ended, status = os.waitpid(number, os.WNOHANG)
      if ended:
        code = os.waitstatus_to_exitcode(status)
        code = 'hung' if code == -signal.SIGXCPU else code
      elif time.monotonic() - began > 10 * seconds(question):
        os.kill(number, signal.SIGKILL)
        os.waitpid(number, 0)
        code = 'hung'
      else:
        time.sleep(0.005)
    texts = {}
    for name, file in (('out', out), ('err', err)):
      file.seek(0)
      texts[name] = file.read().decode(errors='replace')
    return {'code': code, 'seconds': time.monotonic() - began} | texts


def main() -> None:
  from dgm_jax import training  # noqa: F401
  from dgm_jax.commands import evaluate, report, sample, train  # noqa: F401
  from dgm_jax.evals import mean  # noqa: F401
  from dgm_jax.pictures import gallery  # noqa: F401
  from dgm_jax.systems import autoregressive, flow, gan, vae, vq  # noqa: F401

  for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == '__main__':
  main()
