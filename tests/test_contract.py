"""What every experiment of configs/ keeps, tiny and on the built-in digits: a new file is tested by being there.

A file whose small variants are others than 'tiny' names them in TINY.
"""

import importlib
import importlib.util
import inspect
import pathlib
from typing import Any, NamedTuple, get_args

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxpr_as_fun
from playing import TABLE
from quick_random import begun_quickly

from dgm_jax import config as experiment
from dgm_jax import core, data, evals, systems, training
from dgm_jax.api import Model
from dgm_jax.api.offers import offered
from dgm_jax.data import preprocess
from dgm_jax.evals import generated, measuring, standing, surgery
from dgm_jax.evals import style as style_figures
from dgm_jax.pictures import chains, gallery, painting, positions, style, truncation
from dgm_jax.runs import checkpoint, workdir
from dgm_jax.runs.subject import Subject
from dgm_jax.runtime import parallel
from dgm_jax.training import log
from dgm_jax.views import Prior, fits

CONFIGS = pathlib.Path(__file__).parent.parent / 'configs'
CALLS = 6  # of one step: that a call makes several is the loop's affair, and doubles what is compiled
# What minibatch discrimination tells of an image depends on the others, by intent: system, metric.
OF_ITS_BATCH = {('gan.improved_gan', 'real_value')}
BINARY = ('threshold', 'dynamic_binarize', 'static_binarize')


def load(path):
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


NO_HEADWAY: set[str] = set()  # systems whose lone player has a contrastive loss
PARTICULAR = {'latent.gmm', 'draw.conv_draw', 'vae.vamp'}  # some starts are near a tie, or make little headway at first
FROZEN = {'vqvae'}  # the network of vq.prior that comes from another run
VARIANTS = [
  f'{path.stem}:{variant}'
  for path in sorted(CONFIGS.glob('[a-z]*.py'))
  for variant in getattr(load(path), 'TINY', ('tiny',))
]


def tiny(name):
  stem, variant = name.split(':')
  config = load(CONFIGS / f'{stem}.py').get_config(variant)
  experiment.check(config)
  assert config.data.name == 'digits'
  config.steps_per_call = 1
  config.steps = 400  # so that no rate falls to nothing within the steps below,
  for optimizer in config.optimizer.values():
    optimizer.warmup_steps = 0  # or has yet to rise,
    optimizer.eps = max(optimizer.eps, 1e-3)  # and no slope that is nothing but rounding makes a step of full size
  return config


@pytest.fixture(scope='module')
def smooth():
  """Rectifiers of smooth slope.

  Where the last bit of a sum decides on which side of a kink a number falls, slopes jump, and one device and eight,
  which add in other orders, go other ways.
  """
  with pytest.MonkeyPatch.context() as monkeypatch:
    monkeypatch.setattr(jax.nn.relu, 'jvp', jax.nn.relu.jvp)  # so that it comes back
    jax.nn.relu.defjvps(lambda tangent, _, x: tangent * jax.nn.sigmoid(10 * x))
    monkeypatch.setattr(jax.nn, 'leaky_relu', lambda x, slope=0.01: slope * x + (1 - slope) * jax.nn.relu(x))
    yield


class Trained(NamedTuple):
  """Calls on eight devices, on one, and the last one again on eight from the checkpoint before it."""

  run: training.Run  # on eight devices
  call: Any  # of one device
  start: core.State  # as NumPy
  eight: core.State
  one: core.State
  resumed: core.State
  metrics: list
  traces: list  # one entry each time that the step was traced for eight devices
  owned: set


def traced_once(run):
  """The run, with a step whose trace the programs of eight devices and of one share.

  A step is the same function of arrays on any mesh, and its trace is what takes most of a test's time.
  """
  traces = {}

  def step(*args):
    leaves, tree = jax.tree.flatten(args)
    like = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)  # without a mesh
    if like not in traces:
      traces[like] = jax.make_jaxpr(run.system.step, return_shape=True)(*jax.tree.unflatten(tree, like))
    trace, shapes = traces[like]
    return jax.tree.unflatten(jax.tree.structure(shapes), jaxpr_as_fun(trace)(*leaves))

  return run._replace(system=run.system._replace(step=step))


