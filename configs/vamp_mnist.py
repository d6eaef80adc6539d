"""VampPrior on MNIST: a variational autoencoder whose prior is the mixture of the posteriors of learned pseudo-inputs.

Paper: Tomczak & Welling 2018, arXiv:1705.07120, sections 3 and 5, one layer of 40 latents, and its released program
jmtomczak/vae_vampprior. Differences from the program: docs/results.md.
Command: python train.py --config=configs/vamp_mnist.py --workdir=runs/vamp_mnist
Variants: (none); standard (the prior N(0, I), without warm-up); small (40 epochs, 5 of warm-up); tiny.
Cost: small half an hour on two CPU cores.
Expected: no full run is recorded yet.
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

EPOCH = 500  # steps, of 50,000 images
NETWORKS = {
  'hidden': ((300, 300),), 'latents': (40,), 'channels': (), 'activation': 'gated', 'likelihood': 'bernoulli',
  'samples': 1,
}  # fmt: skip
SMALL = {
  'model.warmup': 5 * EPOCH, 'optimizer.model.learning_rate': 1e-3, 'optimizer.model.schedule': 'cosine',
  'epochs': 40.0, 'steps_per_call': 100, 'save_every': 2500, 'picture_every': 10_000,
}  # fmt: skip
TINY_NETWORKS = {
  'model.hidden': ((16,),), 'model.latents': (4,), 'model.pseudo_inputs': 6, 'model.warmup': 20
}  # fmt: skip
VARIANTS = {
  '': {},
  'standard': {'system': 'vae.vae', 'model': NETWORKS},
  'small': SMALL,
  'tiny': (TINY_NETWORKS, shrink),
}


def get_config(variant=''):
  config = defaults()
  config.system = 'vae.vamp'
  config.data.update({'name': 'mnist', 'preprocess': 'dynamic_binarize', 'valid_size': 10_000})
  config.model = NETWORKS | {'pseudo_inputs': 500, 'warmup': 100 * EPOCH}
  config.optimizer = {'model': optimizer(learning_rate=5e-4)}
  config.update({'batch_size': 100, 'epochs': 2000.0, 'steps_per_call': 500, 'best': 'neg_elbo_nats'})
  config.update({'log_every': 500, 'eval_every': 2500, 'save_every': 10_000, 'picture_every': 50_000})
  config.evals = ('mean.metrics', 'likelihood.nll', 'latent.units', 'surgery.surgery')
  return with_variant(config, VARIANTS, variant)
