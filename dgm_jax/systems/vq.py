"""Vector-quantized autoencoders (`vae`), and the priors over their codes that make generators of them (`prior`).

Both work on pixels in [0, 1] (preprocess: scale). The network 'vqvae' is trained by the first and grafted into the
second, where nobody owns it. Levels are listed from the top.

Axes: B batch, H height, W width, C channels; h, w of a level; D features of a code, K codes.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import losses, models, optim
from dgm_jax.core import Batch, Key, Metrics, Move, Player, State, System, average, averages, chain, descend, system
from dgm_jax.internal.metrics import GIVEN
from dgm_jax.models.vqvae import VQVAE, Passed, level_names
from dgm_jax.nn import quantize
from dgm_jax.systems.parts import code_priors
from dgm_jax.systems.parts.labels import by_rows, drawn, told

__all__ = ['prior', 'vae']

CONDITIONAL = ('prior',)
STARTS = ('random', 'k_means')
MOVED_BY = ('gradient', 'ema')


def vae(config: ConfigDict) -> System:
  """An autoencoder with a level of codes or several.

  It is trained on the squared error of pixels over `model.variance`, plus `model.commitment` times the mean squared
  distance of the encoders' vectors from their codes. Codebooks follow their vectors by gradient or by running means.

  Reference: van den Oord et al. 2017, arXiv:1711.00937, equation 3; Razavi et al. 2019, arXiv:1906.00446, algorithm 1.
  """
  network, model = autoencoder(config), config.model
  experiment.one_of('config.model.codebook', model.codebook, MOVED_BY)
  experiment.one_of('config.model.start', model.start, STARTS)
  experiment.require(0 <= model.decay < 1, f'config.model.decay must be in [0, 1), got {model.decay}')
  by_gradient = model.codebook == 'gradient'
  experiment.require(
    model.restart == 0 or not (by_gradient or config.parallel == 'pmap'),
    f'config.model.restart={model.restart} goes with running means of the whole batch: set it to 0 with'
    " config.model.codebook='gradient' or config.parallel='pmap'",
  )
  names = level_names(len(network.strides))

  def loss(key: Key, state: State, batch: Batch):
    params = state.params['vqvae']
    passed = network.apply({'params': params}, batch['x'])
    squared = jnp.square(passed.x - batch['x']).mean()
    distances, metrics = jnp.zeros(()), {'mse': squared}
    for name, z, found in zip(names, passed.z, passed.codes, strict=True):
      book = params[f'codebook_{name}']
      apart = losses.commitment_loss(z, book, found).mean() / network.features
      distances += model.commitment * apart
      if by_gradient:
        distances += losses.codebook_loss(z, book, found).mean() / network.features
      metrics |= {f'distance_{name}': apart} | use(name, found, network.codes)
    followed = {} if by_gradient else {'codebooks': _follow(key, names, state, passed, model)}
    return squared / model.variance + distances, (followed, metrics)

  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    del key
    passed = network.apply({'params': state.params['vqvae']}, batch['x'])
    return {'mse': jnp.square(passed.x - batch['x']).mean((1, 2, 3))}

  player = descend(model=Player(loss, optim.make(config, 'model'), ('vqvae',)))
  # The codebooks of a step are those of the statistics that it begins with: the same on every device.
  move = player if by_gradient else chain(Move(lambda params: {}, _placed), player)
  return system(lambda key, batch: _start(network, model, key, batch['x']), move, evaluate, None, **views(network))


def prior(config: ConfigDict) -> System:
  """Priors over the codes of a frozen autoencoder, `config.graft.vqvae`: the top's, and each lower level's given those
  above, trained side by side on the codes of images, or those of `model.train` alone.

  Reference: Razavi et al. 2019, arXiv:1906.00446, algorithm 2.
  """
  network, model = autoencoder(config), config.model
  made, seen = code_priors.priors(config, network), views(network)
  experiment.require(0 <= model.average < 1, f'config.model.average must be in [0, 1), got {model.average}')
  experiment.require(len(model.train) >= 1, f'config.model.train must name some of the levels {", ".join(made)}')
  for name in model.train:
    experiment.one_of('a level of config.model.train', name, made)
  classes = model.classes if config.conditional else 0

  def nats(name: str, key: Key, state: State, batch: Batch, rngs: dict | None = None) -> jax.Array:
    found = {level: jax.lax.stop_gradient(code) for level, code in seen['codes'](key, state, batch['x']).items()}
    return -code_priors.log_prob(made[name], state.params[name], found, told(classes, batch), name, rngs)

  def networks(key: Key, batch: Batch):
    for_autoencoder, for_codes, *keys = jax.random.split(key, 2 + len(made))
    params = {'vqvae': network.init(for_autoencoder, batch['x'][:1])['params']}
    # Layers that start from data start from codes at random: the autoencoder that is there in the end is yet to come.
    found = code_priors.random(made, for_codes, batch['x'].shape[0])
    for (name, one), for_level in zip(made.items(), keys, strict=True):
      params[name] = code_priors.start(one, for_level, found, told(classes, batch), name)
    return params, averages(params, {}, model.train) if model.average else {}

  def player(name: str) -> Player:
    def loss(key: Key, state: State, batch: Batch):
      value = nats(name, key, state, batch, {'dropout': key}).mean()
      return value, ({}, {'bits_per_code': code_priors.bits(value, made[name])})

    return Player(loss, optim.make(config, name), (name,))

  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    each, given = {name: nats(name, key, state, batch) for name in made}, GIVEN if classes else ''
    measured = {f'bits_per_code_{name}{given}': code_priors.bits(value, made[name]) for name, value in each.items()}
    return {f'nll_codes_nats{given}': sum(each.values())} | measured

  move = descend(**{name: player(name) for name in model.train})
  move = chain(move, *(average(name, model.average) for name in model.train)) if model.average else move
  drawing = _drawing(made, classes, tuple(config.data.get('class_shares', ())), seen['image'])
  if classes:
    drawing |= {'log_prob_classes': _log_prob_classes(made, classes, seen['codes'])}
  sample = lambda key, state, n: drawing['draw'](key, state, n)
  return system(networks, move, evaluate, sample, **seen, **drawing)


def _log_prob_classes(made: dict[str, code_priors.Prior], classes: int, encode: Callable) -> Callable:
  """The log-probability of an image's codes given each label: (key, state, x [B, H, W, C]) -> [B, classes] nats."""

  def log_prob_classes(key, state, x):
    found = encode(key, state, x)

    def given(label):
      told = jax.nn.one_hot(jnp.full(x.shape[:1], label), classes)
      return sum(code_priors.log_prob(one, state.params[name], found, told, name) for name, one in made.items())

    return jax.lax.map(given, jnp.arange(classes)).T

  return log_prob_classes