def counting(run, traces):
  """The run, with a step that leaves a mark whenever a program that makes it is traced.

  `chex.assert_max_traces` would add up the traces of all experiments, whose step is the same lines.
  """

  def step(key, state, batch):
    traces.append(batch['x'].shape)
    return run.system.step(key, state, batch)

  return run._replace(system=run.system._replace(step=step))


def owners(monkeypatch):
  """The names of all networks that a player is about to move, noted while the step is traced."""
  owned, descend_one = set(), core._descend_one

  def note(player, *args):
    owned.update(player.owns)
    return descend_one(player, *args)

  monkeypatch.setattr(core, '_descend_one', note)
  return owned


def put(run, state):
  return jax.tree.map(lambda array, leaf: parallel.put(array, leaf.sharding), state, run.like)


def on_one_device(run):
  """The run as `training.prepare(..., devices=1)` makes it, without another trace of the system."""
  there = parallel.replicated(parallel.mesh(1))
  like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=there), run.like)
  arrays = {name: parallel.put(array, there) for name, array in run.splits['train'].arrays.items()}
  return run._replace(mesh=there.mesh, like=like, arrays=arrays)


def advance(run, call, state, first, calls):
  """Makes the calls; returns the last state and each one's metrics."""
  metrics = []
  for number in range(first, first + calls):
    state, out = call(state, np.uint32(run.config.seed), run.arrays, training.indices(run, number, 1))
    metrics.append(parallel.fetch(out))
  return state, metrics


@pytest.fixture(scope='module', params=VARIANTS)
def trained(request, tmp_path_factory, smooth):
  folder = tmp_path_factory.mktemp('runs')
  with pytest.MonkeyPatch.context() as monkeypatch:  # all is traced below
    monkeypatch.setattr(training.run, 'rehearse', lambda *_: None)
    eight = traced_once(training.prepare(tiny(request.param), folder / 'eight'))
  if eight.config.system not in PARTICULAR:
    eight = begun_quickly(eight)
  one = on_one_device(eight)
  assert (eight.mesh.size, one.mesh.size) == (8, 1)
  start, traces = parallel.fetch(training.start(eight)[0]), []
  with pytest.MonkeyPatch.context() as monkeypatch:
    owned = owners(monkeypatch)
    call = training.compile_call(counting(eight, traces))
    middle, metrics = advance(eight, call, put(eight, start), 0, CALLS - 1)
    with checkpoint.saving(eight.folder, 1, '') as keeper:
      training.saver(eight, log.silent(), keeper)(middle, {})
    ended, last = advance(eight, call, middle, CALLS - 1, 1)
  restored, steps = training.start(eight)
  assert steps == CALLS - 1
  resumed, again = advance(eight, call, restored, CALLS - 1, 1)
  chex.assert_trees_all_equal(again, last)
  call_one = training.compile_call(one)
  alone, _ = advance(one, call_one, put(one, start), 0, CALLS)
  states = map(parallel.fetch, (ended, alone, resumed))
  return Trained(one, call_one, start, *states, metrics + last, traces, owned)


def test_metrics_are_finite_scalars_named_by_player(trained):
  for metrics in trained.metrics:
    assert {value.shape for value in metrics.values()} == {()}
    assert all(np.isfinite(value) for value in metrics.values())
    assert {f'{player}/loss' for player in trained.start.opt} <= set(metrics)


def test_every_player_has_a_formula(trained):
  """A system that is not in `playing.TABLE` belongs there, and its players' losses in tests/test_players*.py."""
  assert set(trained.start.opt) == set(TABLE.get(trained.run.config.system, ()))


def test_many_steps_and_a_resume_compile_once(trained):
  assert len(trained.traces) == 1


def test_an_interrupted_run_ends_with_the_bits_of_an_uninterrupted_one(trained):
  assert trained.eight.step == CALLS
  chex.assert_trees_all_equal(trained.resumed, trained.eight)


def test_one_device_and_eight_agree(trained):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), trained.one, trained.eight)


