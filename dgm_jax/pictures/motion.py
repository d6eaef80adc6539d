"""Animations: a picture over the course of training, and latents that move together, as GIF."""

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dgm_jax.core import Key, State, System
from dgm_jax.internal.files import make_folder, write_atomic
from dgm_jax.pictures import gallery
from dgm_jax.views import needs

__all__ = ['over_training', 'traversals', 'write_gif']

SECONDS = 0.25  # that a frame is shown
LAST = 1.5  # that the last frame is shown
STEPS = 13  # frames of a traversal, one way


def write_gif(
  path: str | os.PathLike, frames: Sequence[np.ndarray], pause: float = SECONDS, last: float = LAST
) -> None:
  """Writes frames as a GIF that repeats for ever, in one piece; makes the folder if missing.

  Args:
    path: of the file.
    frames: uint8 [H, W, 1 or 3] each; frames of another size than the last are scaled to it.
    pause: seconds that a frame is shown.
    last: seconds that the last frame is shown.

  Raises:
    ValueError: there are no frames.
  """
  if not len(frames):
    raise ValueError('write_gif takes at least one frame, got none')
  images = [Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame) for frame in map(np.asarray, frames)]
  images = [image.resize(images[-1].size, Image.Resampling.NEAREST) for image in images]
  milliseconds = [round(1000 * pause)] * (len(images) - 1) + [round(1000 * last)]
  data = io.BytesIO()
  images[0].save(data, 'gif', save_all=True, append_images=images[1:], duration=milliseconds, loop=0)
  make_folder(Path(path).parent)
  write_atomic(Path(path), data.getvalue())


def over_training(files: Sequence[Path]) -> list[np.ndarray]:
  """Reads pictures of one name, by rising step, as frames [H, W, 1 or 3]."""
  frames = []
  for path in files:
    with Image.open(path, formats=('PNG',)) as image:
      pixels = np.asarray(image if image.mode == 'L' else image.convert('RGB'))
      frames.append(pixels.reshape(*pixels.shape[:2], -1))
  return frames


@needs(*gallery.traversals.needs)
def traversals(
  key: Key, system: System, state: State, x: np.ndarray, to_uint8: gallery.ToUint8, steps: int = STEPS
) -> list[np.ndarray]:
  """Draws the frames of a picture in which the latents of `gallery.traversals` move, there and back.

  A frame is a grid of the decodings of one value of each latent: from the left and from the top, those that carry most
  come first.

  Args:
    key: for encoders that are random.
    system: with the views `encode`, `decode` and `prior`.
    state: the trained state.
    x: [B, ...] in the model's space; the code of x[0] is changed.
    to_uint8: [n, ...] in the model's space -> uint8 [n, h, w, c].
    steps: values of a latent.

  Returns:
    2 steps - 2 frames, uint8 [H, W, c] each.
  """
  codes = gallery.moved(key, system, state, x, steps)  # [rows, steps, Z]
  decode = lambda z: gallery.call(system.views.decode, state, key, state, z)
  forth = [gallery.grid(np.asarray(to_uint8(decode(codes[:, step])))) for step in range(steps)]
  return forth + forth[-2:0:-1]
