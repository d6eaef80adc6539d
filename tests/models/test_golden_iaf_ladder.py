"""The residual ladder of inverse autoregressive posteriors in plain NumPy, and the Jacobian of its steps."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from golden import assert_same, conv, elu, given, transposed, wave

from dgm_jax.models import conv_ladder, iaf_ladder


def normed(p, mask=1.0):
  """Salimans & Kingma 2016, equation 2, of what the mask leaves."""
  v = p['direction'] * mask
  return {'kernel': p['scale'] * v / np.sqrt((v**2).sum((0, 1, 2))), 'bias': p['bias']}


def later(inputs, outputs, strict):
  """Kernels [3, 3, inputs, outputs] that see rows below, columns to the right, and earlier channels, one by one."""
  mask = np.zeros((3, 3, inputs, outputs))
  for row in range(3):
    for column in range(3):
      for i in range(inputs):
        for j in range(outputs):
          own, other = i * min(inputs, outputs) // inputs, j * min(inputs, outputs) // outputs
          here = own < other if strict else own <= other
          mask[row, column, i, j] = (row, column) > (1, 1) or ((row, column) == (1, 1) and here)
  return mask


def step(p, z, context):
  """Shift and log-scale of the inverse autoregressive step."""
  size, hidden = z.shape[-1], context.shape[-1]
  h = elu(conv(normed(p['first'], later(size, hidden, False)), z) + context)
  h = elu(conv(normed(p['second'], later(hidden, hidden, False)), h))
  return (0.1 * conv(normed(p[name], later(hidden, size, True)), h) for name in ('shift', 'log_scale'))


def test_masks():
  for sizes in ((2, 6), (6, 6), (6, 2)):
    for strict in (False, True):
      np.testing.assert_array_equal(iaf_ladder.later_mask(*sizes, strict), later(*sizes, strict))


def test_the_step_is_a_triangle_from_the_last_position_back():
  module, z, context = iaf_ladder.CausalMaps(6), wave(1, 3, 3, 2), wave(1, 3, 3, 6, start=2)
  variables, (shift, log_scale) = given(module, z, context)
  expected = step(variables['params'], np.asarray(z, np.float64), np.asarray(context, np.float64))
  for got, numbers in zip((shift, log_scale), expected, strict=True):
    assert_same(got, numbers)
  single = jax.tree.map(lambda leaf: jnp.asarray(leaf, 'float32'), variables)

  def moved(flat):
    shift, log_scale = module.apply(single, flat.reshape(z.shape), context)
    return ((flat.reshape(z.shape) - shift) * jnp.exp(-log_scale)).ravel()

  jacobian = np.asarray(jax.jit(jax.jacfwd(moved))(z.ravel()), np.float64)
  order = np.arange(18).reshape(9, 2)[::-1].ravel()  # of positions from the last, of channels from the first
  jacobian = jacobian[order][:, order]
  assert (jacobian[np.triu_indices(18, 1)] == 0).all() and np.abs(np.tril(jacobian, -1)).max() > 1e-3
  np.testing.assert_allclose(np.linalg.slogdet(jacobian)[1], -log_scale.sum(), rtol=1e-5)


def test_the_ladder():
  """Two levels, two samples of an image; latents given from above are kept."""
  z, f = 2, 4
  module = conv_ladder.Tower(iaf_ladder.Encoder(2, f, z), iaf_ladder.Decoder((4, 6, 1), 2, f, z))
  x, noise = wave(2, 4, 6, 1), [wave(4, 2, 3, z, start=i) for i in range(2)]
  variables, (rungs, (mean, log_scale)) = given(module, x, noise)
  up, down = variables['params']['encoder'], variables['params']['decoder']
  h, said = conv(normed(up['input']), np.asarray(x, np.float64), 2), []
  for level in range(2):
    both = conv(normed(up[f'first_{level}']), elu(h))
    said.append(np.repeat(both[..., : 2 * z + f], 2, 0))
    h = h + 0.1 * conv(normed(up[f'second_{level}']), elu(both[..., 2 * z + f :]))
  h = np.broadcast_to(down['top'], (4, 2, 3, f))
  for depth, level in enumerate((1, 0)):
    p, eps = down[f'rungs_{depth}'], np.asarray(noise[level], np.float64)
    prior_mean, prior_std, mean_above, std_above, context, straight = np.split(
      conv(normed(p['first']), elu(h)), np.cumsum([z, z, z, z, f]), -1
    )
    mean_q, log_std = said[level][..., :z] + mean_above, said[level][..., z : 2 * z] + std_above
    base = mean_q + np.exp(log_std) * eps
    shift, scale = step(p['step'], base, context + said[level][..., 2 * z :])
    own, rung = (base - shift) / np.exp(scale), rungs[level]
    log_q = -0.5 * eps**2 - log_std - 0.5 * math.log(2 * math.pi) + scale
    for got, numbers in zip((rung.z, *rung.p, rung.log_q), (own, prior_mean, 2 * prior_std, log_q), strict=True):
      assert_same(got, numbers, 5e-4)
    h = h + 0.1 * conv(normed(p['second']), elu(np.concatenate([own, straight], -1)))
  out = transposed(normed(down['output']), elu(h))
  assert_same(mean, np.clip(out, -1 + 1 / 256, 1 - 1 / 256).reshape(4, -1), 5e-4)
  assert_same(log_scale, np.full((4, 24), down['log_scale'][0]))
  single = jax.tree.map(lambda leaf: jnp.asarray(leaf, 'float32'), variables)
  top = [jnp.asarray(rung.z, 'float32') for rung in rungs[::-1]]
  generate = jax.jit(lambda top: module.apply(single, noise, top, method='generate'))
  assert_same(generate(top)[0], mean, 5e-4)
  p_mean, p_logvar = module.apply(single, method='top_prior')
  assert_same(np.repeat(p_mean, 4, 0), rungs[1].p[0], 5e-4)
  assert_same(np.repeat(p_logvar, 4, 0), rungs[1].p[1], 5e-4)