def test_what_a_player_owns_moves_and_nothing_else(trained):
  def moved(name):
    pairs = zip(jax.tree.leaves(trained.start.params[name]), jax.tree.leaves(trained.eight.params[name]), strict=True)
    return any((a != b).any() for a, b in pairs)

  changed = {name for name in trained.start.params if moved(name)}
  if trained.owned:  # updates in closed form have no owners
    assert changed == trained.owned
    assert set(trained.start.params) <= trained.owned | set(trained.run.config.graft) | FROZEN
  assert not changed & set(trained.run.config.graft)


def test_the_loss_of_a_lone_player_falls_on_a_fixed_batch(trained):
  run = trained.run
  if len(trained.start.opt) != 1:
    return  # players against each other need not make headway
  (player,) = trained.start.opt
  index = parallel.put(np.arange(run.config.batch_size, dtype='i4')[None], parallel.rows(run.mesh, 1))
  state, values = put(run, trained.start), []
  for _ in range(300):
    state, metrics = trained.call(state, np.uint32(0), run.arrays, index)
    values.append(metrics[f'{player}/loss'])
  first, last = np.array(values[:20]), np.array(values[-20:])
  fell = first.mean() - last.mean() > 4 * np.sqrt((first.var() + last.var()) / 20)
  assert fell or run.config.system in NO_HEADWAY, (
    f'the loss went from {first.mean():.4g} to {last.mean():.4g} in 300 steps on one batch; the system of a contrastive'
    ' loss, which hovers, belongs into NO_HEADWAY'
  )


def test_evaluate_gives_one_float_for_each_example_whatever_the_others_are(trained):
  run, valid = trained.run, trained.run.splits['valid']
  evaluate = jax.jit(run.system.evaluate)

  def measured(*index):
    stored = jax.tree.map(jnp.asarray, valid.fetch(valid.arrays, np.array(index)))
    batch = preprocess.find(run.config.data.preprocess)(jax.random.key(0), stored)
    return evaluate(jax.random.key(1), put(run, trained.eight), batch)

  among, again = measured(0, 1, 2, 3, 4), measured(0, 9, 9, 8, 7)
  assert among
  for name, values in among.items():
    assert (values.shape, values.dtype) == ((5,), jnp.float32)
    assert np.isfinite(values).all()
    if (run.config.system, name) not in OF_ITS_BATCH:
      np.testing.assert_allclose(again[name][0], values[0], rtol=1e-4, atol=1e-5, err_msg=name)


def test_samples_have_the_shape_and_the_range_of_the_data(trained):
  run = trained.run
  if run.system.sample is None:
    return  # a classifier
  x = np.asarray(jax.jit(run.system.sample, static_argnums=2)(jax.random.key(2), put(run, trained.eight), 6))
  assert (x.shape, x.dtype) == ((6, *run.config.data.shape), np.float32)
  assert np.isfinite(x).all()
  assert x.std() > 0
  name = run.config.data.preprocess
  if name in BINARY:
    assert set(np.unique(x)) <= {0, 1}
  elif name.endswith('symmetric'):
    assert np.abs(x).max() <= 1
  else:  # of an unbounded density, most
    assert ((x > -0.25) & (x < 1.25)).mean() > 0.8
  pixels = preprocess.to_uint8(name, x)
  assert (pixels.shape, pixels.dtype) == (x.shape, np.uint8)


@pytest.mark.parametrize('name', VARIANTS)
def test_the_state_is_float32_also_under_bfloat16(name):
  config = tiny(name)
  config.dtype = 'bfloat16'
  config.data.update({'shape': (8, 8, 1), 'examples': 1297})
  system = systems.build(config)
  batch = {
    'x': jax.ShapeDtypeStruct((16, 8, 8, 1), 'float32'),
    'y': jax.ShapeDtypeStruct((16,), 'int32'),
    'index': jax.ShapeDtypeStruct((16,), 'int32'),
  }
  key = jax.random.key(0)
  state = jax.eval_shape(system.init, key, batch)
  new, metrics = jax.eval_shape(system.step, key, state, batch)
  kinds = lambda tree: [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]
  assert kinds(state) == kinds(new)
  floats = [leaf.dtype for leaf in jax.tree.leaves((new, metrics)) if jnp.issubdtype(leaf.dtype, jnp.floating)]
  assert set(floats) == {jnp.dtype('float32')}


