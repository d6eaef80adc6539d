"""VQ-VAE-2 on a folder of images of 256 x 256: 32x32 codes over 64x64 codes of 512, and the priors over both.

Paper: Razavi et al. 2019, arXiv:1906.00446, table 3 (ImageNet). The paper's priors have eight heads of attention and
blocks of 1x1 convolutions at their end; here attention has one head with as many keys, and the end is the networks'.
Its pixels are in [-1, 1], where errors are four times those in [0, 1]: hence the variance of 1/4 beside the commitment.
Command: python train.py --config=configs/vqvae2_256.py --config.data.name=folder:PATH --workdir=runs/vqvae2_256
         python train.py --config=configs/vqvae2_256.py:prior --config.data.name=folder:PATH --workdir=runs/prior_256
         python -m dgm_jax.sample --workdir=runs/prior_256 --n=16
Variants: (none) the autoencoder; prior: both priors; classes of subfolders are told with --config.conditional=True
--config.model.classes=K; three_levels: 32, 64 and 128 codes a side, of images of 1024 x 1024; tiny: three levels.
Expected: MSE 0.0047 (paper, pixels in [-1, 1]; 0.0012 here); 3.40 and 3.45 nats a code. For many accelerators.
"""

from dgm_jax.config import defaults, optimizer, shrink

VARIANTS = ('', 'prior', 'three_levels', 'tiny')
TINY = ()  # the programs are those of vqvae2_mnist


def get_config(variant=''):
  if variant not in VARIANTS:
    raise ValueError(f"vqvae2_256 has no variant '{variant}'; it has {' '.join(VARIANTS[1:])}")
  config = defaults()
  config.data.update({'name': 'folder:images', 'preprocess': 'scale', 'size': 256, 'channels': 3, 'valid_size': 1000})
  config.update({'steps_per_call': 10, 'log_every': 100, 'init_examples': 8, 'eval_batch_size': 32, 'pictures': 16})
  config.update({'eval_every': 10_000, 'save_every': 5000, 'picture_every': 10_000})
  vqvae = {'strides': (2, 4), 'codes': 512, 'features': 64, 'hidden': 128, 'blocks': 2, 'width': 64}
  _prior(config, vqvae) if variant == 'prior' else _autoencoder(config, vqvae)
  if variant == 'three_levels':
    config.data.size = 1024
    config.model.vqvae.strides = (2, 2, 8)
  if variant == 'tiny':
    shrink(config)
    config.data.update({'size': 0, 'channels': 0})
    config.model.vqvae.update({'strides': (2, 2, 2), 'codes': 8, 'features': 4, 'hidden': 8, 'blocks': 0, 'width': 4})
    config.optimizer.model.learning_rate = 2e-3
  return config


def _autoencoder(config, vqvae):
  config.system = 'vq.vae'
  config.model = {
    'vqvae': vqvae, 'codebook': 'ema', 'start': 'k_means', 'decay': 0.99, 'restart': 0.03, 'commitment': 0.25,
    'variance': 0.25,
  }  # fmt: skip
  config.optimizer = {'model': optimizer(learning_rate=3e-4)}
  config.update({'batch_size': 128, 'steps': 2_207_444, 'evals': ('mean.metrics', 'codes.codes')})


def _prior(config, vqvae):
  config.system, config.graft = 'vq.prior', {'vqvae': 'runs/vqvae2_256'}
  config.model = {
    'vqvae': vqvae, 'train': ('top', 'bottom'), 'classes': 0, 'embedding': 512, 'average': 0.9999,
    'conditioner': {'features': 512, 'blocks': 20, 'width': 1024},
    'top': {
      'network': 'pixelsnail', 'features': 512, 'blocks': 4, 'resnets': 5, 'keys': 64, 'values': 512, 'dropout': 0.1,
      'chunk': 1024,
    },
    'bottom': {
      'network': 'gated_pixelcnn', 'features': 512, 'layers': 20, 'head': 1024, 'first': 7, 'size': 5, 'dropout': 0.1
    },
  }  # fmt: skip
  rate = optimizer(learning_rate=3e-4)
  config.optimizer = {'top': dict(rate), 'bottom': dict(rate)}
  config.update({'batch_size': 512, 'steps': 754_000, 'best': 'nll_codes_nats'})
  config.evals = ('mean.metrics', 'codes.codes')
