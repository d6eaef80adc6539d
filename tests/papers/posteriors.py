"""Rows of autoencoders with a flow in the posterior or in the prior."""

from papers.row import Row, adam

DYNAMIC, STATIC = ('mnist', 'dynamic_binarize', 10_000), ('mnist', 'static_binarize', 10_000)
RESNET = {
  'network': 'resnet', 'hidden': ((450,),), 'latents': (32,), 'channels': (16, 32, 32), 'activation': 'elu',
  'likelihood': 'bernoulli', 'samples': 1, 'bound': 'elbo', 'average': 0.999,
}  # fmt: skip
KINGMA = (
  'Kingma et al. 2016, arXiv:1606.04934, section 6.1 and appendix B; batch, length and size of the context are ours'
)
ADAMAX, RUN = {'model': adam(2e-3, name='adamax')}, {'batch_size': 100, 'epochs': 400.0}


def iaf(layers, width, encoder):
  flow = {'layers': layers, 'hidden': (width, width), 'activation': 'elu', 'context': 450}
  model = RESNET | {'posterior': 'iaf', 'flow': flow, 'prior': 'normal'}
  counts = {'encoder': encoder, 'decoder': 326_166}
  return Row(KINGMA, 'flow_posteriors.iaf_vae', DYNAMIC, model, ADAMAX, RUN, counts)


def af(encoder, prior, **network):
  source = 'Chen et al. 2017, arXiv:1611.02731, section 4.2 and appendix A; batch and length are ours'
  model = RESNET | {'posterior': 'diagonal', 'prior': 'flow', 'prior_flow': 'af', 'prior_network': network}
  counts = {'encoder': encoder, 'decoder': 326_166, 'prior': prior}
  return Row(source, 'flow_posteriors.af_vae', STATIC, model, ADAMAX, RUN, counts)


DIAGONAL = 338_756
TABLE = {
  'af_vae_mnist:': af(
    DIAGONAL, 30_996_992, layers=8, hidden=(1920, 1920), activation='elu', elementwise='gated'
  ),
  'af_vae_mnist:mean_only': af(DIAGONAL, 3_448_448, layers=4, hidden=(640, 640, 640), elementwise='additive'),
  'iaf_vae_mnist:2x320': iaf(2, 320, 1_097_354),
  'iaf_vae_mnist:2x1920': iaf(2, 1920, 10_018_954),
  'iaf_vae_mnist:8x1920': iaf(8, 1920, 38_450_698),
  'nf_vae_mnist:': Row(
    'Rezende & Mohamed 2015, arXiv:1505.05770, section 6.2; decay of RMSprop and images held out are ours',
    'flow_posteriors.nf_vae', STATIC,
    {
      'network': 'dense', 'hidden': ((400,),), 'latents': (40,), 'channels': (), 'activation': 'maxout',
      'likelihood': 'bernoulli', 'samples': 1, 'posterior': 'planar', 'flow': {'layers': 80}, 'prior': 'normal',
      'bound': 'warm_up', 'warm_up': 10_000, 'warm_up_from': 0.01, 'warm_up_of': 'joint',
    },
    {'model': adam(1e-5, b2=0.9, name='rmsprop', momentum=0.9)}, {'batch_size': 100, 'steps': 500_000},
    {'encoder': 3_886_560, 'decoder': 379_984},
  ),
}  # fmt: skip
