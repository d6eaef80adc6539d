"""Flows on points of the plane.

Paper: Dinh et al. 2017, arXiv:1605.08803 (realnvp); Durkan et al. 2019 (spline); Papamakarios et al. 2017 (maf);
Kingma et al. 2016 (iaf); Rezende & Mohamed 2015 (planar).
Command: python train.py --config=configs/flow_toy.py:realnvp_ring --workdir=runs/realnvp_ring
Variants: {realnvp spline maf iaf planar}_{ring banana moons pinwheel}; tiny (splines), tiny_maf.
Expected: the negative log-likelihood is at least the entropy, 3.5257 nats for ring, 3.5310 for banana. results/ has
what was reached. Cost: a minute on two CPU cores.
"""

from dgm_jax.config import defaults, optimizer, shrink

DATA = ('ring', 'banana', 'moons', 'pinwheel')
NETWORKS = {
  'realnvp': {'hidden': (64, 64), 'couplings': 8, 'elementwise': 'affine', 'unroll': 4},
  'spline': {'hidden': (64, 64), 'couplings': 4, 'elementwise': 'spline', 'unroll': 2},
  'maf': {'hidden': (64, 64), 'layers': 5, 'unroll': 5},
  'iaf': {'hidden': (64, 64), 'layers': 4, 'unroll': 4},
  'planar': {'layers': 32},
}
TINY = ('tiny', 'tiny_maf')  # the variants that tests run


def get_config(variant='realnvp_ring'):
  tiny = variant.startswith('tiny')
  kind, _, name = (variant.removeprefix('tiny').removeprefix('_') or 'spline').partition('_')
  name = name or 'ring'
  if kind not in NETWORKS or name not in DATA:
    raise ValueError(f"flow_toy has no variant '{variant}'; it has realnvp_ring spline_moons maf_banana ... and tiny")
  config = defaults()
  config.system = 'flow.realnvp_dense' if kind in ('realnvp', 'spline') else f'flow.{kind}'
  config.data.update({'name': f'toy:{name}', 'preprocess': 'identity'})
  config.model = {
    'network': NETWORKS[kind], 'noise': 'normal', 'alpha': 0.0, 'dequantization': 'uniform', 'dequantizer_width': 8,
    'momentum': 0.99, 'l2': 0.0, 'temperature': 1.0,
  }  # fmt: skip
  config.optimizer = {'model': optimizer(learning_rate=2e-3, schedule='cosine')}
  config.update({'batch_size': 512, 'steps': 3000, 'steps_per_call': 100, 'best': 'nll_nats', 'eval_batch_size': 5000})
  config.update({'log_every': 100, 'eval_every': 500, 'save_every': 1000, 'picture_every': 1000})
  if tiny:
    shrink(config)
    config.data.update({'preprocess': 'dequantize', 'size': 4})  # 16 dimensions
    small = {'layers': 2, 'unroll': 1} | ({} if kind == 'planar' else {'hidden': (16,)})
    config.model.network.update({'hidden': (16,), 'couplings': 2, 'unroll': 1} if kind == 'spline' else small)
  return config
