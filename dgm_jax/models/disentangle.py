"""The discriminator of FactorVAE, which separates latents from latents with shuffled dimensions.

Axes: B batch, Z latents.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ['LatentDiscriminator', 'he']

he = nn.initializers.he_normal()


class LatentDiscriminator(nn.Module):
  """Dense layers with leaky rectifiers of slope 0.2, and two classes; their difference is the logit of the first.

  The paper and its released code differ in the depth; six layers of 1000 units are those of Locatello et al. 2019.

  Reference: Kim & Mnih 2018, arXiv:1802.05983, appendix A.
  """

  hidden: Sequence[int] = (1000,) * 6
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, z: Float[Array, 'B Z']) -> Float[Array, ' B']:
    """Computes the logit that z comes from q(z) and not from the product of its marginals."""
    h = z
    for size in self.hidden:
      h = jax.nn.leaky_relu(nn.Dense(size, kernel_init=he, dtype=self.dtype)(h), 0.2)
    logits = nn.Dense(2, dtype=self.dtype)(h).astype(jnp.float32)
    return logits[:, 0] - logits[:, 1]