def _drawing(
  made: dict[str, code_priors.Prior], classes: int, shares: tuple[float, ...], image: Callable
) -> dict[str, Callable]:
  """The views that draw images from the priors; labels [n] that are not given are drawn, too."""

  def draw(key, state, n, labels=None, temperature=1.0):
    condition = None
    if classes:
      if labels is None:
        for_labels, key = jax.random.split(key)
        labels = drawn(for_labels, n, classes, shares)
      condition = jax.nn.one_hot(labels, classes)
    return image(key, state, code_priors.draw(made, key, state.params, n, condition, temperature))

  def by_class(key, state, columns):
    return draw(key, state, classes * columns, jnp.repeat(jnp.arange(classes), columns))

  def row_sample(key, state, n):
    return draw(key, state, n, by_rows(n, classes))

  return {'draw': draw} | ({'classes': by_class, 'row_sample': row_sample} if classes else {})


def autoencoder(config: ConfigDict) -> VQVAE:
  """The network that `config.model.vqvae` describes.

  Raises:
    UserError: it has no such setting, or one is out of range, or the pixels are in another range.
  """
  filled = {'shape': tuple(config.data.shape), 'dtype': config.dtype}
  network = models.build('config.model.vqvae', VQVAE, config.model.vqvae.to_dict(), **filled)
  for stride in network.strides:
    experiment.require(
      stride >= 2 and stride & (stride - 1) == 0,
      f'config.model.vqvae.strides={network.strides} must be powers of two, at least 2, from the top level on',
    )
  experiment.require(len(network.strides) >= 1, 'config.model.vqvae.strides must list a stride for each level')
  experiment.require(
    config.data.preprocess == 'scale',
    f"config.data.preprocess={config.data.preprocess}: vector-quantized autoencoders take pixels in [0, 1], 'scale'",
  )
  return network


