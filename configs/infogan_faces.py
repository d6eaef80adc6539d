"""InfoGAN on rendered faces: five continuous codes, for azimuth, elevation, lighting, width.

Paper: Chen et al. 2016, arXiv:1606.03657, section 7.2 and appendix C: 5 continuous codes and 128 numbers of noise. The
networks, of 32 x 32 greys, the rates and the weight 0.2 of the information are as recalled; batch and steps are those
of configs/infogan_mnist.py.
Command: python train.py --config=configs/infogan_faces.py --config.data.name=folder:PATH --workdir=runs/infogan_faces
         python -m dgm_jax.sample --workdir=runs/infogan_faces --what=continuous_sweeps
Variants: (none); tiny. The images are a folder of your own: the paper's model of faces is not free to pass on.
Expected: the paper shows pictures only. No full run is recorded yet. Cost: a GPU.
"""

from dgm_jax.config import build_on, with_variant

CODES = {'model.classes': 0, 'model.continuous': 5, 'model.weight': 0.0, 'evals': ('mean.metrics',), 'judge': ''}
FACES = CODES | {
  'data.name': 'folder:faces', 'data.size': 32, 'data.channels': 1, 'data.valid_size': 1000, 'model.latents': 128,
  'model.gaussian_weight': 0.2, 'optimizer.generator.learning_rate': 5e-4,
}  # fmt: skip
VARIANTS = {'': FACES, 'tiny': CODES}
TINY = ()  # the programs are those of infogan_mnist


def get_config(variant=''):
  config = build_on(__file__, 'infogan_mnist:tiny' if variant == 'tiny' else 'infogan_mnist')
  return with_variant(config, VARIANTS, variant)
