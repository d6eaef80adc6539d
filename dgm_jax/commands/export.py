"""Writes a trained run into one file that needs no run: weights, experiment, and a card of what was measured.

Usage: dgm export RUN --out=FILE.safetensors [--checkpoint=latest|best|STEP] [--weights=average|raw]
       [--dtype=float32|bfloat16] [--check=FILE.npz] [--stablehlo [--n=16]]

`dgm_jax.load(FILE)` and `dgm sample --weights=FILE` open it. With --stablehlo also FILE.sample.stablehlo, a function
(seed uint32 []) -> n samples, and, where the system has it, FILE.log_prob.stablehlo, (examples [n, ...]) -> nats [n];
`jax.export.deserialize` reads them, without this package.
"""

from pathlib import Path

from absl import flags

from dgm_jax import config as experiment
from dgm_jax import errors
from dgm_jax.runtime import cli

__all__ = ['define_flags', 'main', 'run']

flags.disclaim_key_flags()  # --help lists them as the flags of the program that calls `run`

LICENCE = 'Apache-2.0'
KEPT = (  # of a record
  'system', 'config', 'overrides', 'seed', 'data', 'steps', 'examples_seen', 'versions', 'trained_at', 'weights',
  'parameters',
)  # fmt: skip


def define_flags() -> None:
  """Defines the command line in the module's own flags."""
  flags.DEFINE_string('workdir', None, 'Folder of the run, if it is not the first word.')
  flags.DEFINE_string('out', None, 'The file.')
  flags.DEFINE_string('checkpoint', 'latest', "'latest', 'best' (by config.best), or a step.")
  flags.DEFINE_enum('weights', 'average', ('average', 'raw'), 'Of networks that have a moving average.')
  flags.DEFINE_enum('dtype', 'float32', ('float32', 'bfloat16'), 'Of the numbers in the file.')
  flags.DEFINE_string('check', '', 'An .npz of examples x, and labels y, whose figures are kept in the card.')
  flags.DEFINE_bool('stablehlo', False, 'Also write programs that need only JAX.')
  flags.DEFINE_integer('n', 16, 'Number of examples of these programs.', 1, 10**6)


def main(argv: list[str]) -> None:
  """Writes the file of a run."""
  rest, args = experiment.parse(argv, __doc__)[1:], flags.FLAGS
  folder = args.workdir or (rest[0] if len(rest) == 1 else '')
  if not folder or not args.out:
    raise errors.UserError('give the folder of one run, and --out=FILE.safetensors')

  from dgm_jax.commands import evaluate
  from dgm_jax.pages import records
  from dgm_jax.runs import weights, workdir
  from dgm_jax.runtime import cluster

  out = Path(args.out).with_suffix(weights.SUFFIX)
  workdir.require_writable(out.parent)
  cluster.start()
  subject = workdir.open_subject(Path(folder), '', args.checkpoint, weights=args.weights)
  measured = records.load(Path(folder) / 'evaluation_test.json')
  page = evaluate.record(Path(folder), subject, 'test', {})
  card = {key: page[key] for key in KEPT} | {'dtype': args.dtype, 'licence': LICENCE}
  if args.check:
    card['check'] = _check(subject, args.check)
  figures = measured.get('metrics', {}) if measured.get('steps') == page['steps'] else {}
  out.parent.mkdir(parents=True, exist_ok=True)
  weights.save_weights(subject, card | {'figures': figures}, out, args.dtype)
  print(f'{out}: {out.stat().st_size / 1e6:.2f} MB, {page["parameters"]["total"]:,} parameters, {args.dtype}')
  if args.stablehlo:
    _write_programs(subject, out, args.n)


def _check(subject, path: str) -> dict:
  """Measures the run on the examples of a file."""
  import numpy as np

  from dgm_jax.api import Model

  with np.load(path, allow_pickle=False) as arrays:
    return Model(subject).evaluate(arrays['x'], arrays.get('y'), ('mean.metrics',))


def _write_programs(subject, out: Path, n: int) -> None:
  """Writes the functions of samples and of likelihoods.

  Raises:
    UserError: the package flatbuffers is missing.
  """
  import jax

  from dgm_jax.api import Model
  from dgm_jax.internal.files import write_atomic

  try:
    import flatbuffers  # noqa: F401
  except ImportError as error:
    raise errors.UserError("--stablehlo needs the package flatbuffers: pip install 'dgm_jax[export]'") from error
  for name, (function, like) in Model(subject).programs(n).items():
    path = out.with_suffix(f'.{name}.stablehlo')
    write_atomic(path, jax.export.export(jax.jit(function))(like).serialize())
    print(path)


def run() -> None:
  """Runs the program."""
  define_flags()
  cli.run(main)
