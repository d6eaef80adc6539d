"""The classifier by which generated digits are judged: its last 128 features stand in for those of Inception.

Paper: none.
Command: python train.py --config=configs/classifier_mnist.py --workdir=runs/classifier_mnist
Variants: (none); tiny. Cost: two minutes on two CPU cores.
Expected: at most 1.5 % error on the test images (ours: 1.04).
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

VARIANTS = {
  '': {},
  'tiny': ({'model.network.channels': (4,), 'model.network.features': 8}, shrink),
}


def get_config(variant=''):
  config = defaults()
  config.system = 'classifier.classifier'
  config.data.update({'name': 'mnist', 'preprocess': 'scale', 'valid_size': 5000})
  config.model = {'network': {'channels': (32, 64), 'features': 128, 'classes': 10}, 'average': 0.99}
  config.optimizer = {'model': optimizer(learning_rate=1e-3, schedule='cosine')}
  config.update({'batch_size': 128, 'steps': 2500, 'steps_per_call': 1, 'best': 'error_percent'})  # convolutions
  config.update({'log_every': 100, 'eval_every': 500, 'save_every': 500, 'picture_every': 0})
  return with_variant(config, VARIANTS, variant)
