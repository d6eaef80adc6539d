"""The toy of a hierarchical autoencoder: its golden numbers, and the best product of normals by search."""

import numpy as np
import pytest
from scipy import optimize

from dgm_jax.pages.topics import ladder as topic


def test_all_predictions_hold():
  shown = topic.ladder()
  assert len(shown.rows) == 6
  assert [row.name for row in shown.rows if not row.holds] == []
  factorised, bottom_up, top_down = (row[1:] for row in shown.figures[0].rows)
  golden = [0.4403543699, 0.5180863794, 0.4679830715, 1.4264238209]
  np.testing.assert_allclose(factorised[:4], golden, atol=1e-9)
  np.testing.assert_allclose(factorised[5:], [-1.7515406154, 0.4421459793], atol=1e-9)
  golden = [0.4011824521, 0.1871019896, 0.2495850096, 0.8378694512, -0.4715251850, -1.3093946362]
  np.testing.assert_allclose(top_down[:6], golden, atol=1e-9)
  assert bottom_up[3:6] == pytest.approx(top_down[3:6]) and bottom_up[0] != pytest.approx(top_down[0])


def test_no_product_of_normals_is_better():
  mean, posterior = topic.condition()

  def cost(numbers):
    return topic.divergence(np.diag(np.exp(numbers[3:])), posterior, numbers[:3])

  found = optimize.minimize(cost, np.full(6, 0.3))
  np.testing.assert_allclose(found.x[:3], 0, atol=1e-4)  # apart from the posterior's mean
  np.testing.assert_allclose(np.exp(found.x[3:]), np.diag(topic.best(posterior)), rtol=1e-3)
  assert found.fun == pytest.approx(0.4421459793, abs=1e-8)
  assert mean.shape == (3,)
