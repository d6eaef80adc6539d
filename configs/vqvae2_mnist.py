"""VQ-VAE-2 on MNIST: 4x4 codes over 7x7 codes, then a PixelSNAIL over the former and a PixelCNN over the latter.

Paper: Razavi et al. 2019, arXiv:1906.00446, which has no MNIST: the networks are those of the paper, narrower.
Command: python train.py --config=configs/vqvae2_mnist.py --workdir=runs/vqvae2_mnist
         python train.py --config=configs/vqvae2_mnist.py:prior --workdir=runs/vqvae2_mnist_prior
         python -m dgm_jax.sample --workdir=runs/vqvae2_mnist_prior --n=100
Variants: (none) the autoencoder; prior: both priors over its codes, told the digit; tiny, tiny_prior.
Expected, ours after 3,000 steps each: squared error 0.0034; 2.39 bits a code at the bottom and 1.71 at the top; more
in docs/results.md. Cost: 6 and 13 minutes on two cores.
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

VQVAE = {'strides': (2, 4), 'codes': 128, 'features': 32, 'hidden': 64, 'blocks': 2, 'width': 32}
ADAM = optimizer(learning_rate=1e-3, schedule='cosine', warmup_steps=100)
PRIOR = {
  'system': 'vq.prior', 'graft': {'vqvae': 'runs/vqvae2_mnist'}, 'conditional': True,
  'model': {
    'vqvae': VQVAE, 'train': ('top', 'bottom'), 'classes': 10, 'embedding': 32, 'average': 0.998,
    'conditioner': {'features': 64, 'blocks': 2, 'width': 64},
    'top': {
      'network': 'pixelsnail', 'features': 64, 'blocks': 2, 'resnets': 2, 'keys': 8, 'values': 32, 'dropout': 0.1
    },
    'bottom': {'network': 'gated_pixelcnn', 'features': 48, 'layers': 4, 'head': 128, 'first': 5, 'size': 3},
  },
  'optimizer': {'top': ADAM, 'bottom': ADAM},
  'batch_size': 32, 'judge': 'runs/classifier_mnist', 'best': 'nll_codes_nats',
  'evals': ('mean.metrics', 'codes.codes', 'generated.classifier'),
}  # fmt: skip
TINY_VQVAE = {
  'model.vqvae': {'strides': (2, 2), 'codes': 8, 'features': 4, 'hidden': 8, 'blocks': 0, 'width': 4}
}  # fmt: skip
TINY_PRIOR = {
  'graft': {}, 'model.embedding': 4, 'model.average': 0.9,
  'model.conditioner': {'features': 4, 'blocks': 0, 'width': 4},
  'model.top.features': 4, 'model.top.blocks': 1, 'model.top.resnets': 1, 'model.top.keys': 2, 'model.top.values': 3,
  'model.bottom': {'network': 'gated_pixelcnn', 'features': 4, 'layers': 1, 'head': 4, 'first': 3, 'size': 3},
}  # fmt: skip


def steady(config):
  """Rates that are constant, and an epsilon by which no rounding becomes a step."""
  for player in config.optimizer.values():
    player.update({'schedule': 'constant', 'warmup_steps': 0, 'eps': 1e-4})


VARIANTS = {
  '': {},
  'prior': PRIOR,
  'tiny': (TINY_VQVAE, steady, shrink),
  'tiny_prior': (PRIOR, TINY_VQVAE, TINY_PRIOR, steady, shrink),
}
TINY = ('tiny', 'tiny_prior')  # the variants that tests run


def get_config(variant=''):
  config = defaults()
  config.system = 'vq.vae'
  config.data.update({'name': 'mnist', 'preprocess': 'scale', 'valid_size': 1000})
  config.model = {
    'vqvae': VQVAE, 'codebook': 'ema', 'start': 'k_means', 'decay': 0.99, 'restart': 0.03, 'commitment': 0.25,
    'variance': 0.095,
  }  # fmt: skip
  config.optimizer = {'model': ADAM}
  # XLA's convolutions on a CPU are some twenty times slower inside a loop.
  config.update({'steps_per_call': 1, 'log_every': 50, 'init_examples': 64, 'eval_batch_size': 250, 'batch_size': 64})
  config.update({'steps': 3000, 'eval_every': 500, 'save_every': 500, 'picture_every': 1000})
  config.evals = ('mean.metrics', 'codes.codes')
  return with_variant(config, VARIANTS, variant)
