"""Small games on points of the line and of the plane: the first GAN, WGAN with clipped weights, WGAN-GP.

Paper: Goodfellow et al. 2014, arXiv:1406.2661; Arjovsky et al. 2017, arXiv:1701.07875; Gulrajani et al. 2017,
arXiv:1704.00028, section 4.1.
Command: python train.py --config=configs/gan_points.py:gan_25gaussians --workdir=runs/gan_25gaussians
Variants: {gan wgan wgan_gp}_{gaussian 8gaussians 25gaussians swiss_roll}; tiny, tiny_wgan. Cost: a minute or two.
Expected, on 25gaussians after 6,000 steps: of the points of the first GAN 5.8 % lie within three deviations of a mode,
of WGAN's, whose critic is a plain bowl under clipped weights, 5.0 %, of WGAN-GP's 23 %; chance has 1.5 %, the mixture
itself 98.6 %. The number of modes tells nothing: chance finds 20.
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

NETWORKS = {
  'generator': {'network': 'dense', 'hidden': (128,) * 3, 'norm': 'none', 'output': 'linear'},
  'critic': {'network': 'dense', 'hidden': (128,) * 3, 'norm': 'none'},
  'latents': 2, 'prior': 'normal', 'average': 0.0, 'momentum': 0.9, 'references': 0,
}  # fmt: skip
ADAM = optimizer(learning_rate=1e-4, b1=0.5, b2=0.9)
SLOW = optimizer(name='rmsprop', learning_rate=5e-5, b2=0.99)  # without momentum, with which clipped WGANs blow up
WASSERSTEIN = {
  'model': NETWORKS | {'critic_steps': 5, 'ratio': 1, 'clip': 0.01, 'penalty': 0.1}, 'batch_size': 5 * 256
}  # fmt: skip
KINDS = {
  'gan': {},
  'wgan': WASSERSTEIN | {'system': 'gan.wgan', 'optimizer': {'critic': SLOW, 'generator': SLOW}},
  'wgan_gp': WASSERSTEIN | {'system': 'gan.wgan_gp', 'optimizer': {'critic': ADAM, 'generator': ADAM}},
}
POINTS = {
  'gaussian': {'data.name': 'points:gaussian', 'model.latents': 1, 'evals': ('mean.metrics',)},
  '8gaussians': {'data.name': 'points:8gaussians'},
  '25gaussians': {'data.name': 'points:25gaussians'},
  'swiss_roll': {'data.name': 'points:swiss_roll', 'evals': ('mean.metrics',)},
}
TINY_NETWORKS = {
  'data.preprocess': 'scale', 'model.generator.output': 'sigmoid', 'model.generator.hidden': (16,),
  'model.critic.hidden': (16,),
}  # fmt: skip
VARIANTS = {
  **{f'{kind}_{points}': (KINDS[kind], POINTS[points]) for kind in KINDS for points in POINTS},
  'tiny': (TINY_NETWORKS, shrink),
  'tiny_wgan': (KINDS['wgan'], TINY_NETWORKS, {'model.critic_steps': 2}, shrink),
}
TINY = ('tiny_wgan',)  # the first GAN is tested by gan_mnist


def get_config(variant='gan_25gaussians'):
  config = defaults()
  config.system = 'gan.gan'
  config.data.update({'name': 'points:25gaussians', 'preprocess': 'identity'})
  config.model = NETWORKS | {'objective': 'nonsaturating', 'real_label': 1.0}
  config.optimizer = {'discriminator': ADAM, 'generator': ADAM}
  config.update({'batch_size': 256, 'steps': 6000, 'steps_per_call': 100})
  config.update({'log_every': 100, 'eval_every': 1000, 'save_every': 1000, 'picture_every': 1000, 'pictures': 2500})
  config.evals = ('modes.modes',)
  return with_variant(config, VARIANTS, variant or 'gan_25gaussians')
