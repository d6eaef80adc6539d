"""The benchmark: figures that can be counted by hand, for networks small enough to compile at once."""

import json
import os
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags

from configs import af_vae_mnist, pixelvae_mnist, vae_digits
from dgm_jax import errors, training
from dgm_jax.commands import benchmark
from dgm_jax.costs import drawing_speed, first_step, hlo, topology
from dgm_jax.runtime import parallel

PIXELS, HIDDEN, LATENTS, BATCH = 64, 16, 4, 16  # of vae_digits:tiny
KERNELS = ((PIXELS, HIDDEN), (HIDDEN, 2 * LATENTS), (LATENTS, HIDDEN), (HIDDEN, PIXELS))
DEVICES = 8
NHWC = ('NHWC', 'HWIO', 'NHWC')


@pytest.fixture(scope='module')
def figures():
  """One setting, measured as the command measures it."""
  config = vae_digits.get_config('tiny')
  with jax.check_tracer_leaks(False):
    return benchmark.measure(config, DEVICES, 2, 0.05)


def test_collectives_of_a_step_are_its_gradients(figures):
  # One sum over the devices for every number of every kernel and bias, for the loss and for the three parts of the
  # bound that are logged; 4 bytes each.
  numbers = sum(m * n + n for m, n in KERNELS) + 4
  assert set(figures['collectives_per_step']) == {'all-reduce'}
  assert figures['collective_bytes_per_step'] == 4 * numbers


def test_flops_of_a_step_are_its_products_and_little_more(tmp_path):
  config = vae_digits.get_config('tiny')
  config.update({'batch_size': 512, 'model': {'hidden': ((512,),), 'latents': (64,)}})
  program = benchmark.compiled(training.prepare(config, tmp_path, devices=1))
  kernels = ((PIXELS, 512), (512, 2 * 64), (64, 512), (512, PIXELS))
  # Forward, and backward for the kernels and for each layer's input, but not for the first's.
  by_hand = 2 * 512 * sum((3 - (i == 0)) * m * n for i, (m, n) in enumerate(kernels))
  for xla, steps in ((program.one, 1), (program.several, 2)):  # XLA takes the body of a loop once: two steps
    assert steps * by_hand < xla.cost_analysis()['flops'] < 1.05 * steps * by_hand


def test_a_reused_batch_leaves_the_data_out(tmp_path):
  run = training.prepare(vae_digits.get_config('tiny'), tmp_path, devices=1)
  same = training.with_one_batch(run)
  traced = lambda run: str(
    training.compile_call(run).trace(run.like, np.uint32(0), *training.one_call(run, 0, 2)).jaxpr
  )
  assert ' gather[' in traced(run) and ' gather[' not in traced(same)
  assert same.arrays['x'].shape == (BATCH, 8, 8, 1)


def test_flops_of_a_wide_network_are_its_products():
  b, m, n, k = 64, 256, 384, 128
  x, w, v = (jax.ShapeDtypeStruct(shape, 'float32') for shape in ((b, m), (m, n), (n, k)))
  loss = lambda w, v, x: jnp.square(jnp.tanh(x @ w) @ v).sum()
  program = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(w, v, x).compile()
  by_hand = 2 * b * (2 * m * n + 3 * n * k)
  assert program.cost_analysis()['flops'] == pytest.approx(by_hand, rel=0.03)
  # Two matrices and x come in, two gradients go out, and the hidden layer lies between.
  kept = 4 * (2 * (m * n + n * k) + b * m)
  assert kept <= hlo.peak_bytes(program) <= kept + 4 * 8 * b * n


def test_a_setting_has_all_its_figures(figures):
  assert figures['batch_size'] == BATCH * DEVICES
  assert figures['examples_per_second_per_device'] == figures['steps_per_second'] * BATCH
  assert figures['flops_per_second'] == figures['flops_per_step'] * figures['steps_per_second']
  assert 0 < figures['fraction_of_matrix_product'] < 1
  compared = figures['fit_over_scan']
  assert compared['ratio'] == compared['fit_steps_per_second'] / compared['scan_steps_per_second'] > 0
  assert len(compared['ratio_of_each_round']) == benchmark.ROUNDS
  # Whole intervals of save_every; a machine too slow for one in the time given makes whole calls.
  saves, steps = compared['saves_a_round'], compared['steps_a_round']
  assert steps == 4 * saves > 0 or (saves == 0 and steps % 2 == 0)
  assert (f'{saves} checkpoints a round' if saves else 'no checkpoints') in compared['includes']
  json.dumps(figures)


