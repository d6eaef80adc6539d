"""Features of the codes above, which condition a prior over codes.

Axes: B batch, h, w of a level above, H, W of the own level, F features.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dgm_jax.models.vqvae import Residual

__all__ = ['Conditioner', 'enlarge']


class Conditioner(nn.Module):
  """Residual blocks over the codes of each level above, enlarged to the own level: [B, H, W, F].

  Reference: Razavi et al. 2019, arXiv:1906.00446, section 3.2 and appendix B.
  """

  codes: int
  size: tuple[int, int]  # H, W
  features: int = 64
  blocks: int = 3
  width: int = 64
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, above: Sequence[Int[Array, 'B _ _']]) -> Float[Array, 'B H W F']:
    total = jnp.zeros((len(above[0]), *self.size, self.features), self.dtype)
    for codes in above:
      h = nn.Embed(self.codes, self.features, dtype=self.dtype)(codes)
      h = nn.Conv(self.features, (3, 3), dtype=self.dtype)(h)
      total += enlarge(Residual(self.blocks, self.width, self.dtype)(h), self.size)
    return jax.nn.relu(total)


def enlarge(h: Float[Array, 'B h w F'], size: tuple[int, int]) -> Float[Array, 'B H W F']:
  """Repeats each position as often as the larger map needs and crops it, as the autoencoder does with its maps."""
  for axis, length in zip((1, 2), size, strict=True):
    h = jnp.repeat(h, -(-length // h.shape[axis]), axis)
  return h[:, : size[0], : size[1]]
