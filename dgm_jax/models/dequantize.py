"""A trained distribution of the noise that dequantizes whole pixels.

Axes: B batch, H height, W width, C channels.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

__all__ = ['Dequantizer']


class Dequantizer(nn.Module):
  """Noise u in (0, 1) for each pixel, u = sigmoid(mean + deviation e) with normal e, and log q(u) [B] in nats.

  Two convolutions compute mean and deviation from the whole pixels. Initially the noise is nearly uniform.

  Reference: Ho et al. 2019, arXiv:1902.00275, section 3.1 (with one layer in place of its flow).
  """

  width: int = 32
  levels: int = 256  # of a pixel
  dtype: jnp.dtype | str | None = None

  @nn.compact
  def __call__(
    self, x: Float[Array, 'B H W C'], key: Key[Array, '']
  ) -> tuple[Float[Array, 'B H W C'], Float[Array, 'B']]:
    h = jnp.floor(self.levels * x) / ((self.levels - 1) / 2) - 1
    h = nn.relu(nn.Conv(self.width, (3, 3), dtype=self.dtype)(h))
    params = nn.Conv(2 * x.shape[-1], (3, 3), kernel_init=nn.initializers.zeros, dtype=self.dtype)(h)
    mean, raw = jnp.split(params.astype(jnp.float32), 2, -1)
    log_deviation = raw + 0.5  # a normal of deviation 1.65 is nearest to a logistic
    e = jax.random.normal(key, x.shape)
    v = mean + jnp.exp(log_deviation) * e
    log_q = -0.5 * e**2 - 0.5 * jnp.log(2 * jnp.pi) - log_deviation - jax.nn.log_sigmoid(v) - jax.nn.log_sigmoid(-v)
    return jax.nn.sigmoid(v), log_q.reshape(x.shape[0], -1).sum(1)
