"""What is measured and sampled: a trained system on a split of its data."""

from typing import NamedTuple

from jax.sharding import Mesh
from ml_collections import ConfigDict

from dgm_jax import data
from dgm_jax.core import State, System

__all__ = ['Subject']


class Subject(NamedTuple):
  """What is measured, and on what."""

  config: ConfigDict
  system: System
  state: State
  split: data.Split
  mesh: Mesh
  trained_at: str | None = None  # the commit that trained it, where its checkpoint says so
