"""A grid of Gaussian filters that cuts a window out of an image, and pastes one into it.

Positions are counted from 1, as in the paper: the first row or column of an image is at 1, its middle at (A + 1) / 2.

Axes: B images, H height, W width, C channels, N rows and columns of a window.

Reference: Gregor et al. 2015, arXiv:1502.04623, section 3.2.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ['Window', 'box', 'filters', 'read', 'window', 'write']


class Window(NamedTuple):
  """A square window of each image, [B] each; positions and stride are in pixels."""

  x: jax.Array  # column of the centre
  y: jax.Array  # row of the centre
  stride: jax.Array  # between neighbouring filters
  variance: jax.Array  # of each filter, in square pixels
  intensity: jax.Array


def window(numbers: Float[Array, 'B 5'], n: int, size: tuple[int, int]) -> Window:
  """Computes the windows that five outputs of a network stand for; zeros are a window over the whole image.

  Args:
    numbers: [B, 5], centre x and y in half images from the middle, and the logarithms of variance, stride (over that of
      the whole image) and intensity.
    n: rows and columns of the window, at least 2.
    size: height and width of the image.

  Reference: Gregor et al. 2015, arXiv:1502.04623, equations 21 to 24.
  """
  height, width = size
  x, y, log_variance, log_stride, log_intensity = (numbers[:, i].astype(jnp.float32) for i in range(5))
  return Window(
    x=(width + 1) / 2 * (x + 1),
    y=(height + 1) / 2 * (y + 1),
    stride=(max(size) - 1) / (n - 1) * jnp.exp(log_stride),
    variance=jnp.exp(log_variance),
    intensity=jnp.exp(log_intensity),
  )


def filters(
  centre: Float[Array, 'B'], stride: Float[Array, 'B'], variance: Float[Array, 'B'], n: int, size: int
) -> Float[Array, 'B N A']:
  """Computes the filters of one axis. The weights of each sum to 1, however far outside of the image it lies.

  Args:
    centre: [B] pixels.
    stride: [B] pixels.
    variance: [B] square pixels.
    n: the number of filters.
    size: A, the number of pixels.

  Reference: Gregor et al. 2015, arXiv:1502.04623, equations 19, 20, 25 and 26.
  """
  means = _means(centre, stride, n)
  distance = jnp.arange(1, size + 1, dtype=jnp.float32)[None, None] - means[..., None]
  # A softmax is the paper's quotient: of a filter far outside it neither divides by 0 nor loses its slope.
  return jax.nn.softmax(-jnp.square(distance) / (2 * variance[:, None, None]), -1)


def read(image: Float[Array, 'B H W C'], at: Window, n: int) -> Float[Array, 'B N N C']:
  """Computes the contents of the windows, times their intensity.

  Reference: Gregor et al. 2015, arXiv:1502.04623, equation 27.
  """
  rows, columns = _both(at, n, image.shape[1:3])
  # Columns first: rows of pixels are multiplied as they lie in memory.
  bands = jnp.einsum('bchw,bmw->bchm', jnp.moveaxis(image, -1, 1), columns)
  return at.intensity[:, None, None, None] * jnp.einsum('bnh,bchm->bnmc', rows, bands)


def write(patch: Float[Array, 'B N N C'], at: Window, size: tuple[int, int]) -> Float[Array, 'B H W C']:
  """Computes images that hold the patches in their windows, divided by the intensity.

  Reference: Gregor et al. 2015, arXiv:1502.04623, equation 29.
  """
  rows, columns = _both(at, patch.shape[1], size)
  bands = jnp.einsum('bnh,bnmc->bchm', rows, patch / at.intensity[:, None, None, None])
  return jnp.moveaxis(jnp.einsum('bchm,bmw->bchw', bands, columns), 1, -1)


def box(at: Window, n: int) -> Float[Array, 'B 5']:
  """Computes left, top, right and bottom of the windows, by the outermost filters, and the filters' deviation."""
  half = (n - 1) / 2 * at.stride
  return jnp.stack([at.x - half, at.y - half, at.x + half, at.y + half, jnp.sqrt(at.variance)], -1)


def _both(at: Window, n: int, size: tuple[int, ...]) -> tuple[Array, Array]:
  """Computes the filters of rows [B, N, H] and of columns [B, N, W]."""
  height, width = size
  return filters(at.y, at.stride, at.variance, n, height), filters(at.x, at.stride, at.variance, n, width)


def _means(centre: Array, stride: Array, n: int) -> Array:
  """Computes the positions of the filters, [B, N]."""
  return centre[:, None] + (jnp.arange(1, n + 1, dtype=jnp.float32) - n / 2 - 0.5)[None] * stride[:, None]
