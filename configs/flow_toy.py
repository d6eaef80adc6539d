"""Flows on points of the plane.

Paper: Dinh et al. 2017, arXiv:1605.08803 (realnvp); Durkan et al. 2019 (spline); Papamakarios et al. 2017 (maf);
Kingma et al. 2016 (iaf); Rezende & Mohamed 2015 (planar).
Command: python train.py --config=configs/flow_toy.py:realnvp_ring --workdir=runs/realnvp_ring
Variants: {realnvp spline maf iaf planar}_{ring banana moons pinwheel}; tiny (splines), tiny_maf.
Cost: a minute on two CPU cores.
Expected: the negative log-likelihood is at least the entropy, 3.5257 nats for ring, 3.5310 for banana. Ours:
docs/results.md.
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

KINDS = {
  'realnvp': {},
  'spline': {
    'model.network': {'hidden': (64, 64), 'couplings': 4, 'elementwise': 'spline', 'unroll': 2}
  },
  'maf': {'system': 'flow.maf', 'model.network': {'hidden': (64, 64), 'layers': 5, 'unroll': 5}},
  'iaf': {'system': 'flow.iaf', 'model.network': {'hidden': (64, 64), 'layers': 4, 'unroll': 4}},
  'planar': {'system': 'flow.planar', 'model.network': {'layers': 32}},
}  # fmt: skip
POINTS = ('ring', 'banana', 'moons', 'pinwheel')
PIXELS = {'data.preprocess': 'dequantize', 'data.size': 4}  # 16 dimensions
TINY_SPLINE = {'model.network.hidden': (16,), 'model.network.couplings': 2, 'model.network.unroll': 1}
TINY_MAF = {'model.network.hidden': (16,), 'model.network.layers': 2, 'model.network.unroll': 1}
VARIANTS = {
  **KINDS,
  **{f'{kind}_{points}': KINDS[kind] | {'data.name': f'toy:{points}'} for kind in KINDS for points in POINTS},
  'tiny': (KINDS['spline'], TINY_SPLINE, PIXELS, shrink),
  'tiny_maf': (KINDS['maf'], TINY_MAF, PIXELS, shrink),
}
TINY = ('tiny', 'tiny_maf')  # the variants that tests run


def get_config(variant='realnvp_ring'):
  config = defaults()
  config.system = 'flow.realnvp_dense'
  config.data.update({'name': 'toy:ring', 'preprocess': 'identity'})
  config.model = {
    'network': {'hidden': (64, 64), 'couplings': 8, 'elementwise': 'affine', 'unroll': 4},
    'noise': 'normal', 'alpha': 0.0, 'dequantization': 'uniform', 'dequantizer_width': 8, 'momentum': 0.99, 'l2': 0.0,
    'temperature': 1.0,
  }  # fmt: skip
  config.optimizer = {'model': optimizer(learning_rate=2e-3, schedule='cosine')}
  config.update({'batch_size': 512, 'steps': 3000, 'steps_per_call': 100, 'best': 'nll_nats', 'eval_batch_size': 5000})
  config.update({'log_every': 100, 'eval_every': 500, 'save_every': 1000, 'picture_every': 1000})
  return with_variant(config, VARIANTS, variant or 'realnvp_ring')