def use(name: str, found: jax.Array, size: int) -> Metrics:
  """How much of a codebook a batch of codes uses: the share of its codes, and their perplexity."""
  hits = jnp.zeros(size).at[found.reshape(-1)].add(1.0)
  return {f'usage_{name}': (hits > 0).mean(), f'perplexity_{name}': losses.perplexity(found, size)}


def _start(network: VQVAE, model: ConfigDict, key: Key, x: jax.Array):
  """Fresh parameters; with k-means, each level's codebook is that of the vectors it is going to see."""
  for_params, *keys = jax.random.split(key, 1 + len(network.strides))
  params, names = network.init(for_params, x[:1])['params'], level_names(len(network.strides))
  if model.start == 'k_means':
    for i, (name, for_level) in enumerate(zip(names, keys, strict=True)):
      z = network.apply({'params': params}, x).z[i]
      params = params | {f'codebook_{name}': quantize.k_means(for_level, z, network.codes)}
  books = {name: params[f'codebook_{name}'] for name in names}
  follow = {name: {'counts': jnp.ones(len(book)), 'sums': book + 0.0} for name, book in books.items()}
  return {'vqvae': params}, {} if model.codebook == 'gradient' else {'codebooks': follow}


def _follow(key: Key, names: tuple[str, ...], state: State, passed: Passed, model: ConfigDict) -> dict:
  """The running statistics of every codebook after a batch, dead codes restarted."""
  new = {}
  for name, z, found, for_level in zip(names, passed.z, passed.codes, jax.random.split(key, len(names)), strict=True):
    old = state.extra['codebooks'][name]
    counts, sums, _ = losses.codebook_ema(old['counts'], old['sums'], z, found, decay=model.decay)
    counts, sums = quantize.restart(for_level, counts, sums, z, model.restart)
    new[name] = {'counts': counts, 'sums': sums}
  return new


def _placed(key: Key, state: State, batch: Batch) -> tuple[State, Metrics]:
  """Puts the codes where their statistics say."""
  del key, batch
  books = {
    f'codebook_{name}': losses.codebook_vectors(**statistics) for name, statistics in state.extra['codebooks'].items()
  }
  return state.replace(params=state.params | {'vqvae': state.params['vqvae'] | books}), {}


def views(network: VQVAE) -> dict[str, Callable]:
  """What a state with the network 'vqvae' can do: codes of images, images of codes, by level."""

  def encode(key, state, x):
    del key
    found = network.apply({'params': state.params['vqvae']}, x, method='encode')
    return dict(zip(level_names(len(network.strides)), found, strict=True))

  def image(key, state, codes):
    del key
    listed = [codes.get(name) for name in level_names(len(network.strides))]
    return jnp.clip(network.apply({'params': state.params['vqvae']}, listed, method='decode'), 0, 1)

  def levels(key, state, x):
    found = list(encode(key, state, x).items())
    return jnp.stack([image(key, state, dict(found[: i + 1])) for i in range(len(found))])

  reconstruct = lambda key, state, x: image(key, state, encode(key, state, x))
  return {'codes': encode, 'image': image, 'levels': levels, 'reconstruct': reconstruct}
