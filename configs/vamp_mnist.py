"""VampPrior on MNIST: a variational autoencoder whose prior is the mixture of the posteriors of learned pseudo-inputs.

Paper: Tomczak & Welling 2018, arXiv:1705.07120, sections 3 and 5, one layer of 40 latents, and its released program
jmtomczak/vae_vampprior: gated layers of 300, 500 pseudo-inputs that start at N(0.05, 0.01^2) and are cut off at 0 and
1, Adam at 5e-4, batches of 100, warm-up over 100 epochs, at most 2000.
Command: python train.py --config=configs/vamp_mnist.py --workdir=runs/vamp_mnist
Variants: standard (the prior N(0, I), without warm-up), small (40 epochs, 5 of warm-up: a quarter of an hour on two CPU
cores), tiny.
Differs from the program: pixels are binarized afresh; gradients are not divided by their length before Adam;
log-variances are not cut off at -6 and 2; weights start within Glorot's bounds and not from He's normal; the
divergence's weight rises every step and not every epoch; training does not end 50 epochs after the best one, which
`config.best` keeps.
Expected: no full run is recorded yet.
"""

from dgm_jax.config import defaults, optimizer, shrink

VARIANTS = ('', 'standard', 'small', 'tiny')
EPOCH = 500  # steps, of 50,000 images


def get_config(variant=''):
  if variant not in VARIANTS:
    raise ValueError(f"vamp_mnist has no variant '{variant}'; it has {' '.join(VARIANTS[1:])}")
  config = defaults()
  config.system = 'vae.vae' if variant == 'standard' else 'vae.vamp'
  config.data.update({'name': 'mnist', 'preprocess': 'dynamic_binarize', 'valid_size': 10_000})
  config.model = {
    'hidden': ((300, 300),), 'latents': (40,), 'channels': (), 'activation': 'gated', 'likelihood': 'bernoulli',
    'samples': 1,
  }  # fmt: skip
  if variant != 'standard':
    config.model.update({'pseudo_inputs': 500, 'warmup': 100 * EPOCH})
  config.optimizer = {'model': optimizer(learning_rate=5e-4)}
  config.update({'batch_size': 100, 'epochs': 2000.0, 'steps_per_call': 500, 'best': 'neg_elbo_nats'})
  config.update({'log_every': 500, 'eval_every': 2500, 'save_every': 10_000, 'picture_every': 50_000})
  config.evals = ('mean.metrics', 'likelihood.nll', 'latent.units', 'surgery.surgery')
  if variant == 'small':
    config.model.warmup = 5 * EPOCH
    config.optimizer.model.update({'learning_rate': 1e-3, 'schedule': 'cosine'})
    config.update({'epochs': 40.0, 'steps_per_call': 100, 'save_every': 2500, 'picture_every': 10_000})
  if variant == 'tiny':
    config.model.update({'hidden': ((16,),), 'latents': (4,), 'pseudo_inputs': 6, 'warmup': 20})
    shrink(config)
  return config
