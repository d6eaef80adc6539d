"""VQ-VAE on MNIST: 7x7 codes of 512, whose codebook follows by gradient, and a PixelCNN over them.

Paper: van den Oord et al. 2017, arXiv:1711.00937, which has no MNIST: networks, commitment, optimizer and the 250,000
steps are those that it has for CIFAR-10 (configs/vqvae_cifar10.py). Differences: docs/results.md.
Command: python train.py --config=configs/vqvae_mnist.py --workdir=runs/vqvae_mnist
         python train.py --config=configs/vqvae_mnist.py:prior --workdir=runs/vqvae_mnist_prior
         python -m dgm_jax.sample --workdir=runs/vqvae_mnist_prior --n=100
Variants: (none) the autoencoder; prior: a Gated PixelCNN over its codes, told the digit; tiny.
Expected: no full run is recorded yet. Cost: the autoencoder wants an accelerator.
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

VQVAE = {'strides': (4,), 'codes': 512, 'features': 64, 'hidden': 256, 'blocks': 2, 'width': 256}
PRIOR = {
  'system': 'vq.prior', 'graft': {'vqvae': 'runs/vqvae_mnist'}, 'conditional': True,
  'model': {
    'vqvae': VQVAE, 'train': ('top',), 'classes': 10, 'embedding': 64, 'average': 0.999, 'conditioner': {},
    'top': {'network': 'gated_pixelcnn', 'features': 128, 'layers': 10, 'head': 256, 'first': 7, 'size': 3},
  },
  'optimizer': {'top': optimizer(learning_rate=3e-4)},
  'steps': 25_000, 'best': 'nll_codes_nats', 'judge': 'runs/classifier_mnist',
  'evals': ('mean.metrics', 'codes.codes', 'generated.classifier'),
}  # fmt: skip
TINY_VQVAE = {
  'model.vqvae': {'strides': (4,), 'codes': 8, 'features': 4, 'hidden': 8, 'blocks': 1, 'width': 4},
  'optimizer.model.learning_rate': 2e-3,
}  # fmt: skip
VARIANTS = {
  '': {},
  'prior': PRIOR,
  'tiny': (TINY_VQVAE, shrink),
}


def get_config(variant=''):
  config = defaults()
  config.system = 'vq.vae'
  config.data.update({'name': 'mnist', 'preprocess': 'scale', 'valid_size': 1000})
  config.model = {
    'vqvae': VQVAE, 'codebook': 'gradient', 'start': 'k_means', 'decay': 0.0, 'restart': 0.0, 'commitment': 0.25,
    'variance': 0.095,
  }  # fmt: skip
  config.optimizer = {'model': optimizer(learning_rate=2e-4)}
  # XLA's convolutions on a CPU are some twenty times slower inside a loop.
  config.update({'steps_per_call': 1, 'log_every': 50, 'init_examples': 64, 'eval_batch_size': 250, 'batch_size': 128})
  config.update({'steps': 250_000, 'eval_every': 500, 'save_every': 500, 'picture_every': 1000})
  config.update({'best': 'mse', 'evals': ('mean.metrics', 'codes.codes')})
  return with_variant(config, VARIANTS, variant)
