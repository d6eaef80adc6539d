"""The picture `gibbs`: a row for each state of the machine, in the order of the sweeps."""

import jax.numpy as jnp
import numpy as np
from playing import KEY

from dgm_jax.core import State, System
from dgm_jax.pictures import gallery
from dgm_jax.views import Views


def test_rows_are_states_and_columns_are_images_of_one_state():
  def gibbs(key, state, n):
    """Images of one grey: 10 for each row, 1 for each column."""
    grey = 10.0 * jnp.arange(3)[:, None] + jnp.arange(n)[None]
    return jnp.broadcast_to(grey[..., None, None, None], (3, n, 2, 2, 1))

  system = System(init=None, step=None, evaluate=None, sample=None, views=Views(gibbs=gibbs))
  state = State(jnp.int32(0), {}, {}, {})
  draw = gallery.available(system)['gibbs']
  image = draw(KEY, state, np.zeros((4, 2, 2, 1)), lambda x: np.asarray(x).astype(np.uint8))
  scale = -(-gallery.READABLE // 2)
  cells = image[scale :: 3 * scale, scale :: 3 * scale, 0]
  assert cells.shape == (3, 5)
  np.testing.assert_array_equal(cells, 10 * np.arange(3)[:, None] + np.arange(5))
