"""DCGAN on a folder of images, at the size of its paper: 64 x 64.

Paper: Radford et al. 2016, arXiv:1511.06434, sections 3 and 4: strided convolutions alone, batch normalisation but at
the generator's end and the discriminator's start, pixels in [-1, 1], weights N(0, 0.02), 100 uniform latents, batches
of 128, Adam at 2e-4 with b1 = 0.5; 5x5 kernels, widths and 25 epochs (of faces) are its program's. Otherwise than
there, both players move at each step (there they take turns from batch to batch), weights do not decay (there by 1e-5),
and pictures are drawn with running statistics (there with those of their batch).
Command: python train.py --config=configs/dcgan_64.py --config.data.name=folder:PATH --workdir=runs/dcgan_64
Variants: (none). The same by size for MNIST and CIFAR-10: configs/dcgan_mnist.py, configs/cifar_gan.py:dcgan.
Expected: the paper shows pictures only. No full run is recorded yet; it wants an accelerator.
"""

from dgm_jax.config import defaults, optimizer

TINY = ()  # the programs are those of dcgan_mnist


def get_config(variant=''):
  if variant:
    raise ValueError(f"dcgan_64 has no variant '{variant}'")
  config = defaults()
  config.system = 'gan.dcgan'
  config.data.update({'name': 'folder:images', 'preprocess': 'scale_symmetric', 'size': 64, 'channels': 3})
  config.data.valid_size = 1000
  config.model = {
    'generator': {'network': 'dcgan', 'channels': (1024, 512, 256, 128), 'norm': 'batch', 'output': 'tanh'},
    'critic': {'network': 'dcgan', 'channels': (128, 256, 512, 1024), 'norm': 'batch', 'kernels': 0},
    'latents': 100, 'prior': 'uniform', 'real_label': 1.0, 'objective': 'nonsaturating', 'average': 0.0,
    'momentum': 0.9, 'references': 0,
  }  # fmt: skip
  adam = optimizer(learning_rate=2e-4, b1=0.5)
  config.optimizer = {'discriminator': dict(adam), 'generator': dict(adam)}
  config.update({'batch_size': 128, 'epochs': 25.0, 'steps_per_call': 10, 'log_every': 100, 'eval_every': 1000})
  config.update({'save_every': 1000, 'picture_every': 1000, 'evals': ('mean.metrics',)})
  return config
