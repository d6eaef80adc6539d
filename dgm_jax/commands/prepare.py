"""Writes a TensorFlow Datasets set in the form that training reads without TensorFlow, or converts Inception weights.

The weights are those of the network that published distances are made with.

  python -m dgm_jax.prepare mnist [--data_dir=DIR]
  python -m dgm_jax.prepare inception FILE [OUT=inception.npz]

mnist and cifar10 are downloaded and written without TensorFlow. Other sets need the extra: pip install
'dgm_jax[prepare]'. Training does not. FILE is what you have of: a .pth file of
torch-fidelity or pytorch-fid, whose name ends in the first digits of its SHA-256 (needs PyTorch); or
inception-2015-12-05.tgz, or the classify_image_graph_def.pb in it (needs TensorFlow).
"""

import hashlib
import importlib.util
import os
import pathlib
import re
import tarfile
from collections.abc import Mapping
from typing import Any

from absl import app, flags

from dgm_jax import errors
from dgm_jax.runtime import cli

__all__ = ['define_flags', 'main', 'run']

flags.disclaim_key_flags()  # --help lists them as the flags of the program that calls `run`

GRAPH_FILE = 'classify_image_graph_def.pb'


def main(argv: list[str]) -> None:
  """Prepares the set named by `argv[1]`, or the Inception weights of the file `argv[2]`.

  Raises:
    UserError: no or several names, a package is absent, the set cannot be had, or the file is another one.
  """
  if argv[1:2] == ['inception']:
    if len(argv) not in (3, 4):
      raise errors.UserError('give the file with the weights: python -m dgm_jax.prepare inception FILE [OUT]')
    out = pathlib.Path(*argv[3:] or ['inception.npz'])
    digest = inception(pathlib.Path(argv[2]), out)
    print(f'{out}: SHA-256 {digest}; judge by it with --judge=inception:{out}#{digest}')
    return
  if len(argv) != 2:
    raise errors.UserError('give one name of a TensorFlow Datasets set: python -m dgm_jax.prepare mnist')
  from dgm_jax.data import originals, tfds

  if argv[1] not in originals.SETS and importlib.util.find_spec('tensorflow') is None:
    raise errors.UserError(f"writing {argv[1]} needs TensorFlow, reading it will not: pip install 'dgm_jax[prepare]'")
  data_dir = flags.FLAGS.data_dir
  home = pathlib.Path(data_dir).expanduser() if data_dir else tfds.data_dir()
  folder, counts = (originals.prepare if argv[1] in originals.SETS else prepare)(argv[1], home)
  print(f'{folder} holds {", ".join(f"{n} {split}" for split, n in counts.items())} examples, counted')
  if home != tfds.data_dir():
    print(f'to train on it, set TFDS_DATA_DIR={home}')


def prepare(name: str, home: pathlib.Path) -> tuple[pathlib.Path, dict[str, int]]:
  """Downloads and writes a set, then counts what was written.

  Returns:
    Its folder, and the number of examples of each split.

  Raises:
    UserError: the set is unknown, cannot be downloaded or written, or is stored in another form there.
  """
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  import tensorflow_datasets as tfds

  from dgm_jax.data.tfds import counted

  try:
    builder = tfds.builder(name, data_dir=home, file_format='array_record')
    print(f'{name}: downloading and writing to {builder.data_path}', flush=True)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
  except Exception as error:  # each set has a builder of its own, which may raise anything
    reason = (str(error).splitlines() or [''])[0][:200]
    raise errors.UserError(f'cannot prepare {name} in {home}: {type(error).__name__}: {reason}') from error
  return pathlib.Path(builder.data_path), counted(builder)


def inception(source: pathlib.Path, out: pathlib.Path) -> str:
  """Converts weights of the Inception network to an .npz file; returns that file's SHA-256.

  Raises:
    UserError: the file is not there, is damaged or another one, or the package that reads it is absent.
  """
  import numpy as np

  from dgm_jax.evals.judges.inception import check
  from dgm_jax.models import inception_weights

  if not source.is_file():
    raise errors.UserError(f'{source} is not a file: give the weights that you have, .pth, .tgz or .pb')
  try:
    if source.suffix == '.pth':
      _verify_name(source)
      arrays = inception_weights.from_state(_torch_arrays(source))
    else:
      arrays = inception_weights.from_graph(_graph_arrays(source))
  except KeyError as error:
    raise errors.UserError(f'{source} is not of the Inception network of 2015-12-05: it has no {error}') from error
  check(arrays, source)
  with out.open('wb') as file:
    np.savez(file, **arrays)
  return hashlib.sha256(out.read_bytes()).hexdigest()


def _verify_name(source: pathlib.Path) -> None:
  """Compares a file's SHA-256 with the digits that its name ends in, as those of PyTorch's hub do."""
  digits = re.search(r'-([0-9a-f]{8,64})\.pth$', source.name)
  if digits is None:
    raise errors.UserError(f'{source} does not bear the digits of its SHA-256: keep its name, ...-6726825d.pth')
  digest = hashlib.sha256(source.read_bytes()).hexdigest()
  if not digest.startswith(digits[1]):
    raise errors.UserError(f'{source} has the SHA-256 {digest}, not {digits[1]}...: bring the file again')


def _torch_arrays(source: pathlib.Path) -> Mapping[str, Any]:
  if importlib.util.find_spec('torch') is None:
    raise errors.UserError(f'reading {source} needs PyTorch, once: pip install torch')
  import torch  # pyright: ignore[reportMissingImports]

  try:
    state = torch.load(source, map_location='cpu', weights_only=True)
    return {name: tensor.numpy() for name, tensor in state.items()}
  except Exception as error:  # what a damaged file raises depends on where it is damaged
    reason = (str(error).splitlines() or [''])[0][:200]
    raise errors.UserError(f'{source} cannot be read by PyTorch: {reason}') from error


def _graph_arrays(source: pathlib.Path) -> Mapping[str, Any]:
  if importlib.util.find_spec('tensorflow') is None:
    raise errors.UserError(f"reading {source} needs TensorFlow, once: pip install 'dgm_jax[prepare]'")
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  import tensorflow as tf

  try:
    graph = tf.compat.v1.GraphDef.FromString(_graph_bytes(source))
  except Exception as error:  # of the archive, or of the graph in it
    reason = (str(error).splitlines() or [''])[0][:200]
    raise errors.UserError(f'{source} holds no graph of TensorFlow: {reason}') from error
  constants = [node for node in graph.node if node.op == 'Const']
  return {node.name: tf.make_ndarray(node.attr['value'].tensor) for node in constants}


def _graph_bytes(source: pathlib.Path) -> bytes:
  if source.suffix == '.pb':
    return source.read_bytes()
  with tarfile.open(source) as archive:
    member = archive.extractfile(GRAPH_FILE)
    if member is None:
      raise FileNotFoundError(f'{GRAPH_FILE} is no file')
    return member.read()


def define_flags() -> None:
  """Defines the command line."""
  flags.DEFINE_string('data_dir', None, 'where sets lie; $TFDS_DATA_DIR, else ~/tensorflow_datasets')


def run() -> None:
  """Runs the program."""
  define_flags()
  app.run(lambda argv: cli.run(main, argv))
