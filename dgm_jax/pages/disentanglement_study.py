"""What a study does with its systems: trains members together, follows their latents, measures, draws, tabulates.

Axes: M members, T times at which latents are looked at, Z latents, K factors.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import data, systems
from dgm_jax.core import State, System
from dgm_jax.data import preprocess
from dgm_jax.data.factors import Simulator
from dgm_jax.evals import disentanglement, mean, scores
from dgm_jax.internal import files
from dgm_jax.pages import catalogue, records, sizes
from dgm_jax.pages.topics import page as pages
from dgm_jax.pictures import gallery, motion, positions
from dgm_jax.runs import workdir
from dgm_jax.runs.subject import Subject
from dgm_jax.runtime import parallel
from dgm_jax.training import ensemble

__all__ = ['keep', 'settings', 'summary', 'table', 'trained', 'write_page']

FOLLOWED = 4096  # images on which latents are followed in the course of training
# How a factor opens, in words, and the share of its entropy from which on it counts.
OPENING = {'drawn': ('drawn', 0.5), 'alone': ('told by one latent', 0.15)}
BESIDE = (32, 2)  # settings of the other factors, and draws of each posterior, by which 'told' is found
OPEN_NATS = 0.1  # divergence from which on a latent counts as open
PROTOCOL = disentanglement.Protocol(train=2000, test=1000, group=64)
FILES = {'disentanglement': 'disentangle.py'}  # study -> file of configs/


def settings(name: str, variant: str, steps: int = 0, size: int = 0) -> ConfigDict:
  """Reads the experiment configs/NAME.py:VARIANT of a study, changed to these steps and pixels a side.

  Raises:
    UserError: there is no folder configs beside the package.
  """
  config = catalogue.read(f'configs/{FILES[name]}:{variant}')
  config.data.size = size or config.data.size
  if steps:
    ratio = steps / config.steps
    config.update({'steps': steps, 'steps_per_call': math.gcd(steps, config.steps_per_call)})
    if 'capacity_steps' in config.model:
      config.model.capacity_steps = max(1, round(config.model.capacity_steps * ratio))
  return config


def trained(
  config: ConfigDict, weight: str, weights: Sequence[float], seeds: Sequence[int],
  protocol: disentanglement.Protocol = PROTOCOL,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:  # fmt: skip
  """Trains all members together, and returns figures and curves as plain data, and pictures of first seeds.

  'WEIGHT' has the latents of the trained member of that weight, 'WEIGHT_in_time' (`strip`) its drawings over training.
  """
  members = ensemble.make(config, weight, weights, seeds)
  call, state, look = ensemble.compiled(members), ensemble.start(members), follower(members)
  curves: list[dict[str, Any]] = [look(state) | {'step': 0}]
  drawings = [curves[0].pop('drawings')]
  step, calls = 0, config.steps // config.steps_per_call
  every = max(1, calls // 40)
  for number in range(calls):
    state, _ = call(state, ensemble.indices(members, step, config.steps_per_call))
    step += config.steps_per_call
    if number % every == every - 1 or number == calls - 1:
      curves.append(look(state) | {'step': step})
      drawings.append(curves[-1].pop('drawings'))
      nats = ' '.join(f'{value:.0f}' for value in curves[-1]['reconstruction_nats'])
      print(f'{config.source} step {step} of {config.steps}: reconstruction {nats} nats', file=sys.stderr, flush=True)
  figures = [_figures(members, state, number, protocol, curves) for number in range(len(members.seeds))]
  parameters = workdir.count(ensemble.one_of(state, 0).params)
  page = {
    'config': config.source, 'system': config.system, 'settings': catalogue.essence(config),
    'parameters': parameters | {'total': sizes.total(parameters)}, 'size': members.config.data.shape[0], 'steps': step,
    'weight': weight, 'members': figures, 'factors': list(data.simulator(config.data).names), 'curves': _plain(curves),
    'capacity': _capacity(config, curves),
  }  # fmt: skip
  pictures, originals = {}, simulated(members.config)
  for number in range(0, len(members.seeds), len(seeds)):
    name = f'{weight}_{members.weights[number]:g}'
    pictures[name] = _picture(members, ensemble.one_of(state, number))
    pictures[f'{name}_in_time'] = strip(originals, [each[number] for each in drawings], preprocess.pixels(config.data))
  return page, pictures


def follower(members: ensemble.Ensemble) -> Any:
  """Compiles the function of states [M, ...] to what their latents carry on test images, {name: [M, ...]}.

  'kl' [M, Z] is the mean divergence in nats. The next are shares of each factor's entropy. 'told' [M, K], on images of
  its own, is the information of posterior samples given the other factors, in any latents. 'alone' [M, K] is the
  information in the bins of one latent's mean, with no factor given; 'by' [M, K] is that latent. 'drawn' [M, K] is the
  information in the decoder's drawings, of one draw from each posterior, given the other factors. 'drawings' [M, 3 K,
  H, W, C] are the decodings of the means of `simulated` images.
  """
  config, test = members.config, data.load(members.config.data, 'test')
  system, prepare = systems.build(config), preprocess.evaluation(config.data)
  views, key = system.views, jax.random.key(0)
  batch = test.fetch(test.arrays, np.arange(min(FOLLOWED, test.size), dtype=np.int32))
  factors, simulator = np.asarray(batch['factors']), data.simulator(config.data)
  entropy, sizes = scores.entropies(factors), simulator.sizes
  pairs = prepare(jax.random.key(0), _images(_varied(sizes), simulator, config.data.name))['x']
  few = simulated(config)

  def measure_members(states, batch, beside):
    x = prepare(jax.random.key(0), batch)['x']

    def one(state):
      z, logvar = views.posterior(key, state, x)
      kl = 0.5 * (jnp.square(z) + jnp.exp(logvar) - 1 - logvar)
      elbo = system.evaluate(jax.random.key(0), state, {'x': x[:1000]})
      posterior = views.posterior(key, state, beside)
      log_px = _likelihoods(system, state, beside, posterior, sizes)
      drawings = views.decode(key, state, views.posterior(key, state, few)[0])
      return z, kl.mean(0), elbo['reconstruction_nats'].mean(), posterior, log_px, drawings

    return jax.lax.map(one, states)

  measure = jax.jit(ensemble.spread_members(members, measure_members, (ensemble.OWN, ensemble.SHARED, ensemble.SHARED)))

  def look(states: State) -> dict[str, Any]:
    z, kl, reconstruction, posterior, log_px, drawings = jax.tree.map(np.asarray, measure(states, batch, pairs))
    shared = np.stack([scores.information(own, factors) for own in z])  # [M, Z, K]
    by_posterior = np.stack([_information_of_codes(sizes, *own) for own in zip(*posterior, strict=True)])
    by_decoder = np.stack([_information_of_images(sizes, own) for own in zip(*log_px, strict=True)])
    alone = {'alone': shared.max(1) / np.where(entropy > 0, entropy, 1), 'by': shared.argmax(1)}
    by_decoder = {'drawn': by_decoder, 'drawings': drawings}
    return {'kl': kl, 'reconstruction_nats': reconstruction, 'told': by_posterior, **by_decoder, **alone}

  return look


def simulated(config: ConfigDict) -> jax.Array:
  """Returns images [3 K, H, W, C] as the encoder receives them.

  Each factor has its first, middle and last value, the others their middle one.
  """
  simulator = data.simulator(config.data)
  middle = np.array(simulator.sizes) // 2
  factors = np.tile(middle, (3 * len(middle), 1)).astype(np.int32)
  for factor, size in enumerate(simulator.sizes):
    factors[3 * factor : 3 * factor + 3, factor] = 0, size // 2, size - 1
  prepare = preprocess.evaluation(config.data)
  return prepare(jax.random.key(0), _images(factors, simulator, config.data.name))['x']


def strip(originals: jax.Array, drawings: Sequence[np.ndarray], pixels: Callable, columns: int = 14) -> np.ndarray:
  """Draws a row for each image [n, H, W, C]: itself, then its drawings [n, H, W, C], evenly from first to last."""
  times = np.linspace(0, len(drawings) - 1, min(columns, len(drawings))).round().astype(int)
  shown = np.stack([np.asarray(originals), *(drawings[time] for time in times)], 1)
  return gallery.grid(np.asarray(pixels(shown.reshape(-1, *shown.shape[2:]))), shown.shape[1])


def _images(factors: np.ndarray, simulator: Simulator, name: str) -> dict[str, jax.Array]:
  """Renders images of chosen factors, as a batch. The factors must determine the images."""
  experiment.require(simulator.fixed, f'{name} leaves things open beside its factors, so that no image stands for them')
  parts = np.array_split(factors, max(1, len(factors) // 512))
  return {
    'x': jnp.concatenate([simulator.draw(jax.random.key(0), part) for part in parts]),
    'index': jnp.arange(len(factors)),
  }


def _varied(sizes: Sequence[int]) -> np.ndarray:
  """Draws settings of the others for each factor in turn, with all its values, int32 [settings * sum of sizes, K]."""
  random, parts = np.random.default_rng(0), []
  for factor, size in enumerate(sizes):
    part = disentanglement.draw(random, sizes, BESIDE[0])[:, None].repeat(size, 1)
    part[:, :, factor] = np.arange(size)
    parts.append(part.reshape(-1, len(sizes)))
  return np.concatenate(parts)


def _information_of_codes(sizes: Sequence[int], mean: np.ndarray, logvar: np.ndarray) -> np.ndarray:
  """Computes the share of each factor's entropy that codes carry given the others, [K].

  The posteriors are those of `_varied`.
  """
  random, shares = np.random.default_rng(0), []
  ends = np.cumsum([BESIDE[0] * size for size in sizes])[:-1]
  for size, *own in zip(sizes, np.split(mean, ends), np.split(logvar, ends), strict=True):
    own = [part.reshape(BESIDE[0], size, -1) for part in own]
    noise = random.standard_normal((BESIDE[1], *own[0].shape))
    information = max(0.0, scores.information_beside_others(*own, noise))
    shares.append(information / np.log(size) if size > 1 else 0.0)
  return np.array(shares)


def _likelihoods(
  system: System, state: State, beside: jax.Array, posterior: tuple[jax.Array, jax.Array], sizes: Sequence[int]
) -> list[jax.Array]:
  """Computes, for each factor, log p of `_varied` images (last) given the drawings of one another.

  Each array is [settings, size, size].
  """
  mean, logvar = posterior
  z = mean + jnp.exp(0.5 * logvar) * jax.random.normal(jax.random.key(0), mean.shape)
  flat = lambda a: a.reshape(a.shape[0], -1)
  decoded = system.views.decode(jax.random.key(0), state, z)
  decoded, images = jnp.clip(flat(decoded), 1e-6, 1 - 1e-6), flat(beside)
  blocks, at = [], 0
  for size in sizes:
    group = lambda a, at=at, size=size: a[at : at + BESIDE[0] * size].reshape(BESIDE[0], size, -1)
    on, off, x = group(jnp.log(decoded)), group(jnp.log1p(-decoded)), group(images)
    blocks.append(jnp.einsum('jkd,jvd->jkv', on - off, x) + off.sum(-1, keepdims=True))
    at += BESIDE[0] * size
  return blocks


def _information_of_images(sizes: Sequence[int], log_px: Sequence[np.ndarray]) -> np.ndarray:
  """Computes the share of each factor's entropy that drawings carry given the others, [K], by `_likelihoods`."""
  information = [max(0.0, scores.information_drawn(each)) for each in log_px]
  return np.array([nats / np.log(size) if size > 1 else 0.0 for nats, size in zip(information, sizes, strict=True)])


