"""Labels that a class-conditional system is told, of data, drawn, or by the rows of a picture.

Axes: B batch, n examples, K classes.
"""

import math

import jax
import jax.numpy as jnp

from dgm_jax import config as experiment
from dgm_jax.core import Batch, Key

__all__ = ['by_rows', 'drawn', 'told']


def told(classes: int, batch: Batch) -> jax.Array | None:
  """The labels of a batch as one-hot vectors, [B, K]; None where `classes` is 0.

  Raises:
    UserError: the system is to be told labels, and there are none.
  """
  experiment.require(not classes or 'y' in batch, 'config.conditional=True needs labels; config.data has none')
  return jax.nn.one_hot(batch['y'], classes) if classes else None


def drawn(key: Key, n: int, classes: int, shares: tuple[float, ...]) -> jax.Array:
  """Draws n labels, int32 [n].

  Args:
    shares: of the classes among the training images, `config.data.class_shares`; () where all are as likely.
  """
  odds = jnp.asarray(shares, jnp.float32) if shares else jnp.ones(classes)
  return jax.random.categorical(key, jnp.log(odds), shape=(n,)).astype(jnp.int32)


def by_rows(n: int, classes: int) -> jax.Array:
  """The labels of a square picture grid of n images, a class to each row in turn, int32 [n]."""
  return (jnp.arange(n) // math.ceil(math.sqrt(n)) % classes).astype(jnp.int32)
