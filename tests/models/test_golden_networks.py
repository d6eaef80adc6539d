"""Networks are the architectures of their papers: their outputs are those of plain NumPy, from the same weights."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import (
  assert_same,
  batch_norm,
  conv,
  dense,
  given,
  layer_norm,
  leaky,
  relu,
  sides_of,
  sigmoid,
  transposed,
  wave,
  windows,
)  # fmt: skip

from dgm_jax.models import (
  adversary,
  binary,
  classifier,
  code_prior,
  dcgan,
  dequantize,
  disentangle,
  inception,
  resnet_gan,
  semi_supervised,
  vae,
  vqvae,
)
from dgm_jax.nn.blocks import MLP
from dgm_jax.nn.norm import BatchNorm, LayerNorm

TRAINED = ['batch_stats']
softplus = functools.partial(np.logaddexp, 0)


def linear(params, name='Verdict_0'):
  return lambda h: dense(params[name]['Dense_0'], h)[:, 0]


@pytest.mark.parametrize('norm', [None, BatchNorm])
def test_dense_game(norm):
  """Gulrajani et al. 2017, toys."""
  options = {'mutable': TRAINED} if norm else {}
  z, x = wave(3, 2), wave(3, 2, 2)
  for module, at in (
    (adversary.DenseGenerator((4, 3), (2, 2), 'tanh', norm), z),
    (adversary.DenseCritic((4, 3), norm), x),
  ):
    variables, out = given(module, at, **options)
    out, p, h = out[0] if norm else out, variables['params'], np.asarray(at, np.float64).reshape(3, -1)
    for i in range(2):
      h = dense(p[f'Dense_{i}'], h, bias=norm is None or at is x)
      h = relu(batch_norm(p[f'BatchNorm_{i}'], h) if norm else h)
    if at is z:
      assert_same(out, np.tanh(dense(p['Dense_2'], h)).reshape(3, 2, 2))
    else:
      assert_same(out[0], linear(p)(h))
      assert_same(out[1], h)


def test_maxout_critic_and_minibatch_discrimination():
  """Goodfellow et al. 2013, equation 1; Salimans et al. 2016, section 3.2."""
  assert (adversary.MaxoutCritic(()).pieces, adversary.MaxoutCritic(()).kernels) == (5, 0)
  variables, (value, features) = given(adversary.MaxoutCritic((4, 3), kernels=2), wave(3, 5))
  p, h = variables['params'], np.asarray(wave(3, 5), np.float64)
  for i in range(2):
    h = dense(p[f'Dense_{i}'], h).reshape(3, -1, 5).max(-1)
  assert_same(features, h)
  told = p['Verdict_0']['MinibatchDiscrimination_0']
  assert told['theta'].shape == (3, 2, 5)
  unit = told['theta'] / np.sqrt((told['theta'] ** 2).sum(0, keepdims=True))
  directions = np.einsum('bf,fkd->bkd', h, unit) * np.exp(told['log_scale'])[:, None]
  alike = np.exp(-np.abs(directions[:, None] - directions[None]).sum(-1)) * (1 - np.eye(3))[..., None]
  assert_same(value, linear(p)(np.concatenate([h, alike.sum(1) + told['bias']], 1)))


def test_a_maxout_critic_drops_a_fifth_of_the_pixels_and_half_of_the_units():
  ones, key = jnp.ones((1, 4000)), {'dropout': jax.random.key(1)}
  weights = lambda size, kernel, bias: {
    'Dense_0': {'kernel': jnp.full((4000, size), kernel), 'bias': jnp.full(size, bias)},
    'Verdict_0': {'Dense_0': {'kernel': jnp.ones((size, 1)), 'bias': jnp.zeros(1)}},
  }

  @functools.partial(jax.jit, static_argnums=0)
  def apply(size, *values):
    return adversary.MaxoutCritic((size,), pieces=1).apply({'params': weights(size, *values)}, ones, rngs=key)[1]

  units = np.asarray(apply(4000, 0.0, 1.0))
  assert abs((units == 0).mean() - 0.5) < 0.05 and units.max() == 2
  # Of 4000 pixels of one, a unit sees all but a fifth, 1.25 times.
  pixels = np.asarray(apply(8, 1.0, 0.0))
  assert pixels.max() > 0 and abs(pixels.max() / 8000 - 1) < 0.05 and pixels.max() / 2 % 1.25 == 0
  assert pixels.max() != 8000


@pytest.mark.parametrize('hidden', [(), (5,)])
def test_dcgan(hidden):
  """Radford et al. 2016, section 3; every layer's normalisation, none before the critic's first."""
  generator = dcgan.Generator((3, 2), (6, 6, 1), hidden, bias=True, norm=BatchNorm)
  variables, (x, _) = given(generator, wave(3, 4), mutable=TRAINED)
  p, h = variables['params'], np.asarray(wave(3, 4), np.float64)
  for i in range(len(hidden)):
    h = relu(batch_norm(p[f'norms_{i}'], dense(p[f'linear_{i}'], h, bias=False)))
  h = dense(p[f'linear_{len(hidden)}'], h, bias=False)
  norm = functools.partial(batch_norm, p[f'norms_{len(hidden)}'])
  h = relu(norm(h).reshape(3, 2, 2, 3) if hidden else norm(h.reshape(3, 2, 2, 3)))
  h = relu(batch_norm(p[f'norms_{len(hidden) + 1}'], transposed(p['convs_0'], h, bias=False)[:, :3, :3]))
  assert_same(x, np.tanh(transposed(p['last'], h)))
  assert set(sides_of(p)) == {(5, 5)}
  critic = dcgan.Critic((2, 3), hidden, bias=True, norm=BatchNorm)
  variables, ((value, features), _) = given(critic, wave(3, 5, 5, 1), mutable=TRAINED)
  p, h = (
    variables['params'],
    leaky(conv(variables['params']['Conv_0'], np.asarray(wave(3, 5, 5, 1), np.float64), 2), 0.2),
  )
  assert set(sides_of(p)) == {(5, 5)}
  h = leaky(batch_norm(p['BatchNorm_0'], conv(p['Conv_1'], h, 2, bias=False)), 0.2).reshape(3, -1)
  for i in range(len(hidden)):
    h = leaky(batch_norm(p[f'BatchNorm_{i + 1}'], dense(p[f'Dense_{i}'], h, bias=False)), 0.2)
  assert_same(features, h)
  assert_same(value, linear(p)(h))


def test_recognizer():
  """Chen et al. 2016, appendix C.1."""
  variables, (out, _) = given(dcgan.Recognizer(4, 2, 5, norm=BatchNorm), wave(3, 4), mutable=TRAINED)
  p = variables['params']
  h = leaky(batch_norm(p['BatchNorm_0'], dense(p['Dense_0'], np.asarray(wave(3, 4), np.float64), bias=False)), 0.1)
  numbers = dense(p['Dense_1'], h)
  assert numbers.shape == (3, 4 + 2 * 2)
  assert_same(out[0], numbers[:, :4])
  assert_same(out[1], numbers[:, 4:6])


def test_residual_game():
  """Gulrajani et al. 2017, appendix C, table 5."""
  variables, (x, _) = given(resnet_gan.Generator((4, 4, 1), 3, 1, norm=BatchNorm), wave(2, 3), mutable=TRAINED)
  p = variables['params']
  assert sides_of(p) == {(3, 3): 3, (1, 1): 1}
  h, up = dense(p['Dense_0'], np.asarray(wave(2, 3), np.float64)).reshape(2, 2, 2, 3), p['Up_0']
  twice = lambda h: h.repeat(2, 1).repeat(2, 2)
  y = conv(up['Conv_0'], twice(relu(batch_norm(up['BatchNorm_0'], h))))
  h = conv(up['Conv_1'], relu(batch_norm(up['BatchNorm_1'], y))) + conv(up['Conv_2'], twice(h))
  assert_same(x, np.tanh(conv(p['Conv_0'], relu(batch_norm(p['BatchNorm_0'], h)))))
  for norm in (None, LayerNorm):
    variables, (value, features) = given(resnet_gan.Critic(3, norm), wave(2, 8, 8, 1))
    p, h = variables['params'], np.asarray(wave(2, 8, 8, 1), np.float64)
    assert sides_of(p) == {(3, 3): 8, (1, 1): 2}
    pool = lambda h: windows(h, stride=2, size=2).mean(0)
    first, normed = p['First_0'], (lambda q, h: layer_norm(q, h)) if norm else (lambda q, h: h)

    def branch(q, h, normed=normed):
      for i in range(2):
        h = conv(q[f'Conv_{i}'], relu(normed(q.get(f'LayerNorm_{i}'), h)))
      return h

    h = pool(conv(first['Conv_1'], relu(conv(first['Conv_0'], h)))) + conv(first['Conv_2'], pool(h))
    h = pool(branch(p['Residual_0'], h)) + pool(conv(p['Conv_0'], h))
    for i in (1, 2):
      h = h + branch(p[f'Residual_{i}'], h)
    assert_same(features, relu(h).mean((1, 2)))
    assert_same(value, linear(p)(relu(h).mean((1, 2))))


def test_semi_supervised_networks():
  """Salimans et al. 2016, section 6.1, and its program."""
  variables, (logits, features) = given(semi_supervised.NoisyClassifier((4, 3), 5), wave(3, 2, 2, 1))
  p, lengths, h = variables['params'], variables['constants'], np.asarray(wave(3, 2, 2, 1), np.float64).reshape(3, -1)

  def layer(name, h, length):
    theta = p[name]['theta']
    return h @ (theta / np.sqrt((theta**2).sum(0))) * length + p[name]['bias']

  for i in range(2):
    h = relu(layer(f'WeightNormDense_{i}', h, lengths[f'WeightNormDense_{i}']['length']))
  assert_same(features, h)
  assert_same(logits, layer('WeightNormDense_2', h, p['WeightNormDense_2']['length']))
  variables, (x, _) = given(semi_supervised.SoftplusGenerator((4,), (2, 2, 1)), wave(3, 2), mutable=TRAINED)
  p = variables['params']
  h = softplus(
    batch_norm(p['BatchNorm_0'], dense(p['Dense_0'], np.asarray(wave(3, 2), np.float64), bias=False), 1e-6, scale=False)
  )
  unit = p['theta'] / np.sqrt(1e-6 + (p['theta'] ** 2).sum(0))
  assert_same(x, sigmoid(h @ unit * p['length'] + p['bias']).reshape(3, 2, 2, 1))


def test_classifiers_and_binary_codes():
  """The judge's features are seen before half of them are dropped, and only in training."""
  x = wave(2, 5, 5, 1)
  variables, (logits, features) = given(classifier.Classifier((2,), 4, 3), x)
  p = variables['params']
  h = relu(conv(p['Downsample_0']['Conv_0'], np.asarray(x, np.float64), 2))
  h = relu(dense(p['Dense_0'], h.reshape(2, -1)))
  assert_same(features, h)
  assert_same(logits, dense(p['Dense_1'], h))
  assert set(sides_of(p)) == {(4, 4)}
  many = classifier.Classifier((2,), 500, 3)
  weights = jax.tree.map(
    lambda like: jnp.ones(like.shape), jax.eval_shape(many.init, jax.random.key(0), jnp.ones((1, 2, 2, 1)))
  )
  kept, whole = (float(many.apply(weights, jnp.ones((1, 2, 2, 1)), rngs=rngs)[0][0, 0])
                 for rngs in ({'dropout': jax.random.key(1)}, None))  # fmt: skip
  assert 0 < abs(kept / whole - 1) < 0.2 and round((kept - 1) / ((whole - 1) / 250)) == (kept - 1) / ((whole - 1) / 250)
  variables, logits = given(binary.BinaryEncoder((4,), 3), x)
  p = variables['params']
  h = np.tanh(dense(p['MLP_0']['Dense_0'], np.asarray(x, np.float64).reshape(2, -1)))
  assert_same(logits, dense(p['Dense_0'], h))
  variables, logit = given(disentangle.LatentDiscriminator((4, 3)), wave(2, 3))
  p, h = variables['params'], np.asarray(wave(2, 3), np.float64)
  for i in range(2):
    h = leaky(dense(p[f'Dense_{i}'], h), 0.2)
  numbers = dense(p['Dense_2'], h)
  assert_same(logit, numbers[:, 0] - numbers[:, 1])
  assert disentangle.LatentDiscriminator().hidden == (1000,) * 6


