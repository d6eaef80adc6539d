"""RealNVP with dense couplings on MNIST, in logit space as the table of MAF has it.

Paper: Papamakarios et al. 2017, arXiv:1705.07057, table 2, logit space (here nll_logit_nats, positive): RealNVP of 5
couplings -1323.2 nats, of 10 -1370.7; MAF of 5 layers -1300.5; a normal -1366.9. Their networks on MNIST have two
hidden layers of 1024 (settings of the released program).
Command: python train.py --config=configs/realnvp_mnist.py --workdir=runs/realnvp_mnist
Variants: (none) 5 couplings; fast: 8 of 512 hidden units, for a CPU; maf: masked autoregressive; tiny.
Otherwise than there, a coupling has one network of rectifiers with the scale g tanh(.), where theirs has one of tanh
for the scale and one of rectifiers for the shift; no batch normalisation follows it, and one actnorm stands in front.
Of both: weights do not decay (theirs by 1e-6), and training does not stop 30 epochs after the best validation NLL but
goes on to its end, and the best checkpoint is kept: measure it by --checkpoint=best. The statistics of maf's batch
normalisation are means over the last 500 batches, as many as the training set fills, where theirs are of all of it.
Expected: results/ has where `fast` was after 2,000 of its then 5,400 steps, 42 minutes on two busy CPU cores; it was
trained on 54,000 images where it now has 50,000, as in the paper.
"""

from dgm_jax.config import defaults, optimizer, shrink


def get_config(variant=''):
  if variant not in ('', 'fast', 'maf', 'tiny'):
    raise ValueError(f"realnvp_mnist has no variant '{variant}'; it has fast maf tiny")
  config = defaults()
  config.system = 'flow.maf' if variant == 'maf' else 'flow.realnvp_dense'
  config.data.update({'name': 'mnist', 'preprocess': 'dequantize', 'valid_size': 10_000})
  network = {'hidden': (1024, 1024), 'couplings': 5, 'activation': 'relu', 'elementwise': 'affine', 'memory': 'plain'}
  if variant == 'maf':
    network = {'hidden': (1024, 1024), 'layers': 5, 'activation': 'relu', 'unroll': 1}
  config.model = {
    'network': network, 'noise': 'normal', 'alpha': 1e-6, 'dequantization': 'uniform', 'dequantizer_width': 32,
    'momentum': 0.99, 'l2': 0.0, 'temperature': 1.0,
  }  # fmt: skip
  if variant == 'maf':
    config.model.momentum = 1 - 1 / 500
  config.optimizer = {'model': optimizer(learning_rate=1e-4)}
  config.update({'batch_size': 100, 'epochs': 100.0, 'steps_per_call': 100, 'best': 'nll_nats'})
  config.update({'log_every': 100, 'eval_every': 500, 'save_every': 500, 'picture_every': 1000})
  if variant == 'fast':
    network.update({'hidden': (512, 512), 'couplings': 8, 'unroll': 4})
    config.model.network = network
    config.optimizer = {'model': optimizer(learning_rate=1e-3, schedule='cosine', warmup_steps=200, clip_norm=100.0)}
    config.update({'batch_size': 200, 'epochs': 20.0})
  if variant == 'tiny':
    shrink(config)
    config.model.network.update({'hidden': (16,), 'couplings': 2, 'memory': 'reversible'})
    config.model.update({'alpha': 0.05, 'dequantization': 'variational', 'dequantizer_width': 4})
  return config
