"""Hierarchical variational autoencoders on MNIST: one ladder of five levels, and three orders of inference.

Paper: Sonderby et al. 2016, arXiv:1602.02282, sections 2 and 3: two hidden layers to each level, batch normalisation,
warm-up over 200 of 2000 epochs. Images held out and the decay of batch statistics: ours.
Command: python train.py --config=configs/hvae_mnist.py:lvae --workdir=runs/hvae_mnist
Variants: lvae (top down, merged by precision); deck (all levels from x); bottom_up; the same for 200 epochs: lvae_small
deck_small bottom_up_small; tiny. Cost: lvae about five minutes on an H200, small ones about 20 on two CPU cores.
Expected, dynamic: lvae 81.74 nats by 5000 samples, after fine-tuning with ten samples. No run of ours is recorded yet.
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

EPOCH = 59_600 / 256  # steps


def without_merge(config):
  del config.model.merge


DECK, BOTTOM_UP = ({'system': 'ladder.factorised'}, without_merge), ({'system': 'ladder.bottom_up'}, without_merge)
SMALL = {
  'epochs': 200.0, 'model.warm_up': round(40 * EPOCH), 'eval_every': 4660, 'save_every': 4660, 'picture_every': 0,
  'nll.samples': 1000,
}  # fmt: skip
SMALLEST = {'model.hidden': ((12, 12), (8,), (6,)), 'model.latents': (4, 3, 2), 'model.warm_up': 8}
VARIANTS = {
  'lvae': {},
  'deck': DECK,
  'bottom_up': BOTTOM_UP,
  'lvae_small': SMALL,
  'deck_small': (*DECK, SMALL),
  'bottom_up_small': (*BOTTOM_UP, SMALL),
  'tiny': (SMALLEST, shrink),
  'tiny_deck': (*DECK, SMALLEST, shrink),
  'tiny_bottom_up': (*BOTTOM_UP, SMALLEST, shrink),
}
TINY = ('tiny', 'tiny_deck', 'tiny_bottom_up')  # the variants that tests run


def get_config(variant='lvae'):
  config = defaults()
  config.system = 'ladder.top_down'
  config.data.update({'name': 'mnist', 'preprocess': 'dynamic_binarize', 'valid_size': 400})
  config.model = {
    'hidden': tuple((width, width) for width in (512, 256, 128, 64, 32)), 'latents': (64, 32, 16, 8, 4),
    'activation': 'leaky_relu', 'norm': True, 'variance': 'softplus', 'merge': 'precision', 'likelihood': 'bernoulli',
    'samples': 1, 'bound': 'warm_up', 'warm_up': round(200 * EPOCH),
  }  # fmt: skip
  config.optimizer = {'model': optimizer(learning_rate=1e-3)}
  config.update({'batch_size': 256, 'epochs': 2000.0, 'steps_per_call': 233, 'best': 'neg_elbo_nats'})
  config.update({'log_every': 233, 'eval_every': 23_300, 'save_every': 23_300, 'picture_every': 116_500})
  config.evals = ('mean.metrics', 'likelihood.nll', 'latent.units')
  return with_variant(config, VARIANTS, variant or 'lvae')
