"""Vector-quantized autoencoders (`vae`), and the priors over their codes that make generators of them (`prior`).

Both model pixels in [0, 1] (preprocess: scale). The network 'vqvae' is trained by the first and grafted into the
second, where no player owns it. Levels are listed from the top.

Axes: B batch, H height, W width, C channels; h, w of a level; D features of a code, K codes.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import losses, models, optim
from dgm_jax.core import Batch, Key, Metrics, Player, State, System, average, averages, chain, descend, system
from dgm_jax.internal.metrics import GIVEN
from dgm_jax.models.vqvae import VQVAE, Outputs, level_names
from dgm_jax.nn import quantize
from dgm_jax.systems.parts import code_priors
from dgm_jax.systems.parts.labels import condition_of, labels_by_row, sample_labels
from dgm_jax.systems.parts.moves import without_optimizer

__all__ = ['prior', 'vae']

CONDITIONAL = ('prior',)
INITS = ('random', 'k_means')
CODEBOOK_UPDATES = ('gradient', 'ema')


def vae(config: ConfigDict) -> System:
  """Builds an autoencoder with one or more levels of codes.

  Its loss is the squared error of pixels over `model.variance`, plus `model.commitment` times the mean squared distance
  of the encoders' vectors from their codes. Codebooks follow the vectors by gradient or by running means.

  Reference: van den Oord et al. 2017, arXiv:1711.00937, equation 3; Razavi et al. 2019, arXiv:1906.00446, algorithm 1.
  """
  network, model = autoencoder(config), config.model
  experiment.one_of('config.model.codebook', model.codebook, CODEBOOK_UPDATES)
  experiment.one_of('config.model.start', model.start, INITS)
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
    outputs = network.apply({'params': params}, batch['x'])
    squared = jnp.square(outputs.x - batch['x']).mean()
    distances, metrics = jnp.zeros(()), {'mse': squared}
    for name, z, codes in zip(names, outputs.z, outputs.codes, strict=True):
      book = params[f'codebook_{name}']
      distance = losses.commitment_loss(z, book, codes).mean() / network.features
      distances += model.commitment * distance
      if by_gradient:
        distances += losses.codebook_loss(z, book, codes).mean() / network.features
      metrics |= {f'distance_{name}': distance} | use(name, codes, network.codes)
    extra = {} if by_gradient else {'codebooks': _codebook_statistics(key, names, state, outputs, model)}
    return squared / model.variance + distances, (extra, metrics)

  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    del key
    outputs = network.apply({'params': state.params['vqvae']}, batch['x'])
    return {'mse': jnp.square(outputs.x - batch['x']).mean((1, 2, 3))}

  player = descend(model=Player(loss, optim.make(config, 'model'), ('vqvae',)))
  # A step begins with the codebooks of the last step's statistics, which are the same on every device.
  move = player if by_gradient else chain(without_optimizer(_update_codebooks), player)

  def networks(key: Key, batch: Batch):
    return _init_networks(network, model, key, batch['x'])

  return system(networks, move, evaluate, None, **views(network))


def prior(config: ConfigDict) -> System:
  """Builds priors over the codes of a frozen autoencoder, `config.graft.vqvae`.

  There is one for the top level, and one for each lower level given those above. They are trained side by side on the
  codes of images; only those in `model.train` are trained.

  Reference: Razavi et al. 2019, arXiv:1906.00446, algorithm 2.
  """
  network, model = autoencoder(config), config.model
  priors, own_views = code_priors.build_priors(config, network), views(network)
  experiment.require(0 <= model.average < 1, f'config.model.average must be in [0, 1), got {model.average}')
  experiment.require(len(model.train) >= 1, f'config.model.train must name some of the levels {", ".join(priors)}')
  for name in model.train:
    experiment.one_of('a level of config.model.train', name, priors)
  classes = model.classes if config.conditional else 0

  def nats(name: str, key: Key, state: State, batch: Batch, rngs: dict | None = None) -> jax.Array:
    codes = {level: jax.lax.stop_gradient(code) for level, code in own_views['codes'](key, state, batch['x']).items()}
    return -code_priors.log_prob(priors[name], state.params[name], codes, condition_of(classes, batch), name, rngs)

  def networks(key: Key, batch: Batch):
    for_autoencoder, for_codes, *keys = jax.random.split(key, 2 + len(priors))
    params = {'vqvae': network.init(for_autoencoder, batch['x'][:1])['params']}
    # Data-dependent initialisation uses random codes, because the autoencoder is grafted in only after `init`.
    codes = code_priors.random_codes(priors, for_codes, batch['x'].shape[0])
    for (name, one), for_level in zip(priors.items(), keys, strict=True):
      params[name] = code_priors.init_prior(one, for_level, codes, condition_of(classes, batch), name)
    return params, averages(params, {}, model.train) if model.average else {}

  def player(name: str) -> Player:
    def loss(key: Key, state: State, batch: Batch):
      value = nats(name, key, state, batch, {'dropout': key}).mean()
      return value, ({}, {'bits_per_code': code_priors.bits(value, priors[name])})

    return Player(loss, optim.make(config, name), (name,))

  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    each, suffix = {name: nats(name, key, state, batch) for name in priors}, GIVEN if classes else ''
    bits = {f'bits_per_code_{name}{suffix}': code_priors.bits(value, priors[name]) for name, value in each.items()}
    return {f'nll_codes_nats{suffix}': sum(each.values())} | bits

  move = descend(**{name: player(name) for name in model.train})
  move = chain(move, *(average(name, model.average) for name in model.train)) if model.average else move
  prior_views = _prior_views(priors, classes, tuple(config.data.get('class_shares', ())), own_views['image'])
  if classes:
    prior_views |= {'log_prob_classes': _log_prob_classes(priors, classes, own_views['codes'])}

  def sample(key: Key, state: State, n: int) -> jax.Array:
    return prior_views['draw'](key, state, n)

  return system(networks, move, evaluate, sample, **own_views, **prior_views)


def _log_prob_classes(priors: dict[str, code_priors.CodePrior], classes: int, encode: Callable) -> Callable:
  """Returns the view that computes the log-probability of an image's codes given each label, [B, classes] nats."""

  def log_prob_classes(key, state, x):
    codes = encode(key, state, x)

    def of_class(label):
      condition = jax.nn.one_hot(jnp.full(x.shape[:1], label), classes)
      return sum(code_priors.log_prob(one, state.params[name], codes, condition, name) for name, one in priors.items())

    return jax.lax.map(of_class, jnp.arange(classes)).T

  return log_prob_classes


