"""Downloads a TensorFlow Datasets set and writes it in the form that training reads without TensorFlow.

  python -m dgm_jax.prepare mnist [--data_dir=DIR]

Needs the extra: pip install 'dgm_jax[prepare]'. Training does not.
"""

import importlib.util
import os
import pathlib

from absl import app, flags

from dgm_jax import cli

_DATA_DIR = flags.DEFINE_string('data_dir', None, 'where sets lie; $TFDS_DATA_DIR, else ~/tensorflow_datasets')


def main(argv: list[str]) -> None:
  """Prepares the set named by `argv[1]`.

  Raises:
    UserError: no or several names, TensorFlow is absent, or the set cannot be had.
  """
  if len(argv) != 2:
    raise cli.UserError('give one name of a TensorFlow Datasets set: python -m dgm_jax.prepare mnist')
  if importlib.util.find_spec('tensorflow') is None:
    raise cli.UserError(f"writing {argv[1]} needs TensorFlow, reading it will not: pip install 'dgm_jax[prepare]'")
  from dgm_jax.data import tfds

  home = pathlib.Path(_DATA_DIR.value).expanduser() if _DATA_DIR.value else tfds.data_dir()
  folder, counts = prepare(argv[1], home)
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

  from dgm_jax.data.tfds import verify

  try:
    builder = tfds.builder(name, data_dir=home, file_format='array_record')
    print(f'{name}: downloading and writing to {builder.data_path}', flush=True)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
  except Exception as error:  # each set has a builder of its own, which may raise anything
    reason = (str(error).splitlines() or [''])[0][:200]
    raise cli.UserError(f'cannot prepare {name} in {home}: {type(error).__name__}: {reason}') from error
  splits = builder.info.splits
  verify([(pathlib.Path(f.filename), f.examples_in_shard) for s in splits.values() for f in s.file_instructions])
  return pathlib.Path(builder.data_path), {name: split.num_examples for name, split in splits.items()}


if __name__ == '__main__':
  app.run(lambda argv: cli.run(main, argv))
