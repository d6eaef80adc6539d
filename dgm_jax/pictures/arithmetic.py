"""Arithmetic of latents: codes of generated images averaged by kind, and sums and differences of the averages decoded.

Who looks at a grid of samples picks by number those that have something in common; one code is too noisy to stand for
a kind, the average of three is not.

Reference: Radford et al. 2016, arXiv:1511.06434, section 6.3.2.
"""

import re

import numpy as np

from dgm_jax.core import Key, State, System
from dgm_jax.errors import UserError
from dgm_jax.pictures import gallery
from dgm_jax.views import needs

__all__ = ['parse', 'picture']

AROUND = 8  # neighbours of the result that are drawn
Terms = list[tuple[int, list[int]]]  # sign and numbers of samples


def parse(text: str, n: int) -> Terms:
  """Parses '3,17,20-5,8,9+1,2,4' to [(1, [3, 17, 20]), (-1, [5, 8, 9]), (1, [1, 2, 4])].

  The numbers are those of n samples, from 0.

  Raises:
    UserError: it has another form, or a number is not below n.
  """
  if not re.fullmatch(r'\d+(,\d+)*([+-]\d+(,\d+)*)*', text):
    raise UserError(
      f"--terms='{text}' is no sum of samples: give their numbers, kinds apart by + and -: --terms=3,17,20-5,8,9+1,2,4"
    )
  parts = re.findall(r'([+-]?)([\d,]+)', text)
  terms = [(-1 if sign == '-' else 1, [int(number) for number in numbers.split(',')]) for sign, numbers in parts]
  largest = max(max(numbers) for _, numbers in terms)
  if largest >= n:
    raise UserError(f'--terms names sample {largest}, but there are {n}, from 0: raise --n')
  return terms


def combined(latents: np.ndarray, terms: Terms) -> tuple[np.ndarray, np.ndarray]:
  """Returns the average of each term [T, Z] of latents [n, Z], and the signed sum of the averages [Z]."""
  averages = np.stack([latents[numbers].mean(0) for _, numbers in terms])
  return averages, np.array([sign for sign, _ in terms], latents.dtype) @ averages


@needs('prior', 'decode', 'critic')
def picture(
  key: Key, system: System, state: State, n: int, terms: Terms, to_uint8: gallery.ToUint8, spread: float = 0.25
) -> np.ndarray:
  """Draws a grid with a row for each term: its samples and, last, the image of their average.

  Below are the sum's neighbours.

  Args:
    key: that of the samples, so that their numbers are those of the grid that `System.sample` gives.
    system: a game, with the views `prior` and `decode`, whose samples are the decoded draws of its prior.
    state: the trained state.
    n: samples that are drawn.
    terms: of the sum.
    to_uint8: [m, ...] in the model's space -> uint8 [m, h, w, c].
    spread: neighbours are the sum and noise uniform in [-spread, spread], in each latent.

  Returns:
    The grid, uint8 [H, W, c]; its last image is that of the sum itself.
  """
  latents = gallery.call(system.views.prior.sample, state, key, state, n, static=(2,))
  averages, total = combined(latents, terms)
  columns = max(AROUND, *(len(numbers) for _, numbers in terms)) + 1
  noise = np.random.default_rng(0).uniform(-spread, spread, (columns - 1, *total.shape))
  codes = np.zeros((len(terms) + 1, columns, *total.shape), latents.dtype)
  for row, average, (_, numbers) in zip(codes, averages, terms, strict=False):
    row[: len(numbers)], row[-1] = latents[numbers], average
  codes[-1, :-1], codes[-1, -1] = total + noise, total
  images = to_uint8(gallery.call(system.views.decode, state, key, state, codes.reshape(-1, *total.shape)))
  images = np.array(images).reshape(*codes.shape[:2], *images.shape[1:])
  for row, (_, numbers) in zip(images, terms, strict=False):
    row[len(numbers) : -1] = gallery.BACKGROUND
  return gallery.grid(images.reshape(-1, *images.shape[2:]), columns)
