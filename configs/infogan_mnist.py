"""InfoGAN on MNIST: ten classes and two continuous codes.

Paper: Chen et al. 2016, arXiv:1606.03657, section 7 and appendix C.1; weight of the continuous codes' information 1 and
a deviation held at one, as released; slope of rectifiers 0.1, as in the paper (0.01 in its code).
Command: python train.py --config=configs/infogan_mnist.py --workdir=runs/infogan_mnist
Variants: (none); small: half the widths and batches of 64, twenty minutes on two CPU cores; regular: figure 2b; tiny.
Expected: at least 2.2 of ln 10 = 2.3026 nats in the class; unsupervised accuracy 0.95 in the paper. Ours, small, after
7,000 steps: 2.298 nats, accuracy 0.88, fid_classifier/10k 6.0 (real images: 1.2, noise: 485).
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

SMALL = {
  'model.generator.dense': (512,), 'model.generator.channels': (64, 32),
  'model.critic.dense': (512,), 'model.critic.channels': (32, 64), 'model.recognizer.hidden': 64,
  'batch_size': 64, 'steps': 7000,
}  # fmt: skip
TINY_NETWORKS = {
  'model.generator.dense': (8,), 'model.generator.channels': (8, 4),
  'model.critic.dense': (8,), 'model.critic.channels': (8, 4), 'model.recognizer.hidden': 8, 'model.latents': 4,
  'optimizer.generator.learning_rate': 2e-4,
}  # fmt: skip
VARIANTS = {
  '': {},
  'small': SMALL,
  'regular': {'model.weight': 0.0, 'model.gaussian_weight': 0.0},
  'tiny': (TINY_NETWORKS, shrink),
}


def get_config(variant=''):
  config = defaults()
  config.system = 'gan.infogan'
  config.data.update({'name': 'mnist', 'preprocess': 'scale', 'valid_size': 10_000})
  common = {'network': 'dcgan', 'kernel': 4, 'dense': (1024,), 'norm': 'batch', 'bias': True}
  config.model = {
    'generator': common | {'channels': (128, 64), 'output': 'sigmoid'},
    'critic': common | {'channels': (64, 128), 'slope': 0.1},
    'recognizer': {'hidden': 128, 'slope': 0.1},
    'latents': 62, 'classes': 10, 'continuous': 2, 'prior': 'uniform', 'weight': 1.0, 'gaussian_weight': 1.0,
    'average': 0.0, 'momentum': 0.9, 'references': 0,
  }  # fmt: skip
  config.optimizer = {
    'discriminator': optimizer(learning_rate=2e-4, b1=0.5), 'generator': optimizer(learning_rate=1e-3, b1=0.5)
  }  # fmt: skip
  config.update({'batch_size': 128, 'steps': 5000, 'steps_per_call': 1})
  config.update({'log_every': 50, 'eval_every': 500, 'save_every': 500, 'picture_every': 500})
  config.evals = ('mean.metrics', 'generated.classifier', 'generated.clusters')
  config.judge = 'runs/classifier_mnist'
  return with_variant(config, VARIANTS, variant)
