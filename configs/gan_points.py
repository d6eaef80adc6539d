"""Small games on points of the line and of the plane: the first GAN, WGAN with clipped weights, WGAN-GP.

Paper: Goodfellow et al. 2014, arXiv:1406.2661; Arjovsky et al. 2017, arXiv:1701.07875; Gulrajani et al. 2017,
arXiv:1704.00028, section 4.1.
Command: python train.py --config=configs/gan_points.py:gan_25gaussians --workdir=runs/gan_25gaussians
Variants: SYSTEM_POINTS with system gan, wgan or wgan_gp and points gaussian, 8gaussians, 25gaussians or swiss_roll;
tiny, tiny_wgan.
Expected, on 25gaussians after 6,000 steps: of the points of the first GAN 5.8 % lie within three deviations of a mode,
of WGAN's, whose critic is a plain bowl under clipped weights, 5.0 %, of WGAN-GP's 23 %; chance has 1.8 %, the mixture
itself 98.9 %. The number of modes tells nothing: chance finds 20. A minute or two.
"""

from dgm_jax.config import defaults, optimizer, shrink

SYSTEMS = ('wgan_gp', 'wgan', 'gan')
POINTS = ('gaussian', '8gaussians', '25gaussians', 'swiss_roll')
TINY = ('tiny_wgan',)  # the first GAN is tested by gan_mnist


def get_config(variant='gan_25gaussians'):
  tiny = variant.startswith('tiny')
  wanted = {'tiny': 'gan_25gaussians', 'tiny_wgan': 'wgan_25gaussians'}.get(variant, variant or 'gan_25gaussians')
  system = next((name for name in SYSTEMS if wanted.startswith(name + '_')), '')
  points = wanted.removeprefix(system + '_')
  if not system or points not in POINTS:
    raise ValueError(f"gan_points has no variant '{variant}'; it has gan_25gaussians wgan_8gaussians ... and tiny")
  config = defaults()
  config.system = f'gan.{system}'
  config.data.update({'name': f'points:{points}', 'preprocess': 'identity'})
  turns = 1 if system == 'gan' else 5
  config.model = {
    'generator': {'network': 'dense', 'hidden': (128,) * 3, 'norm': 'none', 'output': 'linear'},
    'critic': {'network': 'dense', 'hidden': (128,) * 3, 'norm': 'none'},
    'latents': 1 if points == 'gaussian' else 2, 'prior': 'normal', 'average': 0.0, 'momentum': 0.9, 'references': 0,
  }  # fmt: skip
  adam = optimizer(learning_rate=1e-4, b1=0.5, b2=0.9)
  if system == 'gan':
    config.model.update({'objective': 'nonsaturating', 'real_label': 1.0})
    config.optimizer = {'discriminator': dict(adam), 'generator': dict(adam)}
  else:
    # Without momentum, which the first of the two papers found to blow up under clipping.
    slow = optimizer(name='rmsprop', learning_rate=5e-5, b2=0.99)
    config.model.update({'critic_steps': turns, 'ratio': 1, 'clip': 0.01, 'penalty': 0.1})
    config.optimizer = {role: dict(slow if system == 'wgan' else adam) for role in ('critic', 'generator')}
  config.update({'batch_size': 256 * turns, 'steps': 6000, 'steps_per_call': 100})
  config.update({'log_every': 100, 'eval_every': 1000, 'save_every': 1000, 'picture_every': 1000, 'pictures': 2500})
  config.evals = ('modes.modes',) if points not in ('gaussian', 'swiss_roll') else ('mean.metrics',)
  if tiny:
    shrink(config)
    config.data.preprocess, config.model.generator.output = 'scale', 'sigmoid'
    config.model.generator.hidden = config.model.critic.hidden = (16,)
    if system == 'wgan':
      config.model.critic_steps = 2
  return config
