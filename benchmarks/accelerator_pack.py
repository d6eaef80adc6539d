"""What a machine without a network lacks, in parts, and what comes back from it.

A stream is a tar.xz in parts NAME.tar.xz.1-of-3, ...; each can be brought alone, and is unpacked once all its parts
are there. 'wheels' has the packages that dgm_jax needs beside those of THERE, the others sets of TFDS as they are
prepared here.
"""

import importlib.metadata
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PART = 30 * 2**20  # bytes
THERE = (
  'jax',
  'jaxlib',
  'flax',
  'optax',
  'orbax-checkpoint',
  'torch',
  'numpy',
  'pillow',
  'scikit-learn',
  'chex',
  'rich',
)
SETS = ('mnist', 'cifar10')
PYTHON = '3.12'  # of that machine
PLATFORMS = ('manylinux_2_28', 'manylinux_2_27', 'manylinux_2_17', 'manylinux2014', 'manylinux1')
MOST, FILES = 15 * 2**20, 5  # bytes of a zip, and zips, that come back


def pack(folder: Path, names: tuple[str, ...] = ('wheels', *SETS)) -> list[Path]:
  """Writes the parts of each stream into the folder, and returns them."""
  folder.mkdir(parents=True, exist_ok=True)
  parts = []
  for name in names:
    with tempfile.TemporaryDirectory() as place:
      source = _wheels(Path(place)) if name == 'wheels' else _home() / name
      if not source.is_dir():
        print(f'{name}: not here; dgm prepare {name} gets it')
        continue
      parts += split(folder, name, archive(source, name))
  for part in parts:
    print(f'{part}: {part.stat().st_size / 2**20:.1f} MiB')
  return parts


def archive(source: Path, name: str) -> bytes:
  """A folder as the bytes of a tar.xz."""
  file = io.BytesIO()
  with tarfile.open(fileobj=file, mode='w:xz', preset=1) as tar:
    tar.add(source, name)
  return file.getvalue()


def split(folder: Path, name: str, data: bytes, size: int = PART) -> list[Path]:
  """Writes the bytes in parts of at most `size`, in place of earlier ones of the name."""
  for old in folder.glob(f'{name}.tar.xz.*'):
    old.unlink()
  pieces = [data[at : at + size] for at in range(0, len(data), size)]
  paths = [folder / f'{name}.tar.xz.{number}-of-{len(pieces)}' for number in range(1, len(pieces) + 1)]
  for path, piece in zip(paths, pieces, strict=True):
    path.write_bytes(piece)
  return paths


def unpack(folder: Path) -> list[str]:
  """Unpacks every stream whose parts are all there, installs the wheels beside them, and says what to export.

  Returns:
    the names of the streams that were unpacked.
  """
  done = []
  for name in sorted({path.name.partition('.tar.xz.')[0] for path in folder.glob('*.tar.xz.*-of-*')}):
    parts = {path.name.rpartition('.')[2]: path for path in folder.glob(f'{name}.tar.xz.*')}
    count = int(next(iter(parts)).rpartition('-of-')[2])
    missing = [number for number in range(1, count + 1) if f'{number}-of-{count}' not in parts]
    if missing:
      print(f'{name}: parts {", ".join(map(str, missing))} of {count} are not there yet')
      continue
    data = b''.join(parts[f'{number}-of-{count}'].read_bytes() for number in range(1, count + 1))
    with tarfile.open(fileobj=io.BytesIO(data), mode='r:xz') as tar:
      tar.extractall(folder / ('' if name == 'wheels' else 'tfds'), filter='data')
    done.append(name)
  site = folder / 'site'
  if 'wheels' in done:
    wheels = sorted(map(str, (folder / 'wheels').glob('*.whl')))
    command = [
      sys.executable,
      '-m',
      'pip',
      'install',
      '-q',
      '--no-index',
      '--no-deps',
      '--upgrade',
      '--target',
      str(site),
    ]
    subprocess.run([*command, *wheels], check=True)
  print(f'export PYTHONPATH={site.absolute()}:$PYTHONPATH TFDS_DATA_DIR={(folder / "tfds").absolute()}')
  return done