def _prior_views(
  priors: dict[str, code_priors.CodePrior], classes: int, shares: tuple[float, ...], image: Callable
) -> dict[str, Callable]:
  """Returns the views that sample images from the priors; labels [n] are sampled, too, if they are None."""

  def draw(key, state, n, labels=None, temperature=1.0):
    condition = None
    if classes:
      if labels is None:
        for_labels, key = jax.random.split(key)
        labels = sample_labels(for_labels, n, classes, shares)
      condition = jax.nn.one_hot(labels, classes)
    return image(key, state, code_priors.sample(priors, key, state.params, n, condition, temperature))

  def by_class(key, state, columns):
    return draw(key, state, classes * columns, jnp.repeat(jnp.arange(classes), columns))

  def row_sample(key, state, n):
    return draw(key, state, n, labels_by_row(n, classes))

  return {'draw': draw} | ({'classes': by_class, 'row_sample': row_sample} if classes else {})


def autoencoder(config: ConfigDict) -> VQVAE:
  """Builds the network that `config.model.vqvae` describes.

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


def use(name: str, codes: jax.Array, size: int) -> Metrics:
  """Measures the use of a codebook by a batch of codes: the share of its codes, and their perplexity."""
  hits = jnp.zeros(size).at[codes.reshape(-1)].add(1.0)
  return {f'usage_{name}': (hits > 0).mean(), f'perplexity_{name}': losses.perplexity(codes, size)}


def _init_networks(network: VQVAE, model: ConfigDict, key: Key, x: jax.Array):
  """Returns initial parameters; with k-means, each level's codebook is fitted to the vectors of the batch."""
  for_params, *keys = jax.random.split(key, 1 + len(network.strides))
  params, names = network.init(for_params, x[:1])['params'], level_names(len(network.strides))
  if model.start == 'k_means':
    for i, (name, for_level) in enumerate(zip(names, keys, strict=True)):
      z = network.apply({'params': params}, x).z[i]
      params = params | {f'codebook_{name}': quantize.k_means(for_level, z, network.codes)}
  books = {name: params[f'codebook_{name}'] for name in names}
  statistics = {name: {'counts': jnp.ones(len(book)), 'sums': book + 0.0} for name, book in books.items()}
  return {'vqvae': params}, {} if model.codebook == 'gradient' else {'codebooks': statistics}


def _codebook_statistics(key: Key, names: tuple[str, ...], state: State, outputs: Outputs, model: ConfigDict) -> dict:
  """Returns the running statistics of every codebook after a batch, with dead codes restarted."""
  new = {}
  for name, z, codes, for_level in zip(names, outputs.z, outputs.codes, jax.random.split(key, len(names)), strict=True):
    old = state.extra['codebooks'][name]
    counts, sums, _ = losses.codebook_ema(old['counts'], old['sums'], z, codes, decay=model.decay)
    counts, sums = quantize.restart(for_level, counts, sums, z, model.restart)
    new[name] = {'counts': counts, 'sums': sums}
  return new


def _update_codebooks(key: Key, state: State, batch: Batch) -> tuple[State, Metrics]:
  """Moves the codes to the means of their statistics."""
  del key, batch
  books = {
    f'codebook_{name}': losses.codebook_vectors(**statistics) for name, statistics in state.extra['codebooks'].items()
  }
  return state.replace(params=state.params | {'vqvae': state.params['vqvae'] | books}), {}


def views(network: VQVAE) -> dict[str, Callable]:
  """Returns the views of a state with the network 'vqvae', by name: codes of images, and images of codes."""

  def encode(key, state, x):
    del key
    codes = network.apply({'params': state.params['vqvae']}, x, method='encode')
    return dict(zip(level_names(len(network.strides)), codes, strict=True))

  def image(key, state, codes):
    del key
    listed = [codes.get(name) for name in level_names(len(network.strides))]
    return jnp.clip(network.apply({'params': state.params['vqvae']}, listed, method='decode'), 0, 1)

  def levels(key, state, x):
    codes = list(encode(key, state, x).items())
    return jnp.stack([image(key, state, dict(codes[: i + 1])) for i in range(len(codes))])

  def reconstruct(key, state, x):
    return image(key, state, encode(key, state, x))

  return {'codes': encode, 'image': image, 'levels': levels, 'reconstruct': reconstruct}
