"""Posteriors that a flow moves, and priors that are a flow, against automatic differentiation and one another."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from playing import begun, settings_of

from dgm_jax import config as experiment
from dgm_jax import distributions as dist
from dgm_jax import systems
from dgm_jax.core import State
from dgm_jax.costs import hlo
from dgm_jax.errors import UserError
from dgm_jax.internal.noise import standard_normal
from dgm_jax.models import flow as flows
from dgm_jax.nn import bijections, coupling, made, masked
from dgm_jax.nn import reversible as rev
from dgm_jax.systems.parts import bounds, posteriors, priors, transformed
from dgm_jax.systems.parts.latents import Latent

KEY = jax.random.key(3)
Z = 4


class Convs(nn.Module):
  """An autoregressive network of maps: a strict layer that reads the context, too, and one that is not strict."""

  numbers: int

  @nn.compact
  def __call__(self, x, context):
    width = self.numbers * x.shape[-1]
    conv = lambda features, center: masked.Conv(features, masked.causal(3, center), dtype='float64')
    return 0.5 * conv(width, True)(jnp.tanh(conv(6, False)(x) + nn.Dense(6)(context)))


def shaken(tree, scale=0.5):
  flat, back = jax.flatten_util.ravel_pytree(tree)
  return back(flat + scale * jax.random.normal(jax.random.key(7), flat.shape, flat.dtype))


def doubled(tree):
  return jax.tree.map(lambda leaf: leaf.astype('float64'), tree)


def iaf(layers=2, context=3):
  network = lambda numbers: made.MADE((7, 6), numbers, 'tanh')
  step = rev.chain(made.conditioned(network, coupling.gated()), rev.on(0, bijections.reverse()))
  return transformed.conditioned(rev.repeat(layers, step), Z, context)


MOTIONS = {
  'planar': lambda: transformed.amortized(rev.repeat(3, bijections.planar(1.0)), Z),
  'radial': lambda: transformed.amortized(rev.repeat(3, bijections.radial()), Z),
  'sylvester': lambda: transformed.amortized(rev.repeat(2, bijections.sylvester(2, 0.5)), Z),
  'iaf': iaf,
}


@pytest.mark.parametrize('name', MOTIONS)
def test_log_det_of_a_motion_is_that_of_its_jacobian(name):
  with jax.enable_x64(True):
    motion = MOTIONS[name]()
    params = shaken(doubled(motion.init(KEY))) if name == 'iaf' else {}
    context = jax.random.normal(jax.random.key(1), (3, motion.size), 'float64')
    z = jax.random.normal(jax.random.key(2), (3, 2, Z), 'float64')
    moved, log_det = motion.move(params, z, context)
    one = lambda z, context: motion.move(params, z[None, None], context[None])[0][0, 0]
    jacobians = jax.vmap(jax.vmap(jax.jacfwd(one), (0, None)))(z, context)
    np.testing.assert_allclose(log_det, np.linalg.slogdet(jacobians)[1], atol=1e-10)
    assert np.abs(log_det).max() > 0.05
    # Each example has parameters, or a context, of its own, and each of its samples the same.
    np.testing.assert_allclose(moved[1, 1], one(z[1, 1], context[1]), atol=1e-12)
    assert np.abs(moved[1, 1] - one(z[1, 1], context[0])).max() > 1e-3


def test_log_det_of_one_step_is_that_of_a_triangle():
  with jax.enable_x64(True):
    step = made.conditioned(lambda numbers: made.MADE((7, 6), numbers, 'tanh'), coupling.gated())
    context = jax.random.normal(KEY, (1, 3), 'float64')
    params = shaken(doubled(step.init(KEY, (jnp.zeros((1, Z)), context))))
    z = jax.random.normal(jax.random.key(1), (Z,), 'float64')
    run = lambda z, context: step.forward(params, {}, (z[None], context))
    jacobian = np.asarray(jax.jacfwd(lambda z: run(z, context)[0][0][0])(z))
    assert (jacobian[np.triu_indices(Z, 1)] == 0).all() and (jacobian[np.tril_indices(Z)] != 0).all()
    np.testing.assert_allclose(run(z, context)[1][0], np.log(np.diag(jacobian)).sum(), atol=1e-10)
    assert (np.asarray(jax.jacfwd(lambda c: run(z, c)[0][0][0])(context)) != 0).all()


def test_log_det_of_a_step_of_maps_is_that_of_a_triangle():
  with jax.enable_x64(True):
    shape = (3, 4, 2)
    step = made.conditioned(Convs, coupling.gated())
    context = jax.random.normal(KEY, (1, *shape[:2], 5), 'float64')
    params = shaken(doubled(step.init(KEY, (jnp.zeros((1, *shape)), context))), 0.3)
    z = jax.random.normal(jax.random.key(1), (math.prod(shape),), 'float64')
    run = lambda z: step.forward(params, {}, (z.reshape(1, *shape), context))
    jacobian = np.asarray(jax.jacfwd(lambda z: run(z)[0][0].ravel())(z))
    assert (jacobian[np.triu_indices(z.size, 1)] == 0).all()
    np.testing.assert_allclose(run(z)[1][0], np.linalg.slogdet(jacobian)[1], atol=1e-10)
    for by_fixed_point in (False, True):
      back = made.conditioned(Convs, coupling.gated(), by_fixed_point).inverse(params, {}, run(z)[0])
      np.testing.assert_allclose(back[0][0].ravel(), z, atol=1e-9)


def test_log_det_golden_planar_and_radial():
  with jax.enable_x64(True):
    z = jnp.asarray([[0.3, -0.8]], 'float64')
    of = lambda **params: {name: jnp.asarray(value, 'float64') for name, value in params.items()}
    y, log_det, _ = bijections.planar().forward(of(u=[0.9, 0.4], w=[-1.3, 0.7], b=0.2), None, z)
    np.testing.assert_allclose(y[0], [-0.11106693, -1.14051880], atol=1e-8)
    np.testing.assert_allclose(log_det, [-0.3258003972], atol=1e-10)
    y, log_det, _ = bijections.planar(identity=False).forward(of(u=[0.9, 0.4], w=[-1.3, 0.7], b=0.2), None, z)
    np.testing.assert_allclose(y[0], [-0.18298385, -1.10179431], atol=1e-8)
    np.testing.assert_allclose(log_det, [-0.4964752109], atol=1e-10)
    y, log_det, _ = bijections.radial().forward(of(centre=[0.5, 0.5], alpha=0.1, beta=-0.4), None, z)
    np.testing.assert_allclose(y[0], [0.32246758, -0.65396072], atol=1e-8)
    np.testing.assert_allclose(log_det, [-0.1606115733], atol=1e-10)


def test_log_det_golden_step():
  with jax.enable_x64(True):
    z = jnp.asarray([[0.4, -1.1]], 'float64')
    h = jnp.asarray([[0.3, 0.5 * 0.4 - 0.2, 1.5, 1.5 + 0.4 * 0.4]], 'float64')
    for start in (0.0, 2.0):  # what enters the sigmoid is the raw number and the start
      y, log_det = coupling.gated(start).forward(h - jnp.asarray([[0, 0, start, start]]), z)
      np.testing.assert_allclose(y[0], [0.38175745, -0.9242618], atol=1e-8)
      np.testing.assert_allclose(log_det, [-0.3754833683], atol=1e-10)


def test_log_det_of_a_linear_flow_makes_any_normal():
  """With L of unit diagonal and the deviations of the base, L z has a given covariance, and volumes stay."""
  with jax.enable_x64(True):
    sigma = np.array([1, 1.28062485, 0.45263456])
    below = np.array([[0, 0, 0], [0.6, 0, 0], [-0.3, 0.35365854, 0]])
    step = made.autoregressive(lambda numbers: made.MADE((), numbers), coupling.additive())
    params = {'kernel_0': jnp.asarray(below.T), 'bias_0': jnp.zeros(3)}
    jacobian = np.asarray(jax.jacfwd(lambda z: step.forward(params, None, z[None])[0][0])(jnp.zeros(3)))
    covariance = jacobian @ np.diag(sigma**2) @ jacobian.T
    np.testing.assert_allclose(covariance, [[1, 0.6, -0.3], [0.6, 2, 0.4], [-0.3, 0.4, 0.5]], atol=1e-7)
    assert step.forward(params, None, jnp.ones((1, 3)))[1][0] == 0
    np.testing.assert_allclose(1.5 * math.log(2 * math.pi * math.e) + np.log(sigma).sum(), 3.7114935401, atol=1e-7)


# The identity.


def test_identity_of_planar_radial_and_sylvester_maps_with_parameters_of_zero():
  x = jax.random.normal(KEY, (5, 3))
  for layer, kept in (
    (bijections.planar(), ('w', 'b')), (bijections.radial(), ('centre',)),
    (bijections.sylvester(2), ('normals', 'bias')),
  ):  # fmt: skip
    params = {name: leaf if name in kept else 0 * leaf for name, leaf in layer.init(KEY, x).items()}
    for own in (params, jax.tree.map(jnp.zeros_like, params)):
      y, log_det, _ = layer.forward(own, None, x)
      np.testing.assert_allclose(y, x, atol=1e-6)
      np.testing.assert_allclose(log_det, 0, atol=1e-6)


@pytest.mark.parametrize('stem', ['nf_vae_mnist', 'iaf_vae_mnist'])
def test_identity_of_no_layers_and_the_plain_autoencoder(stem):
  settings = settings_of(f'{stem}:tiny', bound='elbo', average=0.0)
  settings.model.flow.layers = 0
  plain = settings.copy_and_resolve_references()
  plain.system = 'vae.vae'
  (first, state, batch), (second, *_) = begun(settings), begun(plain)
  text = lambda system: str(jax.make_jaxpr(system.step)(KEY, state, batch))
  assert text(first) == text(second)


def test_identity_of_steps_whose_network_and_context_are_zero_and_gates_open():
  settings = settings_of('iaf_vae_mnist:tiny', average=0.0, samples=3)
  system, state, batch = begun(settings)
  model = settings.model
  model.flow.layers = 0
  plain, other, _ = begun(settings)
  encoder = state.params['encoder']
  params = jax.tree.map(jnp.zeros_like, encoder['flow'])
  raw = jnp.where(jnp.arange(2 * model.latents[0]) < model.latents[0], 0.0, 40.0)
  params = {'0': params['0'] | {'bias_2': jnp.broadcast_to(raw, params['0']['bias_2'].shape)}}
  network = encoder['network'] | {'context': jax.tree.map(jnp.zeros_like, encoder['network']['context'])}
  state = state.replace(params=state.params | {'encoder': {'network': network, 'flow': params}})
  same = {'bodies_0': network['MLP_0'], 'heads_0': network['NormalHead_0']}
  other = other.replace(params=other.params | {'encoder': same, 'decoder': state.params['decoder']})
  bound = lambda system, state: jax.jit(system.evaluate)(KEY, state, batch)['neg_bound_nats']
  np.testing.assert_allclose(bound(system, state), bound(plain, other), rtol=1e-6)


def decoder(undo=lambda z: z):
  logits = lambda z: jnp.stack([z[..., 0], z[..., -1], z.sum(-1)], -1)
  return bounds.Decoder(
    init=lambda key, x: {},
    log_prob=lambda key, state, x, z: dist.bernoulli_log_prob(x if z.ndim == 2 else x[:, None], logits(undo(z))),
    mean=None, sample=None, bits=None,
  )  # fmt: skip


def test_identity_of_a_flow_in_the_prior_and_its_inverse_in_the_posterior():
  """q(z) under a prior that maps z to noise is the image of q under that map, decoded by way of its inverse."""
  part = flows.af((Z,), (7, 6), 3, 'tanh', 'gated')
  prior = priors.from_flow(part, Z)
  params = shaken(prior.init(KEY, None)['prior'], 0.3)
  state = type('At', (), {'params': {'prior': params}, 'extra': {}})
  mean, logvar = 0.3 * jax.random.normal(KEY, (2, 1, Z)), jnp.full((2, 1, Z), -0.5)
  x = jnp.asarray([[1.0, 0, 1], [0.0, 0, 1]])
  map_all = lambda run: lambda z: jax.vmap(lambda z: run(z)[:2], 1, 1)(z)
  forward = map_all(lambda z: part.forward(params, {}, z))
  inverse = map_all(lambda z: part.inverse(params, {}, z))

  def draw(key, state, x, k):
    z = mean + jnp.exp(0.5 * logvar) * standard_normal(key, (2, k, Z))
    return [Latent(z, None, dist.normal_log_prob(z, mean, logvar))]

  def draw_moved(key, state, x, k):
    ((z, _, log_q),) = draw(key, state, x, k)
    moved, log_det = forward(z)
    return [Latent(moved, None, log_q - log_det)]

  model = lambda draw, prior, decoder: bounds.compose(
    posteriors.Posterior(None, draw, None, closed=False), prior, decoder
  )
  in_prior = model(draw, prior, decoder()).draw(KEY, state, x, 3)
  in_posterior = model(draw_moved, priors.standard(Z), decoder(lambda z: inverse(z)[0])).draw(KEY, state, x, 3)
  np.testing.assert_allclose(in_prior.log_weights, in_posterior.log_weights, rtol=1e-6)
  assert np.abs(in_prior.log_p - dist.standard_normal_log_prob(in_prior.latents[0].z)).max() > 0.1


def test_identity_of_a_prior_of_shifts_and_its_volume():
  part = flows.af((Z,), (7,), 4)
  z = jax.random.normal(KEY, (5, Z))
  start = part.init(KEY, z)
  np.testing.assert_array_equal(part.forward(start, None, z)[0], z)
  params = shaken(start)
  noise, log_det, _ = part.forward(params, None, z)
  assert (np.asarray(log_det) == 0).all() and np.abs(noise - z).max() > 0.1
  np.testing.assert_allclose(part.inverse(params, None, noise)[0], z, atol=1e-6)


@pytest.mark.parametrize('elementwise', ['additive', 'gated'])
def test_identity_of_the_fixed_point_and_one_dimension_after_another(elementwise, capsys):
  size = 50
  module = made.MADE((64,), flows.AUTOREGRESSIVE[elementwise]().num_parameters)
  y = jax.random.normal(KEY, (20, size))
  params = shaken(module.init(KEY, y)['params'], 0.1)
  evaluate = lambda x: module.apply({'params': params}, x)
  x, turns = jax.jit(lambda y: made.fixed_point(evaluate, flows.AUTOREGRESSIVE[elementwise](), y))(y)
  network = lambda numbers: made.MADE((64,), numbers)
  one_by_one = made.autoregressive(network, flows.AUTOREGRESSIVE[elementwise]())
  np.testing.assert_allclose(x, jax.jit(one_by_one.inverse)(params, None, y)[0], atol=1e-5)
  assert 2 < turns <= size
  with capsys.disabled():
    print(f' {turns} turns of {size}', end='')


def test_identity_of_a_draw_without_and_with_an_axis_of_samples():
  settings = settings_of('iaf_vae_mnist:tiny', average=0.0)
  _, state, batch = begun(settings)
  posterior = transformed.by_name(settings)
  (one,), (several,) = (posterior.draw(KEY, state, batch['x'], k) for k in (None, 1))
  np.testing.assert_allclose(one.z, several.z[:, 0], rtol=1e-6)
  np.testing.assert_allclose(one.log_q, several.log_q[:, 0], rtol=1e-6)


# Settings.


@pytest.mark.parametrize(
  ('stem', 'settings', 'message'),
  [
    ('nf_vae_mnist', {'posterior': 'planer'}, "config.model.posterior must be one of .*did you mean 'planar'"),
    ('iaf_vae_mnist', {'posterior': 'planar'}, 'config.model.posterior must be one of iaf, diagonal'),
    ('af_vae_mnist', {'prior': 'flows'}, "config.model.prior must be one of .*did you mean 'flow'"),
    ('af_vae_mnist', {'prior_flow': 'glow'}, 'config.model.prior_flow=glow maps images, but latents are vectors of 4'),
    ('af_vae_mnist', {'prior_flow': 'mad'}, "config.model.prior_flow must be one of .*did you mean 'maf'"),
    ('af_vae_mnist', {'prior': 'vamp'}, 'config.model.pseudo_inputs must be at least 1, got 0'),
    ('nf_vae_mnist', {'prior': 'vamp', 'pseudo_inputs': 3}, 'config.model.prior=vamp is a mixture of normal'),
    ('nf_vae_mnist', {'bound': 'elbow'}, "config.model.bound must be one of .*did you mean 'elbo'"),
    ('nf_vae_mnist', {'warm_up': 0}, 'config.model.warm_up must be at least 1, got 0'),
    ('nf_vae_mnist', {'warm_up_of': 'prior'}, 'config.model.warm_up_of must be one of divergence, joint'),
    ('nf_vae_mnist', {'bound': 'free_bits'}, 'config.model.free_bits is missing, which bound=free_bits needs'),
    ('nf_vae_mnist', {'bound': 'free_bits', 'free_bits': -1.0}, 'config.model.free_bits must not be negative, got -1'),
    ('nf_vae_mnist', {'bound': 'soft_free_bits', 'free_bits': (1.0, 2.0)}, 'must be one number for soft_free_bits'),
    ('nf_vae_mnist', {'bound': 'sticking_the_landing'}, 'bound=sticking_the_landing needs a normal posterior of one'),
    ('nf_vae_mnist', {'flow': {'layer': 2}}, "a key of config.model.flow .planar. must be one of layers, got 'layer'"),
    ('nf_vae_mnist', {'flow': {'layers': -1}}, 'config.model.flow.layers must not be negative, got -1'),
    ('iaf_vae_mnist', {'flow': {'layers': 2}}, 'config.model.flow.hidden is missing, which posterior=iaf needs'),
    ('iaf_vae_mnist', {'latents': (4, 2), 'hidden': ((8,), (8,))}, 'config.model.latents and .hidden must be of one'),
    ('iaf_vae_mnist', {'average': 1.0}, r'config.model.average must be in \[0, 1\), got 1.0'),
  ],
)
def test_settings_that_do_not_fit_are_refused(stem, settings, message):
  config = settings_of(f'{stem}:tiny')
  for name, value in settings.items():
    config.model[name] = value
  if isinstance(settings.get('flow'), dict):
    config.model.flow = experiment.from_json(settings['flow'])
  with pytest.raises(UserError, match=message):
    systems.build(config)


def sampler(name, images=16, **changes):
  """(the sampler's traced program, compiled) of a variant for images of 28 x 28."""
  settings = settings_of(name, (28, 28, 1), **changes)
  system = systems.build(settings)
  batch = {'x': jax.ShapeDtypeStruct((2, 28, 28, 1), 'float32')}
  state = jax.eval_shape(system.init, KEY, batch)
  traced = jax.jit(lambda key, state: system.sample(key, state, images)).trace(KEY, state)
  return traced.jaxpr, traced.lower().compile()


@pytest.mark.parametrize('name', ['iaf_vae_mnist:small', 'nf_vae_mnist:small', 'nf_vae_mnist:small_sylvester'])
def test_drawing_under_a_flow_posterior_costs_what_it_costs_without(name):
  """The flow is in the posterior alone: the sampler has the products, the FLOPs and the memory of `vae.vae`."""
  own, plain = sampler(name), sampler('vae_mnist')
  assert hlo.product_flops(own[0]) == hlo.product_flops(plain[0]) == 2 * 16 * (50 * 200 + 200 * 200 + 200 * 784)
  costs = [program.cost_analysis() for _, program in (own, plain)]
  assert costs[0]['flops'] == costs[1]['flops'] > hlo.product_flops(own[0])
  # The encoder and its flow are arguments that the program drops.
  assert own[1].memory_analysis().temp_size_in_bytes == plain[1].memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize('elementwise', ['additive', 'gated'])
def test_drawing_under_an_autoregressive_prior_by_fixed_point_and_one_by_one(elementwise, monkeypatch):
  """All layers of the prior together: the same latents to 1e-5, in at most D turns of each layer, all reported."""
  settings = settings_of('af_vae_mnist:small', (28, 28, 1))
  settings.model.prior_network.elementwise = elementwise
  network = settings.model.prior_network.to_dict() | {'hidden': (64,)}
  build = lambda: priors.from_flow(flows.af((50,), **network), 50)
  prior = build()
  state = State(jnp.int32(0), shaken(prior.init(KEY, None), 0.1), {}, {})
  counted = []
  with made.reporting_turns(lambda turns, most: counted.append((int(turns), int(most)))):
    z = jax.jit(lambda state: prior.view.sample(KEY, state, 20))(state)
  jax.effects_barrier()
  assert len(counted) == 4 and all(2 < turns < most == 50 for turns, most in counted)
  one_by_one = functools.partial(made.autoregressive, by_fixed_point=False)
  monkeypatch.setattr(flows.made, 'autoregressive', lambda *args, by_fixed_point: one_by_one(*args))
  expected = jax.jit(lambda state: build().view.sample(KEY, state, 20))(state)
  assert np.abs(z - standard_normal(KEY, (20, 50))).max() > 0.3
  np.testing.assert_allclose(z, expected, atol=1e-5)


def test_turns_are_reported_inside_alone():
  counted, report = [], lambda *turns: counted.append(turns)
  part = flows.af((6,), (8,), 2)
  y = jax.random.normal(KEY, (3, 6))
  params = part.init(KEY, y)
  with made.reporting_turns(report):
    jax.block_until_ready(jax.jit(lambda y: part.inverse(params, {}, y))(y))
  jax.effects_barrier()
  assert [(int(turns), int(most)) for turns, most in counted] == [(2, 6)] * 2  # of the identity
  jax.block_until_ready(jax.jit(lambda y: part.inverse(params, {}, y))(y))
  jax.effects_barrier()
  assert len(counted) == 2
