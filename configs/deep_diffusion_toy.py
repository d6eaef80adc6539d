"""Deep diffusion on points of the plane and on sequences of bits.

Paper: Sohl-Dickstein et al. 2015, arXiv:1503.03585, section 3.1 and appendix D.1: swiss roll with 40 steps and 16
radial basis functions, heartbeat with 2000 binomial steps and three layers of 50 sigmoids. Ours: the logit of x_0 in
place of that of x_{t-1}, the optimizer, the batch and the length; all of `swiss_roll` but its data.
Command: python train.py --config=configs/deep_diffusion_toy.py:heartbeat --workdir=runs/heartbeat
Variants: swiss_roll (400 steps, dense layers); swiss_roll_40 (the paper's steps and network); heartbeat; tiny,
tiny_bits.
Cost: heartbeat 45 seconds of one CPU core; a thousand steps of swiss_roll 2.7 seconds.
Expected: heartbeat 2.414 bits (paper; truth 2.322), swiss roll at least its entropy .643. Measured: 2.36, .753.
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

DENSE = {
  'network': 'dense', 'hidden': (128, 128, 128), 'activation': 'tanh', 'bumps': 10, 'spacing': 'logarithmic', 'waves': 8
}  # fmt: skip
PAPER = {
  'model.denoiser': {'network': 'radial', 'units': 16, 'bumps': 10, 'spacing': 'linear'}, 'model.steps': 40,
  'model.schedule': 'fraction', 'model.predicts': 'mean', 'model.times': 'uniform', 'model.evaluated': 39,
  'model.sampler.steps': 40,
}  # fmt: skip
HEARTBEAT = {
  'data.name': 'points:heartbeat', 'model.likelihood': 'bernoulli', 'model.steps': 2000, 'model.schedule': 'fraction',
  'model.denoiser': {
    'network': 'dense', 'hidden': (50, 50, 50), 'activation': 'sigmoid', 'bumps': 10, 'spacing': 'linear', 'waves': 0
  },
  'model.times': 'uniform', 'model.sampler.steps': 2000, 'steps': 20_000,
}  # fmt: skip
SMALL = {
  'data.size': 4, 'model.denoiser.hidden': (16,), 'model.denoiser.bumps': 2, 'model.denoiser.waves': 1,
  'model.steps': 4, 'model.evaluated': 2, 'model.sampler.steps': 2, 'model.times': 'uniform',
  'optimizer': {'model': optimizer(learning_rate=3e-3)},
}  # fmt: skip
VARIANTS = {
  'swiss_roll': {},
  'swiss_roll_40': PAPER,
  'heartbeat': HEARTBEAT,
  'tiny': (SMALL, {'data.preprocess': 'dequantize'}, shrink),
  'tiny_bits': (HEARTBEAT, SMALL, {'data.preprocess': 'threshold'}, shrink),
}
TINY = ('tiny', 'tiny_bits')  # the variants that tests run


def get_config(variant='swiss_roll'):
  config = defaults()
  config.system = 'diffusion.deep_diffusion'
  config.data.update({'name': 'points:swiss_roll', 'preprocess': 'identity'})
  config.model = {
    'likelihood': 'normal', 'denoiser': DENSE, 'steps': 400, 'schedule': 'cosine', 'rates': (1e-4, 0.02),
    'predicts': 'velocity', 'variance': 'learned', 'times': 'logarithmic', 'evaluated': 20,
    'sampler': {'steps': 400, 'eta': 1.0}, 'average': 0.0,
  }  # fmt: skip
  config.optimizer = {'model': optimizer(learning_rate=2e-3, schedule='cosine')}
  config.update({'batch_size': 512, 'steps': 40_000, 'steps_per_call': 100, 'best': 'neg_elbo_nats'})
  config.update({'log_every': 500, 'eval_every': 4000, 'save_every': 2000, 'picture_every': 0, 'eval_batch_size': 1000})
  config.nll.samples, config.init_examples = 40, 100_000  # all points: one mean and one deviation
  return with_variant(config, VARIANTS, variant or 'swiss_roll')
