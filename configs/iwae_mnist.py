"""Importance weighted autoencoders on dynamically binarized MNIST: every row of the deck's table.

Paper: Burda, Grosse, Salakhutdinov 2016, arXiv:1509.00519, table 1 and appendix C.
Command: python train.py --config=configs/iwae_mnist.py:1x5 --workdir=runs/iwae_1x5
Variants: 1x1 1x5 1x50 2x1 2x5 2x50, stochastic layers x samples; tiny.
Expected after all 3280 epochs, test NLL (L = 5000) in nats / active units: 1x1 86.76/19, 1x5 85.54/22, 1x50 84.78/25,
2x1 85.33/16+5, 2x5 83.89/21+5, 2x50 82.90/26+7. Stage i has 3^i epochs at 1e-3 x 10^(-i/7); --config.budget=5 stops
after five stages (121 epochs). Its program starts Adam's second moment at one, which makes the first thousand steps
those of momentum, and has b1 = 0.99; here both are as in the paper, from zero and 0.9. Measured so far (results/): 1x1
95.6 after 13 epochs, 92.3 after 40 (L = 1000, 21 units each) and 89.9 (L = 5000, 19 units) after 121; after 13, 1x5
94.3 and 1x50 93.7 (L = 1000).
"""

from dgm_jax.config import defaults, optimizer, shrink, with_variant

STAGES = 8
ONE = {'model.hidden': ((200, 200),), 'model.latents': (50,)}
TWO = {'model.hidden': ((200, 200), (100, 100)), 'model.latents': (100, 50)}
VARIANTS = {
  '1x1': ONE | {'model.samples': 1},
  '1x5': ONE | {'model.samples': 5},
  '1x50': ONE | {'model.samples': 50},
  '2x1': TWO | {'model.samples': 1},
  '2x5': TWO | {'model.samples': 5},
  '2x50': TWO | {'model.samples': 50},
  'tiny': ({'model.hidden': ((16,), (12,)), 'model.latents': (6, 4), 'model.samples': 3}, shrink),
}


def get_config(variant='1x5'):
  config = defaults()
  config.system = 'vae.iwae'
  config.data.update({'name': 'mnist', 'preprocess': 'dynamic_binarize', 'valid_size': 400})
  config.model = {
    'hidden': (), 'latents': (), 'channels': (), 'activation': 'tanh', 'likelihood': 'bernoulli', 'samples': 5
  }  # fmt: skip
  config.batch_size = 20
  config.stage_epochs = tuple(3**i for i in range(STAGES))
  rates = tuple(1e-3 * 10 ** (-i / 7) for i in range(STAGES))
  # The paper adds the batch's gradients up and takes eps = 1e-4; our mean is a twentieth of that sum, and Adam's
  # step is the same for gradients and eps of one scale.
  adam = optimizer(learning_rate=1e-3, eps=1e-4 / 20, schedule='stages', stage_rates=rates)
  config.optimizer = {'model': adam}
  # 2980 steps are an epoch of the 59,600 training images.
  config.update({'steps_per_call': 596, 'log_every': 2980, 'eval_every': 2980, 'save_every': 2980 * 4})
  config.update({'picture_every': 2980 * 40, 'eval_batch_size': 200, 'init_examples': 59_600})
  config.evals = ('mean.metrics', 'likelihood.nll', 'latent.units')
  return with_variant(config, VARIANTS, variant or '1x5')
