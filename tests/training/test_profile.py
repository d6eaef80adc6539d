"""A trace of steps after the first call, in the form that xprof opens."""

import jax
import jax.numpy as jnp
import pytest

from dgm_jax.training.profile import profiled


@pytest.mark.parametrize(
  ('steps', 'calls', 'said'), [(3, 5, '4 steps in 2 calls'), (9, 2, '2 steps in 1 call'), (9, 1, ''), (0, 3, '')]
)
def test_whole_calls_after_the_first_are_traced(tmp_path, capsys, steps, calls, said):
  call = jax.jit(lambda state: state + 1)
  state = jnp.zeros(())
  with profiled(call, steps, 2, tmp_path) as traced:
    for _ in range(calls):
      state = traced(state)
    told_before_the_end = capsys.readouterr().out
  assert state == calls
  told = told_before_the_end + capsys.readouterr().out
  assert bool(told_before_the_end) == (calls > 2 and steps > 0)
  traces = list(tmp_path.rglob('plugins/profile/*/*.xplane.pb'))
  assert len(traces) == bool(said)
  if said:
    assert told == f'profile: {said}, in {tmp_path}/profile; look at it with xprof --logdir={tmp_path}/profile\n'
    assert traces[0].stat().st_size > 100