def test_a_round_without_a_checkpoint_is_said_to_be_one(tmp_path):
  run = training.prepare(vae_digits.get_config('tiny'), tmp_path, devices=1)  # save_every=4, steps_per_call=2
  for rate, steps, save_every in ((3.0, 2, 0), (4.0, 4, 4), (30.0, 8, 4)):
    shorter, got = benchmark.stretch(run, rate, 1.0)
    assert (got, shorter.config.save_every) == (steps, save_every)


def test_products_and_collectives_in_a_loop_count_once_a_turn():
  mesh = parallel.mesh(DEVICES)
  rows = parallel.rows(mesh, 1)
  inner = lambda total, x: (total + x @ x.T, x.sum())
  turns = lambda x: jax.lax.scan(inner, jnp.zeros((8, 8)), jnp.stack([x, x + 1, x + 2]))[0]
  program = jax.jit(turns, in_shardings=rows, out_shardings=parallel.replicated(mesh))
  text = program.lower(jax.ShapeDtypeStruct((8, 64), 'float32')).compile().as_text()
  assert hlo.left_out(text) == 2
  outside = 'ENTRY %main (a: f32[2]) -> f32[2] {\n  %x = (f32[3,4]{1,0}, bf16[5]{0}) all-to-all(%a, %b)\n}\n'
  assert hlo.collectives(outside) == {'all-to-all': {'count': 1, 'bytes': 3 * 4 * 4 + 5 * 2}}


def test_collectives_are_found_in_loops_and_asynchronous_pairs():
  text = """\
%body.1 (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %sum = f32[4]{0} all-reduce(%q), to_apply=%add.1
}
ENTRY %main (a: f32[2]) -> f32[16] {
  %w = (s32[], f32[4]{0}) while(%t), condition=%c.1, body=%body.1, backend_config={"known_trip_count":{"n":"5"}}
  %s = (f32[2]{0}, f32[16]{0}) all-gather-start(%a), dimensions={0}
  ROOT %d = f32[16]{0} all-gather-done(%s)
}
"""
  assert hlo.collectives(text) == {'all-gather': {'count': 1, 'bytes': 64}, 'all-reduce': {'count': 5, 'bytes': 80}}


def test_a_setting_keeps_the_batch_of_a_device_and_rounds_the_cadence_up():
  config = vae_digits.get_config()
  got = benchmark.setting(config, 4, 500)
  assert (got.batch_size, got.steps_per_call, got.log_every, got.save_every) == (384, 500, 1000, 2500)
  assert (got.eval_every, got.picture_every) == (0, 0)
  assert config.batch_size == 96


def test_training_on_fewer_devices(tmp_path):
  run = training.prepare(vae_digits.get_config('tiny'), tmp_path, devices=2)
  assert run.mesh.size == 2
  with pytest.raises(errors.UserError, match='9 devices were asked for, but JAX sees 8'):
    training.prepare(vae_digits.get_config('tiny'), tmp_path, devices=9)


@pytest.mark.parametrize('text', ['0', 'x', '-1', '1.5'])
def test_a_wrong_number_is_one_line(text):
  with pytest.raises(
    errors.UserError, match=f"--devices takes positive integers with commas between them, got '{text}'"
  ):
    benchmark.counts('devices', ['1', text])


def test_a_failed_start_is_one_line():
  with pytest.raises(errors.UserError, match=r'train\.py ended before its first step: no such thing'):
    first_step._first_call([sys.executable, '-c', 'print("error: no such thing")'])


def test_the_record_is_named_after_config_and_variant():
  config = vae_digits.get_config('tiny')
  config.source = 'configs/vae_digits.py:tiny'
  for what, name in (('train', 'bench_vae_digits_tiny'), ('sample', 'bench_vae_digits_tiny_sample')):
    args = type('Args', (), {'out': '', 'record': True, 'results': 'r', 'what': what})
    assert str(benchmark._target(args, config)) == f'r/{name}.json'
  assert np.all([name not in flags.FLAGS for name in ('record', 'seconds')])  # importing defines no flag


def test_weak_scaling_is_the_speed_that_a_device_keeps():
  lines = [{'devices': n, 'steps_per_call': 5, 'examples_per_second_per_device': r} for n, r in ((2, 80.0), (4, 60.0))]
  for shared, expected in ((False, [1, 0.75]), (True, [1, 1.5])):  # on shared cores, 160 and 240 examples/s in all
    found = topology.weak_scaling(lines, shared)
    assert [line['efficiency'] for line in found['efficiency']] == expected
  assert 'share the same cores' in found['of']


@pytest.mark.parametrize(
  ('name', 'said'),
  [
    ('v5e:8x8', "compiles with libtpu, which is not installed: pip install 'dgm_jax\\[tpu\\]'"),
    ('v3:2x2', 'give a chip of v4, v5e, v5p, v6e and a shape, such as v5e:8x8'),
    ('v5e', 'give a chip of'),
  ],
)
def test_a_topology_that_cannot_be_had_is_one_line(name, said, monkeypatch):
  monkeypatch.setattr(topology.importlib.util, 'find_spec', lambda module: None)
  with pytest.raises(errors.UserError, match=said):
    topology.devices(name)