def opened(shares: np.ndarray, least: float) -> list[int]:
  """Finds the time from which on each factor's share is at least `least`, [K] of shares [T, K]; T if it never is."""
  there = shares >= least
  return [len(column) - int(np.argmin(column[::-1])) if not column.all() else 0 for column in there.T]


def openings(page: Mapping[str, Any]) -> list[dict[str, Any]]:
  """Returns each member's weight and seed, and its factors in the order in which they opened, {factor: when}.

  'alone' and 'drawn' are there if the page has those curves. The time is C in nats or the step (`_unit`), None for
  never. Names that end in '_kl_nats' have the divergence in nats at that time. It is C only if gamma suffices to hold
  it there.
  """
  across = page['capacity'] or [float(step) for step in page['curves']['step']]
  spent, rows = np.array(page['curves']['kl']).sum(-1), []  # [T, M]
  for number, member in enumerate(page['members']):
    one = {page['weight']: member[page['weight']], 'seed': member['seed']}
    for measure, (_, least) in OPENING.items():
      if measure not in page['curves']:
        continue  # a page of an older version
      shares = np.array(page['curves'][measure])[:, number]
      times = sorted(zip(opened(shares, least), page['factors'], strict=True))
      one[measure] = {name: across[t] if t < len(spent) else None for t, name in times}
      one[f'{measure}_kl_nats'] = {name: float(spent[t, number]) if t < len(spent) else None for t, name in times}
    rows.append(one)
  return rows