# What a system can be asked: nothing is compiled, each question is traced and answered by zeros.

NUMBER = 4  # examples
ANSWERS = {  # the shape of an answer, by the shape of a batch x and the size Z of a code
  'encode': lambda x, z: (NUMBER, z), 'decode': lambda x, z: x, 'reconstruct': lambda x, z: x,
  'kl_per_dim': lambda x, z: (NUMBER, z), 'mean_sample': lambda x, z: x, 'row_sample': lambda x, z: x,
  'draw': lambda x, z: x, 'complete': lambda x, z: x, 'log_prob': lambda x, z: (NUMBER,), 'bits': lambda x, z: (),
  'log_prob_pixels': lambda x, z: x[:3], 'critic': lambda x, z: (NUMBER,), 'image': lambda x, z: x,
  'decompress': lambda x, z: x, 'synthesize': lambda x, z: x, 'denoise': lambda x, z: x,
}  # fmt: skip


def zeros(function, *args):
  """Returns zeros of the shapes that a function would return. Nothing is compiled."""
  return jax.tree.map(lambda leaf: jax.device_put(np.zeros(leaf.shape, leaf.dtype)), jax.eval_shape(function, *args))


def traced(function, static_argnums=(), **options):
  """Stands for `jax.jit`: traces a call and gives zeros of the shapes that it would give."""
  del options
  static = (static_argnums,) if isinstance(static_argnums, int) else static_argnums
  answers = {}

  def call(*args):
    shown = {i: arg for i, arg in enumerate(args) if i not in static}
    leaves, tree = jax.tree.flatten(shown)
    asked = tree, tuple((np.shape(leaf), jnp.result_type(leaf)) for leaf in leaves), tuple(args[i] for i in static)
    if asked not in answers:
      answers[asked] = zeros(lambda shown: function(*(shown.get(i, arg) for i, arg in enumerate(args))), shown)
    return answers[asked]

  return call


def ask(subject):
  """Traces every view as its protocol says, and compares the shapes of the answers.

  A view's arguments are those of its protocol, by name and in order.
  """
  system, state, key, config = subject.system, subject.state, jax.random.key(0), subject.config
  x, labels = jnp.zeros((NUMBER, *config.data.shape)), jnp.zeros(NUMBER, jnp.int32)
  known = {
    'x': x, 'n': NUMBER, 'columns': 2, 'labels': labels if config.conditional else None, 'temperature': 1.0, 'image': x,
    'batches': jnp.int32(0), 'truncation': jnp.float32(0.5),
    'mask': jnp.zeros(x.shape[:3], bool), 'first': labels, 'nats': 1.0, 'batch': {'x': x, 'y': labels},
    'psi': jnp.ones(NUMBER), 'steps': jnp.int32(1), 'draw': jnp.int32(0), 'number': labels, 'strength': jnp.ones(()),
    'deviation': 0.1,
  }  # fmt: skip

  def answer(protocol, view):
    names = list(inspect.signature(protocol.__call__).parameters)[3:]
    assert list(inspect.signature(view).parameters)[2:] == names
    return zeros(lambda: view(key, state, **{name: known[name] for name in names}))

  views, protocols = system.views, {name: get_args(kind)[0] for name, kind in core.Views.__annotations__.items()}
  if views.prior:
    known['z'] = answer(Prior.__annotations__['sample'], views.prior.sample)
    assert known['z'].shape[0] == NUMBER
    if views.prior.log_prob:
      assert answer(get_args(Prior.__annotations__['log_prob'])[0], views.prior.log_prob).shape == (NUMBER,)
  known['codes'] = views.codes and answer(protocols['codes'], views.codes)
  known['w'] = views.map_latents and answer(protocols['map_latents'], views.map_latents)
  known['styles'] = known['w'][:, None] if views.map_latents else None
  for name, view in views._asdict().items():
    if view and name != 'prior':
      found = answer(protocols[name], view)
      if name in ANSWERS:
        assert found.shape == ANSWERS[name](x.shape, known['z'].shape[1] if 'z' in known else None), name


