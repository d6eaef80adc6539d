"""Optimizers from plain data: name, learning-rate schedule, clipping, weight decay."""

import itertools
import math
import re
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from dgm_jax.errors import UserError
from dgm_jax.runtime import parallel

__all__ = ['make', 'skipping', 'total_steps']

# Names of parameters that are matrices, or stacks of them.
WEIGHTS = re.compile(r'(kernel|theta|direction|across|below|lower|upper|embedding)(_\d+)?')


class Optimizer(NamedTuple):
  """An optax transformation that also says over how many slices of a batch its gradients are to be averaged."""

  init: Callable
  update: Callable
  accumulate: int
  norms: Callable | None = None  # (gradients, parameters after the step) -> metrics


def total_steps(config: ConfigDict) -> int:
  """Returns the number of steps of the run: `steps`, else the stages of the budget, else `epochs`."""
  if config.steps:
    return config.steps
  if config.stage_epochs:
    return stage_ends(config)[(config.budget or len(config.stage_epochs)) - 1]
  return round(config.epochs * steps_per_epoch(config))


def steps_per_epoch(config: ConfigDict) -> float:
  """Computes the number of steps that use every training example once on average.

  Raises:
    UserError: the size of the training set is not filled in.
  """
  if not config.data.examples:
    raise UserError('config.data.examples is 0: epochs can be counted only once the data is loaded')
  return config.data.examples / config.batch_size


def stage_ends(config: ConfigDict) -> list[int]:
  """Returns the step at which each of `stage_epochs` ends."""
  return [round(total * steps_per_epoch(config)) for total in itertools.accumulate(config.stage_epochs)]


def schedule(opt: ConfigDict, config: ConfigDict) -> optax.Schedule:
  """Returns the learning rate [] at a step [], after a linear warm-up of `warmup_steps`.

  'stages' holds `stage_rates[i]` over the i-th of `stage_epochs`. 'linear' and 'cosine' fall to `end_factor` of the
  rate over the whole run. 'exponential' multiplies it by `decay` after every step.
  """
  rate, steps = opt.learning_rate, total_steps(config)
  if opt.schedule == 'stages':
    ends, rates = jnp.asarray(stage_ends(config)), jnp.asarray(opt.stage_rates, jnp.float32)
    main = lambda step: rates[jnp.minimum((step >= ends).sum(), len(opt.stage_rates) - 1)]
  elif opt.schedule == 'linear':
    main = optax.linear_schedule(rate, rate * opt.end_factor, steps)
  elif opt.schedule == 'cosine':
    main = optax.cosine_decay_schedule(rate, steps, opt.end_factor)
  elif opt.schedule == 'exponential':
    main = lambda step: rate * jnp.exp(step * math.log(opt.decay))
  else:
    main = optax.constant_schedule(rate)
  if not opt.warmup_steps:
    return main
  return lambda step: main(step) * jnp.minimum(1.0, (step + 1) / opt.warmup_steps)


def make(config: ConfigDict, player: str, moves: int = 1) -> Optimizer:
  """Builds the optimizer of one player: clip by value and by global norm, scale, decay weights (decoupled), step.

  If the global norm of the gradients before all of this is not below `skip_norm`, nothing moves.

  Its gradients are averaged before, over `config.accumulate` slices of the batch. If each device makes its own step,
  they are also averaged over the devices. If a player makes several `moves` a step, all have the rate of the step.
  With `config.norms` the norms of its gradients, before clipping, and of its new parameters are among its metrics.

  Raises:
    UserError: the experiment has no optimizer of that name.
  """
  if player not in config.optimizer:
    names = ', '.join(config.optimizer) or 'none'
    raise UserError(f"config.optimizer has no '{player}', which config.system={config.system} trains; it has {names}")
  opt: ConfigDict = config.optimizer[player]  # type: ignore[assignment]
  scale = {
    'adam': lambda: optax.scale_by_adam(opt.b1, opt.b2, opt.eps, opt.get('eps_root', 0.0)),
    'adamax': lambda: optax.scale_by_adamax(opt.b1, opt.b2, opt.eps),
    'adagrad': lambda: optax.scale_by_rss(initial_accumulator_value=0.0, eps=opt.eps),
    'rmsprop': lambda: _rmsprop(opt),
    'sgd': lambda: optax.trace(opt.momentum) if opt.momentum else optax.identity(),
  }[opt.name]()
  links = [optax.clip(opt.clip_value)] if opt.get('clip_value', 0.0) else []
  links += [optax.clip_by_global_norm(opt.clip_norm)] if opt.clip_norm else []
  links.append(scale)
  if opt.weight_decay:
    links.append(optax.add_decayed_weights(opt.weight_decay, _matrices))
  rate = schedule(opt, config)
  tx = optax.chain(*links, optax.scale_by_learning_rate(rate if moves == 1 else lambda move: rate(move // moves)))
  if skip_norm := opt.get('skip_norm', 0.0):
    tx = skipping(tx, skip_norm)
  mean = parallel.mean_gradients if config.parallel == 'pmap' else lambda grads: grads
  if config.parallel == 'pmap':
    tx = parallel.averaging(tx)
  norms = lambda grads, new: {
    'norm/gradient': optax.tree.norm(mean(grads)), 'norm/parameters': optax.tree.norm(new)
  }  # fmt: skip
  return Optimizer(tx.init, tx.update, config.accumulate, norms if config.get('norms') else None)


def skipping(tx: optax.GradientTransformation, bound: float) -> optax.GradientTransformation:
  """Returns the transformation that leaves parameters and its state as they are if the gradients are too long.

  Args:
    tx: the transformation.
    bound: gradients whose global norm is at least this, or not finite, are skipped.

  Reference: Child 2021, arXiv:2011.10650, section 3.2.
  """

  def update(grads, state, params=None):
    updates, new = tx.update(grads, state, params)
    squares = sum(jnp.square(grad).sum() for grad in jax.tree.leaves(grads))
    moves = jnp.sqrt(squares) < bound
    keep = lambda moved, still: jax.tree.map(lambda a, b: jnp.where(moves, a, b), moved, still)
    return keep(updates, jax.tree.map(jnp.zeros_like, updates)), keep(new, state)

  return optax.GradientTransformation(tx.init, update)


def _rmsprop(opt: ConfigDict) -> optax.GradientTransformation:
  """Returns the division by the root mean square, as in PyTorch, followed by the momentum of its results."""
  scale = optax.scale_by_rms(decay=opt.b2, eps=opt.eps, eps_in_sqrt=False)
  return optax.chain(scale, optax.trace(opt.momentum)) if opt.momentum else scale


def _matrices(params):
  """Returns the mask of the parameters that decay: weights do, biases, scales and all others do not.

  Their names identify them, because vectors of stacked layers have two axes as well.
  """
  name = lambda path: jax.tree_util.keystr(path[-1:], simple=True)
  return jax.tree_util.tree_map_with_path(lambda path, _: WEIGHTS.fullmatch(name(path)) is not None, params)
