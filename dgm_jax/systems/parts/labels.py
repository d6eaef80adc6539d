"""Labels of class-conditional systems: of data, sampled, or by the rows of a picture.

Axes: B batch, n examples, K classes.
"""

import math

import jax
import jax.numpy as jnp

from dgm_jax import config as experiment
from dgm_jax.core import Batch, Key

__all__ = ['condition_of', 'labels_by_row', 'sample_labels']


def condition_of(classes: int, batch: Batch) -> jax.Array | None:
  """Returns the labels of a batch as one-hot vectors, [B, K]; None if `classes` is 0.

  Raises:
    UserError: the system is conditional, and the data has no labels.
  """
  experiment.require(not classes or 'y' in batch, 'config.conditional=True needs labels; config.data has none')
  return jax.nn.one_hot(batch['y'], classes) if classes else None


def sample_labels(key: Key, n: int, classes: int, shares: tuple[float, ...]) -> jax.Array:
  """Samples n labels, int32 [n].

  Args:
    key: random key.
    n: the number of labels.
    classes: K.
    shares: of the classes among the training images, `config.data.class_shares`; () if all are equally likely.
  """
  odds = jnp.asarray(shares, jnp.float32) if shares else jnp.ones(classes)
  return jax.random.categorical(key, jnp.log(odds), shape=(n,)).astype(jnp.int32)


def labels_by_row(n: int, classes: int) -> jax.Array:
  """Returns the labels of a square picture grid of n images, a class to each row in turn, int32 [n]."""
  return (jnp.arange(n) // math.ceil(math.sqrt(n)) % classes).astype(jnp.int32)