def test_the_efficiency_on_paper_is_arithmetic():
  # A second of arithmetic at 197 TFLOP/s; 200 GB over links of 200 GB/s, of which a ring of four sends 3/2.
  found = topology.on_paper('v5e', 4, 197e12, 200e9)
  assert (found['compute_seconds'], found['all_reduce_seconds']) == (1, 1.5)
  assert found['weak_scaling_efficiency'] == 1 / 2.5


def test_products_of_a_traced_program_count_once_a_turn():
  def step(x):
    body = lambda x, _: (jnp.tanh(x @ x), None)
    x = jax.lax.scan(body, x, length=5)[0]
    x = jax.lax.cond(x[0, 0] > 0, lambda x: x @ x @ x, lambda x: x, x)
    image = jax.lax.conv_general_dilated(x[None, :, :, None], jnp.ones((3, 3, 1, 2)), (1, 1), 'SAME', None, None, NHWC)
    return jax.checkpoint(lambda x: x @ x)(x), image

  traced = jax.jit(step).trace(jax.ShapeDtypeStruct((8, 8), 'float32'))
  product, convolution = 2 * 8**3, 2 * 64 * 2 * 9
  assert hlo.product_flops(traced.jaxpr) == (5 + 2 + 1) * product + convolution
  assert hlo.product_flops(traced.jaxpr, loops=False) == (1 + 2 + 1) * product + convolution


def test_a_topology_waits_for_no_metadata_server_and_may_run_beside_another(monkeypatch):
  monkeypatch.setattr(topology.importlib.util, 'find_spec', lambda module: True)
  names = ('ALLOW_MULTIPLE_LIBTPU_LOAD', 'TPU_SKIP_MDS_QUERY', 'TPU_WORKER_HOSTNAMES', 'TPU_ACCELERATOR_TYPE')
  for name in names[:3]:
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setenv('TPU_ACCELERATOR_TYPE', 'v5litepod-16')  # the user's own stands
  seen = {}
  ask = lambda **_: seen.update({name: os.environ.get(name) for name in names}) or types.SimpleNamespace(devices=[])
  monkeypatch.setattr('jax.experimental.topologies.get_topology_desc', ask)
  topology.devices('v5e:8x8')
  assert list(seen.values()) == ['1', '1', 'localhost', 'v5litepod-16']
  for name in names[:3]:
    monkeypatch.delenv(name)


def test_a_topology_compiles_where_a_signal_is_answered(monkeypatch):
  beside = []
  monkeypatch.setattr(topology.signals, 'interruptible', lambda function: beside.append(True) or function())
  monkeypatch.setattr(topology, 'devices', lambda name: jax.devices()[:2])
  found = topology.cost(vae_digits.get_config('tiny'), 'v5e:2')
  assert beside == [True] and found['devices'] == 2 and found['flops_per_step_and_device'] > 0


def test_drawing_is_timed_with_a_memory_and_without_where_pixels_are_drawn():
  config = pixelvae_mnist.get_config('tiny')
  config.data.update({'shape': (8, 8, 1), 'examples': 100})
  pixels = drawing_speed.measure(config, 4, 2, 1)
  assert pixels['naive_seconds_per_image'] == pytest.approx(
    pixels['naive_over_incremental'] * pixels['incremental_seconds_per_image']
  )
  assert 'times' in drawing_speed.row(pixels)
  config.model.decoder = 'factorised'
  config.model.map = {'name': 'dense', 'hidden': (4,)}
  whole = drawing_speed.measure(config, 4, 2, 1)
  assert 'naive_seconds_per_image' not in whole
  assert whole['flops_compiled'] > 0
  assert 'FLOPs' in drawing_speed.row(whole)


def test_the_turns_of_a_prior_that_is_a_flow_are_printed():
  config = af_vae_mnist.get_config('tiny')
  config.data.update({'shape': (8, 8, 1), 'examples': 100})
  config.model.prior_network.layers = 3
  figures = drawing_speed.measure(config, 8, 2, 1)
  turns = figures['prior_inverse_turns']
  assert len(turns) == 3 and all(2 < turn <= figures['prior_inverse_turns_most'] == 4 for turn in turns)
  assert f'takes {turns[0]}, {turns[1]}, {turns[2]} turns, of 4 at most' in drawing_speed.row(figures)
  config.model.prior = 'normal'
  assert 'prior_inverse_turns' not in drawing_speed.measure(config, 8, 2, 1)
