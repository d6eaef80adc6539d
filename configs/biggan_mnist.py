"""BigGAN on MNIST for a CPU of two cores, with and without quantized features.

Paper: Brock et al. 2019, arXiv:1809.11096; Zhao et al. 2020, arXiv:2004.02088. Networks and rates are ours: 7 - 14 - 28
pixels, latents that go into every block, a critic wider than the generator and twice as fast. Narrow networks of equal
rates, with latents at the first layer alone, gave one image a class.
Command: python train.py --config=configs/biggan_mnist.py:small --workdir=runs/biggan_mnist
Variants: small, small_fq. Cost: 25 minutes.
Expected: the judge finds the class of 97 % of the samples, diversity within classes .6 to 1.4 of that of real images,
fid_classifier/10k at most 40.
"""

from dgm_jax.config import build_on, optimizer, with_variant

FQ = {
  'layers': ('block_0', 'block_1', 'block_2', 'block_3'), 'codes': 64, 'commitment': 1.0, 'decay': 0.9, 'feed': False,
  'start': 0.0, 'deviation': 1.0, 'both': True,
}  # fmt: skip
VARIANTS = {'small': {}, 'small_fq': {'model.quantize': FQ}}
TINY = ()  # the networks are tested by biggan_cifar10 and tac_cifar100


def get_config(variant='small'):
  config = build_on(__file__, 'biggan_cifar10')
  config.data.update({'name': 'mnist', 'valid_size': 10_000})
  config.model.generator.update({'channels': (32, 24, 24), 'shared': 32, 'hierarchical': True})
  config.model.generator.initializer = config.model.critic.initializer = 'glorot'
  config.model.critic.channels = (32,) * 4
  config.model.update({'latents': 48, 'critic_steps': 1, 'average': 0.998, 'average_start': 200})
  adam = {'b1': 0.0, 'b2': 0.99}
  config.optimizer = {
    'discriminator': optimizer(learning_rate=1e-3, **adam), 'generator': optimizer(learning_rate=5e-4, **adam)
  }  # fmt: skip
  config.update({'batch_size': 64, 'epochs': 0.0, 'steps': 3600})
  config.update({'log_every': 50, 'save_every': 300, 'picture_every': 300})
  config.evals = ('mean.metrics', 'generated.classifier', 'classes.classes')
  config.judge = 'runs/classifier_mnist'
  return with_variant(config, VARIANTS, variant or 'small')
