"""WGAN-GP on a grid of 25 normals.

Paper: Gulrajani et al. 2017, arXiv:1704.00028, section 4.1 and figure 1; released code for what the paper leaves open:
critic weight 0.1 (10 in the paper's text), Adam with decays 0.5 and 0.9 (0 and 0.9 in its algorithm 1).
Command: python train.py --config=configs/wgan_gp_25gaussians.py --workdir=runs/wgan_gp_25gaussians
Variants: (none) 128 units a layer and 6,000 steps, for two CPU cores; paper: 512 units and 100,000 steps; tiny.
Beside it: configs/gan_points.py:gan_25gaussians, :wgan_25gaussians. Cost: one or two minutes; paper: hours.
Expected: 23 % of the points within three deviations of a mode (chance: 1.5 %, the mixture itself: 98.6 %), the median
7.5 deviations away (chance: 16), all 25 modes, 0.006 nats from uniform (ours); the paper shows pictures only.
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

PAPER = {'model.generator.hidden': (512,) * 3, 'model.critic.hidden': (512,) * 3, 'steps': 100_000}
TINY_NETWORKS = {
  'data.preprocess': 'scale', 'model.generator.output': 'sigmoid', 'model.generator.hidden': (16,),
  'model.critic.hidden': (16,), 'model.critic_steps': 2,
}  # fmt: skip
VARIANTS = {
  '': {},
  'paper': PAPER,
  'tiny': (TINY_NETWORKS, shrink),
}


def get_config(variant=''):
  config = defaults()
  config.system = 'gan.wgan_gp'
  config.data.update({'name': 'points:25gaussians', 'preprocess': 'identity'})
  config.model = {
    'generator': {'network': 'dense', 'hidden': (128,) * 3, 'norm': 'none', 'output': 'linear'},
    'critic': {'network': 'dense', 'hidden': (128,) * 3, 'norm': 'none'},
    'latents': 2, 'prior': 'normal', 'critic_steps': 5, 'ratio': 1, 'penalty': 0.1,
    'average': 0.0, 'momentum': 0.9, 'references': 0,
  }  # fmt: skip
  adam = optimizer(learning_rate=1e-4, b1=0.5, b2=0.9)
  config.optimizer = {'critic': dict(adam), 'generator': dict(adam)}
  config.update({'batch_size': 5 * 256, 'steps': 6000, 'steps_per_call': 100})
  config.update({'log_every': 100, 'eval_every': 1000, 'save_every': 1000, 'picture_every': 1000, 'pictures': 2500})
  config.evals = ('modes.modes',)
  return with_variant(config, VARIANTS, variant)
