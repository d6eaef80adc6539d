"""The order of examples: exact, complete, and the same however it is asked for."""

import numpy as np
import pytest

from dgm_jax.data import gather, order, permutation, ragged


def test_each_epoch_visits_every_example_once():
  stream = order(seed=5, first_step=0, steps=21, batch_size=10, size=70).reshape(3, 70)
  np.testing.assert_array_equal(np.sort(stream, axis=1), np.tile(np.arange(70), (3, 1)))
  assert (stream[0] != stream[1]).any()
  assert (stream[1] != stream[2]).any()


@pytest.mark.parametrize(('batch_size', 'size'), [(7, 23), (10, 5), (4, 4), (3, 1), (6, 1000)])
def test_chunks_do_not_matter(batch_size, size):
  whole = order(1, 0, 30, batch_size, size)
  assert whole.shape == (30, batch_size)
  assert whole.dtype == np.int32
  chunks = [order(1, 0, 1, batch_size, size), order(1, 1, 12, batch_size, size), order(1, 13, 17, batch_size, size)]
  np.testing.assert_array_equal(np.concatenate(chunks), whole)
  one_by_one = [order(1, t, 1, batch_size, size)[0] for t in reversed(range(30))]
  np.testing.assert_array_equal(np.stack(one_by_one[::-1]), whole)


def test_batches_straddle_epochs_and_nothing_is_dropped():
  stream = order(seed=0, first_step=0, steps=5, batch_size=4, size=10).ravel()
  np.testing.assert_array_equal(np.bincount(stream), np.full(10, 2))


def test_seed_and_epoch_choose_the_permutation():
  drawn = {tuple(permutation(seed, epoch, 50)) for seed in (0, 1, -1, 2**40) for epoch in range(3)}
  assert len(drawn) == 12


def test_permutation_is_uniform():
  """Each of 4! orders within 4 standard errors of n / 24; the place bits below the words do not bias it."""
  counts = np.unique(
    [permutation(9, epoch, 4) @ np.array([64, 16, 4, 1]) for epoch in range(4800)], return_counts=True
  )[1]
  assert len(counts) == 24
  np.testing.assert_allclose(counts, 200, atol=4 * np.sqrt(200 * 23 / 24))


def test_cached_permutation_cannot_be_overwritten():
  with pytest.raises(ValueError, match='read-only'):
    permutation(0, 0, 5)[0] = 1
  order(0, 0, 1, 5, 5)[...] = 0
  assert sorted(permutation(0, 0, 5)) == [0, 1, 2, 3, 4]


def test_golden():
  """A resumed run depends on these for ever."""
  assert order(0, 0, 2, 5, 10).tolist() == [[0, 2, 9, 1, 8], [5, 4, 3, 6, 7]]
  assert order(7, 1000, 1, 6, 59600).tolist() == [[3159, 6828, 48875, 30841, 9705, 20096]]


@pytest.mark.parametrize('arguments', [(0, 0, 1, 0, 5), (0, 0, 1, 5, 0), (0, -1, 1, 5, 5), (0, 0, -1, 5, 5)])
def test_order_of_nothing_is_refused(arguments):
  with pytest.raises(ValueError, match='no order of'):
    order(*arguments)


def test_no_steps_are_no_batches():
  assert order(0, 3, 0, 4, 10).shape == (0, 4)


@pytest.mark.parametrize(('size', 'batch_size', 'batches'), [(10, 4, 3), (8, 4, 2), (3, 5, 1), (1, 1, 1)])
def test_ragged_covers_each_example_once(size, batch_size, batches):
  index, mask = ragged(size, batch_size)
  assert index.shape == mask.shape == (batches, batch_size)
  assert (index.dtype, mask.dtype) == (np.int32, np.float32)
  assert mask.sum() == size
  np.testing.assert_array_equal(index[mask == 1], np.arange(size))
  assert (index[mask == 0] == size - 1).all()


def test_masked_mean_of_ragged_batches_is_the_mean():
  values = np.random.default_rng(0).random(23)
  index, mask = ragged(23, 7)
  assert np.isclose((values[index] * mask).sum() / mask.sum(), values.mean(), rtol=1e-12)


def test_ragged_of_nothing_is_refused():
  with pytest.raises(ValueError, match='no batches of'):
    ragged(0, 4)


def test_gather():
  arrays = {'x': np.arange(24).reshape(6, 2, 2), 'y': np.arange(6) * 10}
  batch = gather(arrays, np.array([4, 0]))
  np.testing.assert_array_equal(batch['x'][0], [[16, 17], [18, 19]])
  np.testing.assert_array_equal(batch['y'], [40, 0])
  np.testing.assert_array_equal(batch['index'], [4, 0])
