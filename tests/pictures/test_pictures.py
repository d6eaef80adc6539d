"""Pictures: every pixel of a grid, the order of rows and columns, and no second compilation.

The toy system has three latents and images [1, 3, 1] whose pixel i shows latent i, so that a grid can be read back.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from dgm_jax.core import State, System
from dgm_jax.pictures import gallery, motion
from dgm_jax.views import Prior, Views

KEY = jax.random.key(0)
NORMAL = Prior(lambda key, state, n: jax.random.normal(key, (n, 3)), normal=True)
CODES = np.array([[1.0, 2.0, 3.0], [-1.0, 0.0, 5.0], [4.0, -4.0, 0.5], [0.0, 3.0, -2.0]], np.float32)


def toy(prior=NORMAL, **views) -> System:
  """A linear decoder, x = z + shift; samples are at 0.5."""
  absent = lambda *_: pytest.fail('pictures never train or evaluate')
  return System(absent, absent, absent, lambda key, state, n: jnp.full((n, 1, 3, 1), 0.5), Views(prior=prior, **views))


def encode(key, state, x):
  return x.reshape(-1, 3) - state.params['shift'][None]


def decode(key, state, z):
  return (z + state.params['shift'][None]).reshape(-1, 1, 3, 1)


def first_state(shift=0.0) -> State:
  return State(jnp.zeros((), jnp.int32), {'shift': jnp.full(3, shift)}, {}, {})


def to_uint8(x) -> np.ndarray:
  return np.clip(np.round(100 + 10 * np.asarray(x)), 0, 255).astype(np.uint8)


def codes_of(picture: np.ndarray) -> np.ndarray:
  """The latents [rows, columns, 3] that a grid of toy images shows; one pixel is 56 x 56."""
  small = picture[28::56, 28::56, 0]
  shown = small[1::2, 1:].reshape(len(small) // 2, -1, 4)[..., :3]
  return (shown.astype(float) - 100) / 10


def test_grid_puts_every_pixel_where_it_must():
  images = np.array([[[1, 2]], [[3, 4]], [[5, 6]]], np.uint8)[..., None]  # three of 1 x 2
  g = gallery.BACKGROUND
  small = [
    [g, g, g, g, g, g, g],
    [g, 1, 2, g, 3, 4, g],
    [g, g, g, g, g, g, g],
    [g, 5, 6, g, g, g, g],
    [g, g, g, g, g, g, g],
  ]
  np.testing.assert_array_equal(gallery.grid(images, columns=2, scale=1, padding=1)[..., 0], small)
  twice = np.kron(small, np.ones((2, 2), int))
  np.testing.assert_array_equal(gallery.grid(images, columns=2, scale=2, padding=1)[..., 0], twice)


def test_grid_keeps_colours_and_takes_no_padding():
  images = np.arange(2 * 2 * 2 * 3, dtype=np.uint8).reshape(2, 2, 2, 3)
  np.testing.assert_array_equal(gallery.grid(images, 2, scale=1, padding=0), np.concatenate(images, 1))


@pytest.mark.parametrize(
  ('n', 'edge', 'size'), [(16, 8, 37 * 7), (10, 28, (88 * 2, 117 * 2)), (1, 60, 62), (1, 55, 57 * 2)]
)
def test_grid_is_readable_by_default(n, edge, size):
  # edges 8, 28 and 55 become 56, 56 and 110, 60 stays; columns are ceil(sqrt(n)): 4 * (8 + 1) + 1 = 37
  shape = gallery.grid(np.zeros((n, edge, edge, 1), np.uint8)).shape[:2]
  assert shape == (size if isinstance(size, tuple) else (size, size))


@pytest.mark.parametrize('images', [np.zeros((2, 3, 3, 1)), np.zeros((3, 3, 1), 'u1'), np.zeros((0, 3, 3, 1), 'u1')])
def test_grid_refuses_what_is_no_batch_of_pixels(images):
  with pytest.raises(ValueError, match=r'grid takes uint8 images \[n, h, w, c\]'):
    gallery.grid(images)


@pytest.mark.parametrize('channels', [1, 3])
def test_png_round_trip_leaves_one_file(tmp_path, channels):
  image = np.random.default_rng(0).integers(0, 256, (5, 7, channels), np.uint8)
  for _ in range(2):  # the folders are there the second time
    gallery.write_png(tmp_path / 'new' / 'deep' / 'a.png', image)
  with Image.open(tmp_path / 'new' / 'deep' / 'a.png') as read:
    np.testing.assert_array_equal(np.asarray(read).reshape(image.shape), image)
  assert [path.name for path in (tmp_path / 'new' / 'deep').iterdir()] == ['a.png']


def test_samples_are_means_where_the_system_has_them():
  means = lambda key, state, n: jnp.arange(3.0 * n).reshape(n, 1, 3, 1)
  drawn = codes_of(gallery.samples(KEY, toy(mean_sample=means), first_state(), 4, to_uint8))
  np.testing.assert_allclose(drawn.reshape(4, 3), np.arange(12).reshape(4, 3))
  plain = codes_of(gallery.samples(KEY, toy(), first_state(), 4, to_uint8))
  np.testing.assert_allclose(plain, np.full((2, 2, 3), 0.5))


def test_reconstructions_lie_below_their_originals():
  system = toy(reconstruct=lambda key, state, x: x + 1)
  x = np.arange(9, dtype=np.float32).reshape(3, 1, 3, 1)
  picture = gallery.reconstructions(KEY, system, first_state(), x, to_uint8, columns=2)
  shown = codes_of(picture)
  np.testing.assert_allclose(shown[0], [[0, 1, 2], [3, 4, 5]])
  np.testing.assert_allclose(shown[1], [[1, 2, 3], [4, 5, 6]])
  np.testing.assert_allclose(shown[2:, 0], [[6, 7, 8], [7, 8, 9]])
  assert (picture[4 * 56 :, 4 * 56 :] == gallery.BACKGROUND).all()  # the place of a fourth image stays empty


def test_few_reconstructions_take_two_rows():
  x = np.zeros((3, 1, 3, 1), np.float32)
  picture = gallery.reconstructions(KEY, toy(reconstruct=lambda key, state, x: x), first_state(), x, to_uint8)
  assert picture.shape == (5 * 56, 13 * 56, 1)


@pytest.mark.parametrize('path', [gallery.linear, gallery.spherical])
def test_interpolations_go_from_one_decoded_code_to_the_other(path):
  state, system = first_state(0.5), toy(encode=encode, decode=decode)
  x = np.concatenate([CODES, CODES[:1]]).reshape(5, 1, 3, 1)  # a fifth without a partner
  shown = codes_of(gallery.interpolations(KEY, system, state, x, to_uint8, path, steps=5))
  assert shown.shape == (2, 5, 3)
  np.testing.assert_allclose(shown[:, 0], CODES[0::2])
  np.testing.assert_allclose(shown[:, -1], CODES[1::2])
  if path is gallery.linear:
    np.testing.assert_allclose(shown[:, 2], (CODES[0::2] + CODES[1::2]) / 2, atol=0.051)  # a pixel is 0.1


def test_linear_path_ends_exactly():
  ends = gallery.linear(CODES[:2], CODES[2:], np.linspace(0, 1, 7, dtype=np.float32))[:, [0, -1]]
  np.testing.assert_array_equal(ends, np.stack([CODES[:2], CODES[2:]], 1))


def test_spherical_path_is_the_arc():
  # from (2, 0) to (0, 2) on the circle of radius 2: the angle grows evenly
  t = np.linspace(0, 1, 4, dtype=np.float32)
  arc = gallery.spherical(np.array([[2.0, 0.0]], np.float32), np.array([[0.0, 2.0]], np.float32), t)
  np.testing.assert_allclose(arc[0], 2 * np.stack([np.cos(t * np.pi / 2), np.sin(t * np.pi / 2)], 1), atol=1e-6)


@pytest.mark.parametrize('b', [[2.0, 4.0], [-1.0, -2.0], [0.0, 0.0]])
def test_spherical_path_without_a_great_circle_is_straight(b):
  a, b, t = np.array([[1.0, 2.0]], np.float32), np.array([b], np.float32), np.linspace(0, 1, 5, dtype=np.float32)
  if not b.any():  # the angle to the origin is taken as a right one: only the first code fades, by a cosine
    np.testing.assert_allclose(gallery.spherical(a, b, t)[0], np.cos(t * np.pi / 2)[:, None] * a, atol=1e-6)
  else:
    np.testing.assert_allclose(gallery.spherical(a, b, t), gallery.linear(a, b, t))


def test_traversals_put_the_largest_kl_on_top():
  kl = lambda key, state, x: jnp.tile(jnp.array([[0.1, 0.7, 0.4]]), (x.shape[0], 1))
  system = toy(encode=encode, decode=decode, kl_per_dim=kl)
  shown = codes_of(gallery.traversals(KEY, system, first_state(), CODES.reshape(4, 1, 3, 1), to_uint8))
  assert shown.shape == (3, 7, 3)
  for row, latent in enumerate([1, 2, 0]):
    expected = np.tile(CODES[0], (7, 1))
    expected[:, latent] = [-3, -2, -1, 0, 1, 2, 3]
    np.testing.assert_allclose(shown[row], expected)


def test_moving_traversals_go_there_and_back(tmp_path):
  system, x = toy(encode=encode, decode=decode), CODES.reshape(4, 1, 3, 1)
  frames = motion.traversals(KEY, system, first_state(), x, to_uint8, steps=3)
  # by the variance of the codes: latents 1, 2 and 0 of x[0], in a grid of two rows
  for frame, value in zip(frames, (-3, 0, 3, 0), strict=True):
    expected = np.array([[1, value, 3], [1, 2, value], [value, 2, 3]])
    np.testing.assert_allclose(codes_of(frame).reshape(4, 3)[:3], expected)
  motion.write_gif(tmp_path / 'new' / 'it.gif', frames)
  with Image.open(tmp_path / 'new' / 'it.gif') as image:
    assert image.n_frames == 4 and image.info['loop'] == 0 and image.info['duration'] == 250
    image.seek(3)
    assert image.info['duration'] == 1500
    np.testing.assert_array_equal(np.asarray(image.convert('L')), frames[3][..., 0])
  with pytest.raises(ValueError, match='at least one frame'):
    motion.write_gif(tmp_path / 'it.gif', [])


def test_traversals_without_kl_go_by_the_variance_of_the_codes():
  x = CODES * np.array([1.0, 0.1, 0.5], np.float32)  # variances 3.5, 0.07, 1.7
  system = toy(encode=encode, decode=decode)
  shown = codes_of(gallery.traversals(KEY, system, first_state(), x.reshape(4, 1, 3, 1), to_uint8))
  moved = shown.max(1) - shown.min(1)
  np.testing.assert_allclose(moved, [[6, 0, 0], [0, 0, 6], [0, 6, 0]])


def test_at_most_ten_latents_and_ten_pairs():
  system = toy(encode=lambda key, state, x: x, decode=lambda key, state, z: z[:, :3].reshape(-1, 1, 3, 1))
  x = np.tile(np.arange(24, dtype=np.float32)[:, None], (1, 12))
  assert gallery.traversals(KEY, system, first_state(), x, to_uint8).shape[0] == 21 * 56
  assert gallery.interpolations(KEY, system, first_state(), x, to_uint8).shape[0] == 21 * 56


@pytest.mark.parametrize(
  ('views', 'names'),
  [
    ({}, {'samples'}),
    ({'reconstruct'}, {'samples', 'reconstructions'}),
    ({'encode'}, {'samples'}),
    ({'encode', 'decode'}, {'samples', 'interpolations', 'spherical_interpolations', 'traversals'}),
    ({'decode'}, {'samples', 'walks', 'spherical_walks'}),
  ],
)
def test_available_is_what_the_views_allow(views, names):
  assert set(gallery.available(toy(**dict.fromkeys(views, encode)))) == names


def test_a_prior_that_is_not_normal_has_straight_paths_and_its_own_ends():
  """Codes uniform on (0, 8): the quantiles are 0.008 and 7.992. Without a prior nothing says how far to go."""
  uniform = Prior(lambda key, state, n: 8 * jax.random.uniform(key, (n, 3)))
  views = {'encode': encode, 'decode': decode}
  assert set(gallery.available(toy(uniform, **views))) == {'samples', 'interpolations', 'traversals'}
  assert set(gallery.available(toy(uniform, decode=decode))) == {'samples', 'walks'}
  assert set(gallery.available(toy(None, **views))) == {'samples', 'interpolations'}
  shown = codes_of(gallery.traversals(KEY, toy(uniform, **views), first_state(), CODES.reshape(4, 1, 3, 1), to_uint8))
  np.testing.assert_allclose(shown[0, :, np.ptp(shown[0], 0).argmax()], np.linspace(0, 8, 7), atol=0.07)


def test_available_draws_the_same_and_compiles_once():
  traces = []

  def counted(name, function):
    return lambda *args: (traces.append(name), function(*args))[1]

  system = toy(
    encode=counted('encode', encode),
    decode=counted('decode', decode),
    reconstruct=counted('reconstruct', lambda key, state, x: x),
    kl_per_dim=counted('kl', lambda key, state, x: jnp.abs(x.reshape(-1, 3))),
  )
  x = CODES.reshape(4, 1, 3, 1)
  for shift in (0.0, 1.0):
    drawn = {name: f(KEY, first_state(shift), x, to_uint8) for name, f in gallery.available(system).items()}
  # two shapes are decoded: interpolations [20, 3], straight and spherical alike, and traversals [21, 3]
  assert sorted(traces) == ['decode', 'decode', 'encode', 'kl', 'reconstruct']
  direct = gallery.interpolations(KEY, system, first_state(1.0), x, to_uint8, gallery.spherical)
  np.testing.assert_array_equal(drawn['spherical_interpolations'], direct)
  assert codes_of(drawn['samples']).shape == (2, 2, 3)


def test_a_state_spread_over_devices_gives_the_same_picture():
  mesh = jax.make_mesh((8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))
  place = lambda *axes: jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))
  decode_8 = lambda key, state, z: (z + state.params['shift'][None, :3]).reshape(-1, 1, 3, 1)
  system = toy(encode=lambda key, state, x: x.reshape(-1, 3), decode=decode_8)
  one = State(jnp.zeros((), jnp.int32), {'shift': jnp.arange(8.0)}, {}, {})
  eight = State(jax.device_put(one.step, place()), jax.device_put(one.params, place('data')), {}, {})
  x = CODES.reshape(4, 1, 3, 1)
  images = [gallery.traversals(KEY, system, state, x, to_uint8) for state in (one, eight)]
  np.testing.assert_array_equal(*images)


@pytest.mark.parametrize('width', [1, 2, 3])
def test_points_are_drawn_also_without_a_critic_and_a_density(width):
  """Those of the line have a histogram: samples at 0.5 are one bar, data around it many."""
  system = toy(prior=None)._replace(sample=lambda key, state, n: jnp.full((n, width), 0.5))
  data = np.linspace(0, 1, 50 * width, dtype='f4').reshape(50, width)
  picture = gallery.samples_like(KEY, system, first_state(), data, to_uint8)
  assert picture.dtype == np.uint8 and picture.ndim == 3 and len(np.unique(picture)) > 1
  if width == 1:
    ink = (picture[:60, :, 0] == picture[:60].min()).any(0)
    assert 0 < ink.sum() <= 8 and abs(np.flatnonzero(ink).mean() / picture.shape[1] - 0.5) < 0.02
