"""PixelRNN: a masked convolution and recurrent layers over the image, with residual connections.

Axes: B batch, H height, W width, C channels, D condition, P parameters of a pixel's distribution.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dgm_jax.models.pixelcnn import Condition, head
from dgm_jax.nn import masked
from dgm_jax.nn.masked import WHOLE, Place, Pointwise, from_image, group_sizes
from dgm_jax.nn.recurrent import LAYERS

__all__ = ['PixelRNN']


class PixelRNN(nn.Module):
  """The network.

  With Diagonal BiLSTMs the receptive field of a pixel is all pixels before it, with Row LSTMs a cone above it.

  Reference: van den Oord et al. 2016, arXiv:1601.06759, section 3 and table 1.
  """

  num_parameters: int
  hidden: int = 16  # h of a recurrent layer; the maps between them have 2 h
  layers: int = 7
  layer: str = 'diagonal_bilstm'  # or row_lstm
  head: int = 32
  groups: int = 1  # autoregressive groups within a pixel
  first: int = 7  # the side of the first kernel
  size: int = 3  # of a Row LSTM's kernels
  dtype: jnp.dtype | str = 'float32'

  def setup(self):
    wide, narrow = group_sizes(2 * self.hidden, self.groups), group_sizes(self.hidden, self.groups)
    self.before = masked.MaskedConv(wide, masked.causal(self.first, False), True, from_image, dtype=self.dtype)
    self.stack = [LAYERS[self.layer](narrow, self.size, self.dtype) for _ in range(self.layers)]
    self.widen = [Pointwise(wide, dtype=self.dtype) for _ in range(self.layers)]

  def __call__(self, image: Float[Array, 'B H W C'], condition: Condition = None) -> Float[Array, 'B H W P']:
    """Computes the parameters of all pixels."""
    wider = ((0, 0), (0, 0), (0, self.margin), (0, 0))
    if condition is not None and condition.ndim == 4:
      condition = jnp.pad(condition, wider, 'edge')
    image = jnp.pad(image, wider)
    return self.pixels(image, self.rows(image, condition), condition)[:, :, : image.shape[2] - self.margin]

  @property
  def margin(self) -> int:
    """The number of columns past the last one that a sampler must compute."""
    return LAYERS[self.layer].margin

  def rows(self, image: Float[Array, 'B H W C'], condition: Condition = None, at: Place = WHOLE) -> Any:
    """Computes the input of each recurrent layer's row from the rows above."""
    return [layer.above(image, condition, at) for layer in self.stack]

  @nn.compact
  def pixels(
    self, image: Float[Array, 'B H W C'], above: Any, condition: Condition = None, at: Place = WHOLE
  ) -> Float[Array, '*S P']:
    """Computes the parameters of the pixels at a place."""
    x = self.before(image, at)
    for layer, widen, above_layer in zip(self.stack, self.widen, masked.column(above, at), strict=True):
      x = x + widen(layer(x, above_layer, condition, at))
    return head(x, (self.head, self.head), self.num_parameters, self.groups, self.dtype)
