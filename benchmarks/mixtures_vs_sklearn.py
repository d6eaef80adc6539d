"""Time of EM and of mean field for mixtures of normals: dgm_jax under jit against scikit-learn.

Usage: python benchmarks/mixtures_vs_sklearn.py [--n=100000] [--dims=16] [--components=32] [--iterations=10]
       [--rounds=5] [--record]

Full covariances, the same start, the same number of iterations; both sides are called in turn, in one process and on
all its cores, so that a machine whose speed drifts is fair to both. scikit-learn computes in float64; dgm_jax is timed
in float64 and in float32. Both must end at the same likelihood (or bound, up to the constant that scikit-learn leaves
out): to 1e-6 of it in float64, 1e-4 in float32.
"""

import argparse
import json
import os
import statistics
import sys
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
NAME = 'bench_mixtures_vs_sklearn'
REGULARIZATION = 1e-6  # scikit-learn's own
CONCENTRATION, SEED = 0.5, 3


def main() -> None:
  args = _arguments()
  warnings.simplefilter('ignore')  # scikit-learn's, that it has not converged
  import jax

  jax.config.update('jax_enable_x64', True)
  x = _data(args)
  page = {
    'what': f'mixture of {args.components} normals with full covariances, {args.n} points in {args.dims} dimensions,'
    f' seconds for {args.iterations} iterations from the same start, both sides in turn',
    'machine': _machine(),
    'rounds': args.rounds,
    'em': _compare(_em_sides(x, args), args.rounds),
    'mean_field': _compare(_mean_field_sides(x, args), args.rounds),
  }
  print(json.dumps(page, indent=2))
  if args.record:
    target = Path(args.results) / f'{NAME}.json'
    target.write_text(json.dumps(page, indent=2) + '\n')
    print(f'record: {target}')


def _data(args):
  import numpy as np

  random = np.random.default_rng(0)
  centres = 2 * random.normal(size=(args.components, args.dims))
  noise = random.normal(size=(args.components, args.dims, args.dims)) / args.dims**0.5
  shapes = 0.5 * np.eye(args.dims) + 0.25 * noise
  component = random.integers(args.components, size=args.n)
  return centres[component] + np.einsum('nij,nj->ni', shapes[component], random.normal(size=(args.n, args.dims)))


def _em_sides(x, args) -> dict:
  """name -> call that gives the mean log-likelihood in nats that its last iteration began with."""
  import jax
  import jax.numpy as jnp
  import numpy as np
  from sklearn.mixture import GaussianMixture

  from dgm_jax.classical import em, mixture

  weights = np.full(args.components, 1 / args.components)
  means, identities = x[: args.components], np.stack([np.eye(args.dims)] * args.components)

  def theirs():
    model = GaussianMixture(
      args.components, max_iter=args.iterations, tol=0.0, reg_covar=REGULARIZATION, init_params='random_from_data',
      weights_init=weights, means_init=means, precisions_init=identities,
    )  # fmt: skip
    return model.fit(x).lower_bound_

  fit = jax.jit(lambda x, start: em.fit(mixture.full(), x, start, args.iterations, -1.0, REGULARIZATION)[1][-1])

  def ours(kind):
    arrays = [jnp.asarray(a, kind) for a in (x, weights, means, identities)]
    return lambda: float(fit(arrays[0], mixture.Mixture(*arrays[1:])))

  return {'sklearn': theirs, 'float64': ours('float64'), 'float32': ours('float32')}


def _mean_field_sides(x, args) -> dict:
  """name -> call that gives the bound an example in nats, without scikit-learn's constant."""
  import jax
  import jax.numpy as jnp
  import numpy as np
  from sklearn.mixture import BayesianGaussianMixture

  from dgm_jax.classical import bayesian_mixture, mixture

  start = np.random.RandomState(SEED).uniform(size=(args.n, args.components))
  start /= start.sum(1, keepdims=True)

  def theirs():
    model = BayesianGaussianMixture(
      n_components=args.components, max_iter=args.iterations, tol=0.0, reg_covar=0.0, init_params='random',
      random_state=SEED, weight_concentration_prior_type='dirichlet_distribution',
      weight_concentration_prior=CONCENTRATION,
    )  # fmt: skip
    model.fit(x)
    return (model.lower_bound_ - model.lower_bounds_[0]) / args.n

  @jax.jit
  def fit(x, responsibilities):
    x = x - x.mean(0)
    parameters = bayesian_mixture.conjugate(bayesian_mixture.prior(x, CONCENTRATION), args.components)
    found = mixture.statistics(parameters.structure, x, responsibilities)
    # A sweep here is M then E, there E then M: their i-th bound is the first of our sweep i + 1.
    bounds = bayesian_mixture.fit(parameters, x, found, args.iterations + 1, -1.0).bounds[1:, 0]
    return (bounds[-1] - bounds[0]) / args.n

  def ours(kind):
    arrays = [jnp.asarray(a, kind) for a in (x, start)]
    return lambda: float(fit(*arrays))

  return {'sklearn': theirs, 'float64': ours('float64'), 'float32': ours('float32')}


def _compare(sides: dict, rounds: int) -> dict:
  values = {name: call() for name, call in sides.items()}  # also compiles
  for name, tolerance in (('float64', 1e-6), ('float32', 1e-4)):
    if not abs(values[name] - values['sklearn']) <= tolerance * abs(values['sklearn']):
      sys.exit(f'error: the sides do not end at the same objective: {values}')
  times = {name: [] for name in sides}
  for _ in range(rounds):
    for name, call in sides.items():
      started = time.perf_counter()
      call()
      times[name].append(time.perf_counter() - started)
  medians = {name: statistics.median(of) for name, of in times.items()}
  return {
    'objective_nats_per_example': values,
    'seconds': medians,
    'spread': {name: [min(of), max(of)] for name, of in times.items()},
    'ratio_float64': medians['sklearn'] / medians['float64'],
    'ratio_float32': medians['sklearn'] / medians['float32'],
    'ratio_float64_of_each_round': [round(a / b, 2) for a, b in zip(times['sklearn'], times['float64'], strict=True)],
  }


def _machine() -> str:
  import jax
  import sklearn

  from dgm_jax.runs import workdir

  return f'{workdir.processor()}; jax {jax.__version__}, scikit-learn {sklearn.__version__}, {os.cpu_count()} threads'


def _arguments():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--n', type=int, default=100_000)
  parser.add_argument('--dims', type=int, default=16)
  parser.add_argument('--components', type=int, default=32)
  parser.add_argument('--iterations', type=int, default=10)
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--record', action='store_true', help='write the figures into --results')
  parser.add_argument('--results', default=str(ROOT / 'results'))
  return parser.parse_args()


if __name__ == '__main__':
  main()