def _home() -> Path:
  """Where sets of TFDS lie."""
  return Path(os.environ.get('TFDS_DATA_DIR', '~/tensorflow_datasets')).expanduser()


def missing_there() -> dict[str, str]:
  """The packages that dgm_jax needs beside those of THERE, with the versions that are installed here."""
  root = Path(__file__).resolve().parents[1]
  listed = re.search(r'^dependencies = \[(.*?)^\]', (root / 'pyproject.toml').read_text(), re.M | re.S)
  wanted = [_normal(line) for line in re.findall(r'"([\w.-]+)', listed[1] if listed else '')]
  have = _closure([_normal(name) for name in THERE])
  return {name: version for name, version in _closure(wanted).items() if name not in have}


def _normal(name: str) -> str:
  return re.sub(r'[-_.]+', '-', name).lower()


def _closure(names: list[str]) -> dict[str, str]:
  """Installed packages that these need, themselves too, with their versions."""
  found, left = {}, list(names)
  while left:
    name = left.pop()
    if name in found:
      continue
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue  # of another platform or Python
    needs = [need for need in importlib.metadata.requires(name) or () if 'extra ==' not in need]
    left += [_normal(match[0]) for need in needs if (match := re.match(r'[\w.-]+', need))]
  return found


def _wheels(place: Path) -> Path:
  """Downloads the wheels of what is missing there, and returns their folder."""
  folder = place / 'wheels'
  options = ['--no-deps', '--only-binary=:all:', '--python-version', PYTHON, '--implementation', 'cp']
  options += [word for platform in PLATFORMS for word in ('--platform', f'{platform}_x86_64')]
  for name, version in missing_there().items():
    command = [sys.executable, '-m', 'pip', 'download', '-q', *options, '-d', str(folder), f'{name}=={version}']
    if subprocess.run(command, stderr=subprocess.DEVNULL).returncode and not _made(name, version, folder):
      print(f'{name}=={version}: no wheel for Python {PYTHON}; left out')
  return folder


def _made(name: str, version: str, folder: Path) -> bool:
  """Makes the wheel of a package that is published as source alone, and keeps it if it fits every Python."""
  with tempfile.TemporaryDirectory() as place:
    command = [sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '-w', place, f'{name}=={version}']
    subprocess.run(command, stderr=subprocess.DEVNULL)
    wheels = list(Path(place).glob('*-none-any.whl'))
    for wheel in wheels:
      shutil.copy(wheel, folder)
  return bool(wheels)


def shorten(path: Path, most: int = MOST) -> None:
  """Keeps the end of a file that has grown too long to come back."""
  if path.stat().st_size > most:
    path.write_bytes(path.read_bytes()[-most:])


class Bundle:
  """Results of runs in a few zips that may come back: figures and reports, no checkpoints."""

  KEPT = ('*.json', '*.jsonl', 'report.html')

  def __init__(self, out: Path):
    self.out, self.number = out, 1
    for old in out.glob('runs_*.zip'):
      old.unlink()

  def add(self, folder: Path, record: Path) -> None:
    """Adds a run and its record; what does not fit is named and left out."""
    paths = [path for pattern in self.KEPT for path in sorted(folder.glob(pattern))]
    for path in [*([record] if record.is_file() else []), *paths]:
      data = path.read_bytes()
      size = len(data)  # compressed it is less
      target = self.out / f'runs_{self.number}.zip'
      if target.exists() and target.stat().st_size + size > MOST:
        self.number += 1
        target = self.out / f'runs_{self.number}.zip'
      if size > MOST or self.number > FILES:
        print(f'{path}: too large to come back, left out')
        continue
      with zipfile.ZipFile(target, 'a', zipfile.ZIP_DEFLATED) as file:
        file.writestr(f'{"results" if path == record else folder.name}/{path.name}', data)
