"""Hierarchical variational autoencoders on MNIST: ladders of dense levels in three orders of inference, and of maps.

Paper: Sonderby et al. 2016, arXiv:1602.02282, sections 2 and 3 (images held out, decay of batch statistics: ours); of
maps, the program addtt/ladder-vae-pytorch (3 and 6 halvings, length, free bits of the batch's mean: ours).
Command: python train.py --config=configs/hvae_mnist.py:lvae --workdir=runs/hvae_mnist
Variants: lvae (top down, merged by precision); deck (all levels from x); bottom_up; the same for 100 epochs: lvae_small
deck_small bottom_up_small; conv3 conv6 conv12, maps of so many levels; tiny. Cost: small, 26 minutes on a busy core.
Expected, NLL in nats: lvae 81.74 (dynamic, 5000 samples, fine-tuned); conv3 79.24, conv6 78.52, conv12 78.30 (1000
samples, static: another binarization than --config.data.preprocess=static_binarize). Measured, by 1000 samples:
lvae_small 84.46 (bound 89.24), deck_small 85.24 (91.67), bottom_up_small 84.69 (90.09).
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

EPOCH = 59_600 / 256  # steps


def without_merge(config):
  del config.model.merge


DECK, BOTTOM_UP = ({'system': 'ladder.factorised'}, without_merge), ({'system': 'ladder.bottom_up'}, without_merge)
SMALL = {
  'epochs': 100.0, 'model.warm_up': round(40 * EPOCH), 'eval_every': 4660, 'save_every': 4660, 'picture_every': 0,
  'nll.samples': 1000,
}  # fmt: skip


def maps(down, free_bits):
  """Returns the ladder of maps with these halvings below each level, from the data up."""

  def change(config):
    network = {'name': 'gated', 'down': down, 'latents': 32, 'features': 64, 'blocks': 4, 'dropout': 0.2}
    config.model = {
      'network': network, 'likelihood': 'bernoulli', 'samples': 1, 'bound': 'free_bits', 'free_bits': free_bits,
      'groups': 1,
    }  # fmt: skip
    config.data.preprocess = 'static_binarize'
    config.optimizer = {'model': optimizer(name='adamax', learning_rate=3e-4)}
    config.update({'batch_size': 64, 'epochs': 1000.0, 'steps_per_call': 100, 'log_every': 1000, 'eval_every': 10_000})
    config.update({'save_every': 10_000, 'picture_every': 50_000, 'init_examples': 256})
    config.nll.update({'samples': 1000, 'rows': 500})

  return change


def without_loops(config):
  config.steps_per_call = 1  # XLA's convolutions on a CPU are some twenty times slower inside a loop


SMALLEST_MAPS = {
  'model.network': {'name': 'gated', 'down': (0, 1), 'latents': 2, 'features': 6, 'blocks': 1, 'dropout': 0.2},
  'optimizer.model.learning_rate': 5e-4,
}  # fmt: skip
SMALLEST = {'model.hidden': ((12, 12), (8,), (6,)), 'model.latents': (4, 3, 2), 'model.warm_up': 8}
VARIANTS = {
  'lvae': {},
  'deck': DECK,
  'bottom_up': BOTTOM_UP,
  'lvae_small': SMALL,
  'deck_small': (*DECK, SMALL),
  'bottom_up_small': (*BOTTOM_UP, SMALL),
  'conv3': maps((1, 1, 1), 0.5),
  'conv6': maps((0, 1, 0, 1, 0, 1), 0.5),
  'conv12': maps((0, 0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0), 1.0),
  'tiny': (SMALLEST, shrink),
  'tiny_deck': (*DECK, SMALLEST, shrink),
  'tiny_bottom_up': (*BOTTOM_UP, SMALLEST, shrink),
  'tiny_conv': (maps((0, 1), 0.5), SMALLEST_MAPS, shrink, without_loops),
}
TINY = ('tiny', 'tiny_deck', 'tiny_bottom_up', 'tiny_conv')  # the variants that tests run


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