def use(subject):
  """Calls every method that the system has as a `Model`; `jax.jit` is `traced`."""
  model, config, shape = Model(subject), subject.config, tuple(subject.config.data.shape)
  x, y = np.zeros((NUMBER, *shape), np.uint8), np.zeros(NUMBER, np.int32)
  points = len(shape) == 1 or config.data.preprocess == 'identity'
  kind = np.float32 if points else np.uint8
  calls = {
    'sample': lambda: model.sample(NUMBER), 'encode': lambda: model.encode(x),
    'decode': lambda: model.decode(model.encode(x) if 'encode' in dir(model) else model.system.views.prior.sample(
      jax.random.key(0), model.state, NUMBER)),
    'reconstruct': lambda: model.reconstruct(x), 'interpolate': lambda: model.interpolate(x[0], x[1], NUMBER),
    'complete': lambda: model.complete(x, np.zeros(shape[:2], bool), 0 if config.conditional else None),
    'log_prob': lambda: model.log_prob(x, y if config.conditional else None),
    'bits_per_dim': lambda: model.bits_per_dim(x, y if config.conditional else None),
  }  # fmt: skip
  offers = set(offered(model))
  assert offers <= set(calls)
  for name in offers:
    answer = calls[name]()
    assert len(answer) == NUMBER, name
    if name not in ('encode', 'log_prob', 'bits_per_dim'):
      assert (answer.shape, answer.dtype) == ((NUMBER, *shape), kind), name


def draw_and_measure(subject, monkeypatch):
  """Makes every picture and every measurement that a subject's system offers."""
  monkeypatch.setattr(jax, 'jit', traced)
  monkeypatch.setattr(parallel, 'interruptible', lambda function: function)
  monkeypatch.setattr(generated, 'CHUNK', 20)
  monkeypatch.setattr(standing, 'BATCHES', 1)
  monkeypatch.setattr(truncation, 'BOUNDS', (0.5,))
  monkeypatch.setattr(surgery, 'SAMPLES', 100)
  for name, number in {'CHUNK': 20, 'PAIRS': 20, 'PATHS': 20, 'SAMPLES': 40}.items():
    monkeypatch.setattr(style_figures, name, number)
  monkeypatch.setattr(surgery, 'EXACT', 0)
  see = lambda state, pixels: (jnp.zeros((len(pixels), 10)), pixels.reshape(len(pixels), -1)[:, :3].astype('float32'))
  smooth = lambda state, pixels: see(state, pixels)[1]
  judge = generated.Judge('classifier', see, (), smooth)
  monkeypatch.setattr(generated, 'find', lambda *_: judge)
  x, to_uint8 = np.zeros((8, *subject.config.data.shape), np.float32), preprocess.pixels(subject.config.data)
  able = gallery.available(subject.system) | positions.available(subject.system, subject.config)
  able |= style.available(subject.system) | painting.available(subject.system) | chains.available(subject.system)
  for draw in able.values():
    image = draw(jax.random.key(0), subject.state, x, to_uint8)
    assert (image.dtype, image.ndim) == (np.uint8, 3)
  measured = set()
  for module in evals.__all__:
    for name in importlib.import_module(f'dgm_jax.evals.{module}').__all__:
      function = getattr(importlib.import_module(f'dgm_jax.evals.{module}'), name)
      if fits(subject.system, function) and module not in ('disentanglement', 'modes'):  # of other data
        measured.add(f'{module}.{name}')
        assert measuring.measure(subject, (f'{module}.{name}',))
  return set(able), measured


@pytest.mark.parametrize('name', VARIANTS)
def test_all_that_a_system_offers_can_be_had(name, monkeypatch):
  whole = data.load(tiny(name).data, 'test')
  split = whole._replace(size=60, arrays={part: array[:60] for part, array in whole.arrays.items()})
  config = workdir.resolve(tiny(name), split)
  config.generated.samples = 40
  system = systems.build(config)
  batch = {'x': jnp.zeros((8, *split.shape)), 'y': jnp.zeros(8, jnp.int32)}
  subject = Subject(config, system, zeros(system.init, jax.random.key(0), batch), split, parallel.mesh(1))
  ask(subject)
  _, measured = draw_and_measure(subject, monkeypatch)
  use(subject)
  assert {each for each in config.evals if not each.startswith(('modes', 'disentanglement'))} <= measured