def _unit(page: Mapping[str, Any]) -> str:
  return 'nats of capacity' if page['capacity'] else 'steps'


def summary(page: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a page without its curves, but with the times when factors opened.

  Figures are mean and deviation over the seeds of a weight.
  """
  studied = {}
  for value in dict.fromkeys(member[page['weight']] for member in page['members']):
    same = [member for member in page['members'] if member[page['weight']] == value]
    names = [name for name in same[0] if isinstance(same[0][name], float) and name != page['weight']]
    columns = {name: np.array([member[name] for member in same]) for name in names}
    studied[f'{page["weight"]} {value:g}'] = {
      name: {'mean': float(column.mean()), 'spread': float(column.std()), 'each': column.tolist()}
      for name, column in columns.items()
    }
  kept = {key: value for key, value in page.items() if key not in ('members', 'curves', 'capacity', 'commit')}
  kept |= {'schema': records.SCHEMA, 'trained_at': page.get('commit'), 'measured_at': page.get('commit')}
  if page['capacity']:
    kept['capacity_nats'] = page['capacity'][-1]
  kept |= {'found': studied, 'opened': {'unit': _unit(page), 'members': openings(page)}}
  return {field: kept[field] for field in (*records.STUDY_FIELDS, *records.OPTIONAL) if field in kept}


def table(studied: Mapping[str, Mapping[str, Any]]) -> str:
  """Formats every system and weight with mean and spread over seeds, for a terminal."""
  return pages.text('study', pages.Topic(_over(studied), '', figures=[_table(studied)]))


def keep(folder: Path, system: str, pictures: Mapping[str, np.ndarray]) -> None:
  """Writes pictures as OUT/SYSTEM_WEIGHT.png."""
  for name, image in pictures.items():
    gallery.write_png(folder / f'{system}_{name}.png', image)


def write_page(folder: Path, name: str, studied: Mapping[str, Mapping[str, Any]]) -> None:
  """Writes OUT/study.html: the table, curves of every system's first member, and its pictures."""
  text = f'All weights and seeds of a system trained in one program: {_over(studied)}.'
  topics = {name: pages.Topic(name.capitalize(), text, figures=[_table(studied)])}
  for system, page in studied.items():
    shown = {path.stem: motion.over_training([path])[0] for path in sorted(folder.glob(f'{system}_*.png'))}
    topics[system] = pages.Topic(f'{system}: {page["system"]}', _order(page), charts=_charts(page), pictures=shown)
  seconds = {key: studied[key]['wall_seconds'] if key in studied else 0.0 for key in topics}
  path = folder / 'study.html'
  files.write_atomic(path, pages.document(f'Study: {name}', topics, seconds).encode())
  print(path)


SHOWN = (
  'reconstruction_nats', 'kl_nats', 'open_latents', 'beta_vae_metric', 'factor_vae_metric', 'mig', 'sap', 'modularity',
  'explicitness', 'total_correlation_of_means_nats', 'total_correlation_of_samples_nats',
)  # fmt: skip


def _table(studied: Mapping[str, Mapping[str, Any]]) -> pages.Figures:
  rows = []
  for system, page in studied.items():
    for weight, figures in summary(page)['found'].items():
      rows.append([f'{system}, {weight}, {page["size"]} pixels', *(_cell(figures[name]) for name in SHOWN)])
  return pages.Figures(_over(studied), ('', *SHOWN), rows)


def _over(studied: Mapping[str, Mapping[str, Any]]) -> str:
  """Says of how many seeds the figures of a study are."""
  seeds = max(len({member['seed'] for member in page['members']}) for page in studied.values())
  return 'mean +- standard deviation over seeds' if seeds > 1 else 'figures of one seed'


def _cell(figure: Mapping[str, Any]) -> str:
  """Formats the mean of a figure, with its spread if there are several seeds."""
  return f'{figure["mean"]:.3g}' + (f' +- {figure["spread"]:.2g}' if len(figure['each']) > 1 else '')


TELLERS = {
  'told': 'codes tell to who knows the others',
  'drawn': 'drawings tell to who knows the others',
  'alone': 'its best latent tells alone',
}


def _charts(page: Mapping[str, Any]) -> dict[str, dict[str, list[tuple[float, float]]]]:
  """Returns each latent's divergence and each factor's shares of the first member, against C if there is one."""
  across = page['capacity'] or [float(step) for step in page['curves']['step']]
  curves = {name: np.array(page['curves'][name])[:, 0] for name in ('kl', *TELLERS) if name in page['curves']}
  names = page['factors']
  what = 'capacity C in nats' if page['capacity'] else 'steps'
  return {
    f'divergence of each latent in nats, by {what}': {
      f'latent {i}': list(zip(across, map(float, column), strict=True)) for i, column in enumerate(curves['kl'].T)
    },
    **{
      f'share of each factor that {who}, by {what}': {
        factor: list(zip(across, map(float, column), strict=True))
        for factor, column in zip(names, curves[name].T, strict=True)
      }
      for name, who in TELLERS.items()
      if name in curves
    },
  }


def _order(page: Mapping[str, Any]) -> str:
  """Says in words from when on the codes and the images of each member hold each factor."""
  shown = lambda times: ', '.join(f'{k} never' if t is None else f'{k} from {t:.3g}' for k, t in times.items())
  lines = []
  for one in openings(page):
    who = f'{page["weight"]} {one[page["weight"]]:g}, seed {one["seed"]}'
    parts = [f'{what} {shown(one[name])}' for name, (what, _) in OPENING.items() if name in one]
    lines.append(f'{who}: {"; ".join(parts)}')
  return f'Order of the factors ({_unit(page)}). ' + '. '.join(lines) + '.'


def _figures(
  members: ensemble.Ensemble, states: State, number: int, protocol: disentanglement.Protocol, curves: list[dict]
) -> dict[str, float]:
  """Measures one member."""
  config = members.config
  test, state = data.load(config.data, 'test'), ensemble.one_of(states, number)
  subject = Subject(config, systems.build(config), state, test, parallel.mesh(1))
  codes_of, sizes = disentanglement.of_means(0, subject, protocol)
  figures = mean.metrics(0, subject) | disentanglement.scored(codes_of, sizes, np.random.default_rng(0), protocol)
  figures |= disentanglement.of_samples(0, subject, codes_of, protocol)
  own = {'seed': int(members.seeds[number]), members.weight: float(members.weights[number])}
  return own | figures | {'open_latents': float((curves[-1]['kl'][number] > OPEN_NATS).sum())}


def _picture(members: ensemble.Ensemble, state: State) -> np.ndarray:
  config = members.config
  images = mean.images(data.load(config.data, 'test'), config, 64)
  to_uint8 = preprocess.pixels(config.data)
  draw = positions.available(systems.build(config), config)['latents']
  return draw(jax.random.key(0), state, images, to_uint8)


def _plain(curves: list[dict]) -> dict[str, list]:
  """Returns curves as lists over time, of what is known at all times."""
  return {name: [np.asarray(point[name]).tolist() for point in curves] for name in curves[0]}


def _capacity(config: ConfigDict, curves: list[dict]) -> list[float]:
  """Returns C in nats at the times of the curves; [] if there is no C."""
  if 'capacity' not in config.model:
    return []
  return [config.model.capacity * min(1.0, point['step'] / config.model.capacity_steps) for point in curves]