@pytest.mark.parametrize('channels', [(), (2, 3)])
def test_autoencoders(channels):
  """Burda et al. 2016, appendix C: the heads give the logarithm of the deviation."""
  x, hidden, latents = wave(2, 5, 5, 1), ((4,), (3, 3)), (3, 2)
  head = lambda p, h: (m := dense(p['Dense_0'], h), (m[..., : m.shape[-1] // 2], 2 * m[..., m.shape[-1] // 2 :]))[1]
  variables, layers = given(vae.Encoder(hidden, latents, channels), x)
  p, h = variables['params'], np.asarray(x, np.float64)
  assert set(sides_of(p)) <= {(4, 4)}
  for i in range(len(channels)):
    h = relu(conv(p['images'][f'Conv_{i}'], h, 2))
  body = lambda q, h: functools.reduce(lambda h, i: np.tanh(dense(q[f'Dense_{i}'], h)), range(len(q)), h)
  first = head(p['heads_0'], body(p['bodies_0'], h.reshape(2, -1)))
  second = head(p['heads_1'], body(p['bodies_1'], first[0]))
  for got, expected in zip(layers, (first, second), strict=True):
    assert_same(got[0], expected[0])
    assert_same(got[1], expected[1])
  variables, numbers = given(vae.Decoder(hidden, latents, (5, 5, 1), 2, channels), wave(2, 2))
  p = variables['params']
  h = body(p['bodies_0'], head(p['heads_0'], body(p['bodies_1'], np.asarray(wave(2, 2), np.float64)))[0])
  assert set(sides_of(p)) <= {(4, 4)}
  if channels:  # 5 x 5 was made 3 x 3 and 2 x 2 on the way down
    q = p['output']
    h = relu(dense(q['Dense_0'], h)).reshape(2, 2, 2, 3)
    h = relu(transposed(q['TransposedConv_0'], h)[:, :3, :3])
    out = transposed(q['output'], h)[:, :5, :5]
    assert_same(numbers[0], out[..., 0].reshape(2, -1))
    assert_same(numbers[1], out[..., 1].reshape(2, -1))
  else:
    both = dense(p['output'], h)
    assert_same(numbers[0], both[:, :25])
    assert_same(numbers[1], both[:, 25:])


def test_gated_layers():
  """Tomczak & Welling 2018, section 5: a linear map times the sigmoid of another."""
  x = wave(2, 5)
  variables, out = given(MLP((4, 3), 'gated'), x)
  h = np.asarray(x, np.float64)
  for i, size in enumerate((4, 3)):
    both = dense(variables['params'][f'Dense_{i}'], h)
    assert both.shape == (2, 2 * size)
    h = both[:, :size] * sigmoid(both[:, size:])
  assert_same(out, h)
  kernel = np.asarray(MLP((300,), 'gated').init(jax.random.key(0), wave(1, 500))['params']['Dense_0']['kernel'])
  assert 0.99 < np.abs(kernel).max() / np.sqrt(6 / 800) <= 1  # the fan of one map, not of both


def residual(p, h):
  """Van den Oord et al. 2017, section 4.1."""
  for i in range(0, len(p), 2):
    h = h + conv(p[f'Conv_{i + 1}'], relu(conv(p[f'Conv_{i}'], relu(h))))
  return relu(h)


def test_vq_vae_of_two_levels():
  """Razavi et al. 2019, algorithm 1: the lower level is told of the upper one's codes, the image made of both."""
  network = vqvae.VQVAE((6, 6, 1), (2, 2), codes=5, features=2, hidden=4, blocks=1, width=3)
  variables, passed = given(network, wave(2, 6, 6, 1))
  p, x = variables['params'], np.asarray(wave(2, 6, 6, 1), np.float64)

  def down(q, h):
    h = relu(conv(q['Conv_0'], h, 2))
    return residual(q['Residual_0'], conv(q['Conv_1'], h))

  def up(q, h, size):
    h = residual(q['Residual_0'], conv(q['Conv_0'], h))
    return transposed(q['TransposedConv_0'], h)[:, :size, :size]

  def quantized(z, book):
    found = ((z[..., None, :] - book) ** 2).sum(-1).argmin(-1)
    return found, book[found]

  low = down(p['encoders_1'], x - 0.5)
  high = down(p['encoders_0'], low)
  assert low.shape[-1] == 4 and p['encoders_1']['Conv_0']['kernel'].shape == (4, 4, 1, 2)
  assert sides_of(p) == {(4, 4): 5, (3, 3): 8, (1, 1): 6}
  top = conv(p['heads_0'], high)
  top_codes, top_vectors = quantized(top, p['codebook_top'])
  bottom = conv(p['heads_1'], np.concatenate([up(p['tellers_0'], top_vectors, 3), low], -1))
  bottom_codes, vectors = quantized(bottom, p['codebook_bottom'])
  wide = transposed(p['joiners_0']['TransposedConv_0'], top_vectors)[:, :3, :3]
  image = up(p['decoder'], np.concatenate([wide, vectors], -1), 6) + 0.5
  for got, expected in zip((*passed.z, passed.x), (top, bottom, image), strict=True):
    assert_same(got, expected)
  np.testing.assert_array_equal(passed.codes[0], top_codes)
  np.testing.assert_array_equal(passed.codes[1], bottom_codes)


def test_the_conditioner_of_a_prior():
  """Razavi et al. 2019, appendix B."""
  above = [jnp.asarray([[[0, 1], [2, 0]]]), jnp.asarray([[[1, 0, 2], [0, 2, 1], [2, 2, 0]]])]
  variables, out = given(code_prior.Conditioner(3, (5, 5), 2, 1, 3), above)
  p, total = variables['params'], 0
  for i, codes in enumerate(above):
    h = residual(p[f'Residual_{i}'], conv(p[f'Conv_{i}'], p[f'Embed_{i}']['embedding'][np.asarray(codes)]))
    factor = -(-5 // h.shape[1])
    total = total + h.repeat(factor, 1).repeat(factor, 2)[:, :5, :5]
  assert_same(out, relu(total))
  assert sides_of(p) == {(3, 3): 4, (1, 1): 2}


def test_noise_that_is_learned():
  """Ho et al. 2019, section 3.1, with one layer: u = sigmoid(mean + deviation e)."""
  x, key = (wave(2, 3, 3, 1) + 1) / 2.1, jax.random.key(4)
  variables, (u, log_q) = given(dequantize.Dequantizer(3), x, key)
  p = variables['params']
  h = relu(conv(p['Conv_0'], np.floor(256 * np.asarray(x, np.float64)) / 127.5 - 1))
  mean, raw = np.split(conv(p['Conv_1'], h), 2, -1)
  assert p['Conv_0']['kernel'].shape[:2] == p['Conv_1']['kernel'].shape[:2] == (3, 3)
  e = np.asarray(jax.random.normal(key, x.shape), np.float64)
  expected = sigmoid(mean + np.exp(raw + 0.5) * e)
  assert_same(u, expected)
  log_normal = -0.5 * e**2 - 0.5 * np.log(2 * np.pi) - (raw + 0.5)
  assert_same(log_q, (log_normal - np.log(expected) - np.log1p(-expected)).reshape(2, -1).sum(1), 1e-3)


def test_inceptions_layers_in_turn():
  """Szegedy et al. 2016, as Heusel et al. 2017 use it: the last block alone pools by maximum, and none other."""
  seen = []

  def note(following, args, kwargs, context):
    module = context.module
    if not module.path:
      return following(*args, **kwargs)
    seen.append((type(module).__name__, *[getattr(module, name) for name in DESCRIBED.get(type(module), ())]))
    return args[0]  # what a layer makes is another test's affair

  with nn.intercept_methods(note):
    jax.eval_shape(inception.Inception().init, jax.random.key(0), jnp.zeros((1, 75, 75, 3)))
  stem = [('Conv', 32, (3, 3), 2, 'VALID'), ('Conv', 32, (3, 3), 1, 'VALID'), ('Conv', 64, (3, 3), 1, 'SAME'),
          ('Conv', 80, (1, 1), 1, 'SAME'), ('Conv', 192, (3, 3), 1, 'VALID')]  # fmt: skip
  blocks = [('BlockA', 32), ('BlockA', 64), ('BlockA', 64), ('BlockB',), *[('BlockC', n) for n in (128, 160, 160, 192)]]
  last = [('BlockD',), ('BlockE', inception._mean), ('BlockE', inception._max)]
  assert seen == stem + blocks + last


DESCRIBED = {
  inception.Conv: ('features', 'kernel', 'stride', 'padding'), inception.BlockA: ('pooled',),
  inception.BlockC: ('width',), inception.BlockE: ('pool',),
}  # fmt: skip


def test_inceptions_convolution_and_pools():
  x = wave(2, 4, 4, 2)
  variables, out = given(inception.Conv(3, (3, 1), 2, 'VALID'), x)
  p, stats, h = variables['params'], variables['batch_stats'], np.asarray(x, np.float64)
  y = sum(h[:, i : i + 1 + 1 : 2, ::2] @ p['conv']['kernel'][i, 0] for i in range(3))
  assert_same(out, relu((y - stats['mean']) / np.sqrt(stats['variance'] + 1e-3) * p['scale'] + p['bias']))
  assert_same(inception._max(x), windows(h, (1, 1)).max(0))
  assert_same(inception._max(x, 2), windows(h, stride=2).max(0))
  assert_same(inception._mean(x), np.nanmean(windows(h, (1, 1), blank=np.nan), 0))
