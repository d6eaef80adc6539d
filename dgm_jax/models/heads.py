"""What a critic says of its features: a value, with or without a label, and classes.

Axes: B batch, F features, K classes.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ['HEADS', 'Heads', 'Said']

# none: no label is used; projection: the value depends on it; auxiliary: a classifier; twin: two classifiers.
HEADS = ('none', 'projection', 'auxiliary', 'twin')


class Said(NamedTuple):
  """The outputs of a critic that may know labels."""

  value: jax.Array  # [B]
  features: jax.Array  # [B, F]
  logits: jax.Array | None = None  # [B, K] of the classifier
  twin: jax.Array | None = None  # [B, K] of the one that learns generated examples


class Heads(nn.Module):
  """Linear layers from features [B, F] to a value and to logits of K classes.

  The value of a projection is psi(h) + <V_y, h>. V is a kernel [F, K], so that norms of kernels apply to it.

  Reference: Miyato & Koyama 2018, arXiv:1802.05637, equation 3; Odena et al. 2017, arXiv:1610.09585, section 3; Gong
  et al. 2019, arXiv:1907.02690, section 3.
  """

  head: str = 'none'
  classes: int = 0
  kernel_init: Callable = nn.initializers.normal(0.02)

  @nn.compact
  def __call__(self, h: Float[Array, 'B F'], label: Array | None) -> Said:
    h = h.astype(jnp.float32)
    dense = lambda size, name, bias=True: nn.Dense(size, use_bias=bias, kernel_init=self.kernel_init, name=name)
    value, logits, twin = dense(1, 'value')(h)[:, 0], None, None
    if self.head == 'projection':
      products, own = dense(self.classes, 'projection', False)(h), jnp.asarray(label)
      value = value + jnp.take_along_axis(products, own[:, None], 1)[:, 0]
    if self.head in ('auxiliary', 'twin'):
      logits = dense(self.classes, 'classifier')(h)
    if self.head == 'twin':
      twin = dense(self.classes, 'twin')(h)
    return Said(value, h, logits, twin)
