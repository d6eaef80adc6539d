"""InfoGAN on MNIST: ten classes and two continuous codes.

Paper: Chen et al. 2016, arXiv:1606.03657, section 7 and appendix C.1; weight of the continuous codes' information 1 and
a deviation held at one, as released; slope of rectifiers 0.1, as in the paper (0.01 in its code).
Command: python train.py --config=configs/infogan_mnist.py --workdir=runs/infogan_mnist
Variants: (none); small: half the widths and batches of 64, for twenty minutes on two CPU cores; tiny.
Expected: at least 2.2 of ln 10 = 2.3026 nats in the class; unsupervised accuracy 0.95 in the paper. Ours, small, after
7,000 steps: 2.298 nats, accuracy 0.88, fid_classifier/10k 6.0 (real images: 1.2, noise: 485).
"""

from dgm_jax.config import defaults, optimizer, shrink


def get_config(variant=''):
  if variant not in ('', 'small', 'tiny'):
    raise ValueError(f"infogan_mnist has no variant '{variant}'; it has small and tiny")
  by = 2 if variant == 'small' else 1
  config = defaults()
  config.system = 'gan.infogan'
  config.data.update({'name': 'mnist', 'preprocess': 'scale', 'valid_size': 10_000})
  common = {'network': 'dcgan', 'kernel': 4, 'dense': (1024 // by,), 'norm': 'batch', 'bias': True}
  config.model = {
    'generator': common | {'channels': (128 // by, 64 // by), 'output': 'sigmoid'},
    'critic': common | {'channels': (64 // by, 128 // by), 'slope': 0.1},
    'recognizer': {'hidden': 128 // by, 'slope': 0.1},
    'latents': 62, 'classes': 10, 'continuous': 2, 'prior': 'uniform', 'weight': 1.0, 'gaussian_weight': 1.0,
    'average': 0.0, 'momentum': 0.9, 'references': 0,
  }  # fmt: skip
  config.optimizer = {
    'discriminator': optimizer(learning_rate=2e-4, b1=0.5), 'generator': optimizer(learning_rate=1e-3, b1=0.5)
  }  # fmt: skip
  config.update({'batch_size': 128 // by, 'steps': 7000 if by == 2 else 5000, 'steps_per_call': 1})
  config.update({'log_every': 50, 'eval_every': 500, 'save_every': 500, 'picture_every': 500})
  config.evals = ('mean.metrics', 'generated.classifier', 'generated.clusters')
  config.judge = 'runs/classifier_mnist'
  if variant == 'tiny':
    shrink(config)
    small = {'dense': (8,), 'channels': (8, 4)}
    config.model.generator.update(small)
    config.model.critic.update(small)
    config.model.update({'latents': 4})
    config.model.recognizer.hidden = 8
    config.optimizer.generator.learning_rate = 2e-4
  return config
