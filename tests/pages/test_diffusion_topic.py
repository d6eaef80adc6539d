"""The topic of diffusion: its golden numbers, and where the nats go."""

import numpy as np
import pytest

from dgm_jax.pages.topics import diffusion as topic


def test_all_predictions_hold():
  shown = topic.diffusion()
  assert [row.name for row in shown.rows if not row.holds] == [] and len(shown.rows) == 5
  table = {row[0]: row[1:] for row in shown.figures[0].rows}
  np.testing.assert_allclose(
    [table[steps][0] for steps in ('10', '100', '1000')], [0.034877, 0.005348, 0.000560], atol=6e-7
  )
  assert table['10'][1] == pytest.approx(0.000926, abs=5e-7)
  assert table['1000'][2] == pytest.approx(0.2798, abs=5e-5)
  assert {len(points) for chart in shown.charts.values() for points in chart.values()} >= {5}


def test_nats_of_all_steps_are_what_the_first_one_leaves():
  """For data N(0, 1) the bound is the entropy: steps 2 to T and the prior give what the first step is below it."""
  from dgm_jax import losses

  for name in topic.SCHEDULES:
    schedule = losses.diffusion_schedule(1000, name=name)
    left = schedule.alpha_bar[-1]
    rest = topic.by_step(schedule).sum() - 0.5 * np.log1p(-left) + topic.entropy(schedule.beta[1])
    assert rest == pytest.approx(topic.entropy(1.0), abs=1e-9)
