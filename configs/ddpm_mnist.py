"""Denoising diffusion on MNIST.

Paper: Ho et al. 2020, arXiv:2006.11239, has no MNIST: steps, objective and optimizer are those of its CIFAR-10, the
U-Net has half its features and three resolutions, without attention but on the lowest. Dropout and length are ours.
Command: python train.py --config=configs/ddpm_mnist.py --workdir=runs/ddpm_mnist
Variants: (none); velocity: with a cosine schedule; small: 32 features on squares of 2x2 pixels, for a CPU; tiny.
Cost: a step of small takes 0.35 seconds of one CPU core, 64 samples of 50 steps 4.4.
Expected: a classifier reads 1,000 samples of small with a mean confidence of 0.8 or more. No run is recorded yet.
"""

from dgm_jax.config import build_on, with_variant

MNIST = {'data.name': 'mnist', 'evals': ('mean.metrics', 'generated.classifier')}
NETWORK = {
  'network': 'unet', 'features': 64, 'multipliers': (1, 2, 2), 'blocks': 2, 'attention': (), 'groups': 32,
  'dropout': 0.0, 'patch': 1,
}  # fmt: skip
VARIANTS = {
  '': (MNIST, {'model.denoiser': NETWORK, 'data.valid_size': 10_000, 'steps': 100_000, 'model.average': 0.999}),
  'velocity': (),
  'small': (
    MNIST,
    {'model.denoiser.multipliers': (1, 2), 'model.denoiser.attention': (), 'generated.samples': 1000, 'steps': 4000},
  ),
  'tiny': {},
}
VARIANTS['velocity'] = (*VARIANTS[''], {'model.predicts': 'velocity', 'model.schedule': 'cosine'})
TINY = ()  # the programs are those of ddpm_cifar10


def get_config(variant=''):
  config = build_on(__file__, 'ddpm_cifar10' + f':{variant}' * (variant in ('small', 'tiny')))
  return with_variant(config, VARIANTS, variant)
