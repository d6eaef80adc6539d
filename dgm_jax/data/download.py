"""Files from the network, kept only if they are the very files that were asked for."""

import hashlib
import http.client
import pathlib
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import NamedTuple

from tqdm import tqdm

from dgm_jax.errors import UserError

__all__ = ['Remote', 'fetch']

SECONDS = 60  # of silence after which a server is given up
BLOCK = 1 << 20  # bytes


class Remote(NamedTuple):
  """A file on the network: its address, its size in bytes, and the SHA-256 of its content in hexadecimal digits."""

  url: str
  size: int
  sha256: str


def fetch(remote: Remote, target: pathlib.Path) -> None:
  """Downloads a file and checks its size and SHA-256. No more bytes are taken than it should have.

  Raises:
    UserError: it cannot be downloaded, or the bytes are others. In that case `target` is not there.
  """
  digest, size = hashlib.sha256(), 0
  try:
    with target.open('wb') as file, tqdm(
      total=remote.size, desc=target.name, unit='B', unit_scale=True, leave=False, disable=None, file=sys.stderr
    ) as bar:  # fmt: skip
      for block in _blocks(remote.url, target.name):
        size += len(block)
        if size > remote.size:
          break
        digest.update(block)
        file.write(block)
        bar.update(len(block))
    if size != remote.size:
      more = 'more than' if size > remote.size else f'{size:,} instead of'
      raise UserError(f'{target.name} from {_host(remote.url)} has {more} {remote.size:,} bytes: download it again')
    if digest.hexdigest() != remote.sha256:
      raise UserError(
        f'{target.name} from {_host(remote.url)} has the SHA-256 {digest.hexdigest()} instead of {remote.sha256}: it is'
        ' damaged or another file; download it again'
      )
  except BaseException:
    target.unlink(missing_ok=True)
    raise


def _blocks(url: str, name: str) -> Iterator[bytes]:
  """Yields the content of a file on the network, block by block."""
  try:
    with urllib.request.urlopen(url, timeout=SECONDS) as answer:
      while block := answer.read(BLOCK):
        yield block
  except (OSError, http.client.HTTPException) as error:
    reason = ' '.join(str(getattr(error, 'reason', error)).split())[:200]
    raise UserError(
      f'cannot download {name} from {_host(url)}: {reason}: check the network and the proxy, or prepare'
      ' the set where there is a network, and copy its folder'
    ) from error


def _host(url: str) -> str:
  return urllib.parse.urlsplit(url).hostname or 'this machine'
