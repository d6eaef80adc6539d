"""Deep diffusion on MNIST.

Paper: Sohl-Dickstein et al. 2015, arXiv:1503.03585, section 3.2.1 and appendix D.2, and the defaults of the authors'
program. Ours: three scales, images held out, the length (the epochs of the program's published samples).
Command: python train.py --config=configs/deep_diffusion_mnist.py --workdir=runs/deep_diffusion_mnist
Variants: (none); small: for a CPU, as in deep_diffusion_cifar10; tiny.
Cost: not timed yet.
Expected: Parzen log-likelihood 317 +- 2.7 bits, which are 220 nats (table 2). No run is recorded yet.
"""

from dgm_jax.config import build_on, with_variant

NETWORK = {
  'network': 'multi_scale', 'features': 20, 'layers': 4, 'scales': 3, 'dense': 500, 'dense_layers': 4,
  'dense_features': 2, 'upper': 20, 'upper_layers': 2, 'bumps': 10, 'spacing': 'linear',
}  # fmt: skip
VARIANTS = {
  '': {'model.denoiser': NETWORK, 'batch_size': 512, 'epochs': 825.0, 'data.valid_size': 10_000},
  'small': {'steps': 4000, 'batch_size': 64},
  'tiny': {},
}
TINY = ()  # the programs are those of deep_diffusion_cifar10


def get_config(variant=''):
  config = build_on(__file__, 'deep_diffusion_cifar10' + f':{variant}' * (variant in ('small', 'tiny')))
  if variant != 'tiny':
    config.data.name = 'mnist'
  config.evals = ('mean.metrics', 'parzen.parzen')
  return with_variant(config, VARIANTS, variant)
