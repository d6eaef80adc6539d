"""Rows of densities: baselines, mixtures, autoencoders, autoregressive networks, flows."""

from papers.row import Row, adam

DIGITS, BINARY, RING = (
  ('digits', 'dynamic_binarize', 100),
  ('mnist', 'dynamic_binarize', 400),
  ('toy:ring', 'identity', 0),
)
PIXELS = {'levels': 256, 'components': 10, 'classes': 10}
FLOW = {
  'noise': 'normal', 'alpha': 0.0, 'dequantization': 'uniform', 'dequantizer_width': 32, 'momentum': 0.99, 'l2': 0.0,
  'temperature': 1.0,
}  # fmt: skip
RING_FLOW, RING_RUN = FLOW | {'dequantizer_width': 8}, {'batch_size': 512, 'steps': 3000}
RING_PLAYER = {'model': adam(2e-3, schedule='cosine')}
VAE = {'activation': 'tanh', 'channels': (), 'likelihood': 'bernoulli', 'samples': 1}
VAMP = 'Tomczak & Welling 2018, arXiv:1705.07120, section 5, and jmtomczak/vae_vampprior'
VAMP_MODEL = VAE | {'hidden': ((300, 300),), 'latents': (40,), 'activation': 'gated'}
VAMP_DATA, VAMP_RUN = ('mnist', 'dynamic_binarize', 10_000), {'batch_size': 100, 'epochs': 2000.0}
CHARACTERS = ('mat:chardata.mat', 'dynamic_binarize', 1345)
IWAE_RATES = tuple(1e-3 * 10 ** (-i / 7) for i in range(8))
IWAE_RUN = {'batch_size': 20, 'stage_epochs': (1, 3, 9, 27, 81, 243, 729, 2187)}
IWAE_PLAYER = {'model': adam(eps=1e-4 / 20, schedule='stages', stage_rates=IWAE_RATES)}


def pixels(source, network, model, player, data, run, counts=None):
  return Row(source, f'autoregressive.{network}', data, PIXELS | model, {'model': player}, run, counts)


OORD = 'van den Oord et al. 2016, arXiv:1601.06759, table 1 and section 5'
PIXELCNN = {'hidden': 16, 'blocks': 15, 'head': 32, 'first': 7, 'size': 3}
PIXELRNN = {'layer': 'diagonal_bilstm', 'layers': 7, 'hidden': 16, 'head': 32, 'first': 7, 'size': 3}
LEVELS, SHORT = ('cifar10', 'scale_symmetric', 400), {'batch_size': 16, 'epochs': 457.0}
GATED = {'features': 128, 'layers': 10, 'head': 32, 'first': 7, 'size': 5}
SNAIL = {'features': 64, 'blocks': 8, 'resnets': 2, 'keys': 4, 'values': 32, 'chunk': 1024, 'dropout': 0.0}
SNAIL |= {'nonlinearity': 'elu'}
SNAIL_CIFAR = SNAIL | {'features': 256, 'blocks': 12, 'resnets': 4, 'keys': 16, 'values': 128, 'dropout': 0.5}
LONG = {'batch_size': 128, 'epochs': 457.0}
COMMUNITY = 'width, depth, rate, batch and epochs of EugenHotaj/pytorch-generative'
SMALL_SNAIL = {'b1': 0.95, 'b2': 0.9995, 'eps': 1e-6, 'schedule': 'exponential'}


def baseline(kind, preprocess, model):
  source = 'van den Oord et al. 2016, arXiv:1601.06759, CIFAR-10 table'
  return Row(source, f'baseline.{kind}', ('cifar10', preprocess, 0), model, {}, {'batch_size': 500, 'epochs': 1.0})


def collapse(kind, decoder, **remedy):
  source = 'Lucas et al. 2019, arXiv:1911.02469; sizes, rates and lengths are ours'
  model, player = {'latents': 8, 'decoder': decoder} | remedy, {'model': adam(5e-3, schedule='cosine')}
  return Row(
    source, f'collapse.{kind}', ('digits', 'dequantize', 100), model, player, {'batch_size': 96, 'steps': 6000}
  )


def ring(source, system, network):
  model = RING_FLOW | {'network': network}
  return Row(source + '; sizes, rates and lengths are ours', system, RING, model, RING_PLAYER, RING_RUN)


TABLE = {
  'baselines:uniform': baseline('uniform', 'scale', {'levels': 256}),
  'baselines:histogram': baseline('histogram', 'scale', {'levels': 256}),
  'baselines:position_histogram': baseline('position_histogram', 'scale', {'levels': 256}),
  'baselines:gaussian': baseline('gaussian', 'dequantize', {'ridge': 0.0}),
  'collapse:diagonal': collapse('elbo', 'diagonal'),
  'collapse:full': collapse('elbo', 'full'),
  'collapse:annealing': collapse('annealing', 'full', warmup=2000),
  'collapse:free_bits': collapse('free_bits', 'full', floor=0.5),
  'collapse:capacity': collapse('capacity', 'full', capacity=4.0, gamma=10.0),
  'deep_gmm_cifar10:': Row(
    'van den Oord & Schrauwen 2014; maps, sizes, rates and lengths are ours', 'latent.deep_gmm',
    ('cifar10', 'dequantize', 5000), {'components': (4, 4), 'start': 'whitened'},
    {'model': adam(1e-4, schedule='cosine')}, {'batch_size': 100, 'steps': 45_000}, {'mixture': 75_522_056},
  ),
  'deep_gmm:': Row(
    'van den Oord & Schrauwen 2014; sizes, rates and lengths are ours',
    'latent.deep_gmm', ('digits', 'dequantize', 100), {'components': (4, 4)},
    {'model': adam(3e-3, schedule='cosine')}, {'batch_size': 96, 'steps': 6000},
  ),
  'flow_toy:realnvp_ring': ring(
    'Dinh et al. 2017, arXiv:1605.08803, section 3', 'flow.realnvp_dense',
    {'hidden': (64, 64), 'couplings': 8, 'elementwise': 'affine', 'unroll': 4},
  ),
  'flow_toy:spline_ring': ring(
    'Durkan et al. 2019, arXiv:1906.04032', 'flow.realnvp_dense',
    {'hidden': (64, 64), 'couplings': 4, 'elementwise': 'spline', 'unroll': 2},
  ),
  'flow_toy:maf_ring': ring(
    'Papamakarios et al. 2017, arXiv:1705.07057', 'flow.maf', {'hidden': (64, 64), 'layers': 5, 'unroll': 5}
  ),
  'flow_toy:iaf_ring': ring(
    'Kingma et al. 2016, arXiv:1606.04934', 'flow.iaf', {'hidden': (64, 64), 'layers': 4, 'unroll': 4}
  ),
  'flow_toy:planar_ring': ring('Rezende & Mohamed 2015, arXiv:1505.05770', 'flow.planar', {'layers': 32}),
  'gated_pixelcnn:': pixels(
    f'van den Oord et al. 2016, arXiv:1606.05328 (5x5 kernels); {COMMUNITY}', 'gated_pixelcnn',
    {'likelihood': 'bernoulli', 'average': 0.0, 'network': GATED}, adam(), BINARY, LONG,
  ),
  'gated_pixelcnn:cifar10': pixels(
    'van den Oord et al. 2016, arXiv:1606.05328, section 3.1 (ImageNet); head, rate and epochs are ours',
    'gated_pixelcnn',
    {'likelihood': 'categorical', 'average': 0.0, 'network': GATED | {'features': 384, 'layers': 20, 'head': 1024}},
    adam(), LEVELS, LONG,
  ),
  'glow_cifar10:': Row(
    'Kingma & Dhariwal 2018, arXiv:1807.03039, section 5 and table 2, and openai/glow; images held out are ours',
    'flow.glow', ('cifar10', 'dequantize', 5000),
    FLOW | {
      'network': {
        'width': 512, 'steps': 32, 'levels': 3, 'memory': 'reversible', 'unroll': 1, 'edge': 'padding'
      },
      'average': 1 - 1 / 88
    },
    {'model': {'name': 'adamax', 'b2': 1 - 1 / 88, 'warmup_steps': 880}}, {'batch_size': 512, 'epochs': 1000.0},
    {'flow': 44_624_436},
  ),
  'gmm:': Row(
    'Dempster et al. 1977; sizes are ours', 'latent.gmm', ('digits', 'static_dequantize', 101),
    {'components': 10, 'covariance': 'full', 'power': 0.0, 'regularization': 1e-3}, {},
    {'batch_size': 1296, 'steps': 60},
  ),
  'iwae_mnist:1x5': Row(
    'Burda et al. 2016, arXiv:1509.00519, section 5 and appendix C', 'vae.iwae', BINARY,
    VAE | {'hidden': ((200, 200),), 'latents': (50,), 'samples': 5}, IWAE_PLAYER, IWAE_RUN,
  ),
  'iwae_mnist:2x50': Row(
    'Burda et al. 2016, arXiv:1509.00519, section 5 and appendix C', 'vae.iwae', BINARY,
    VAE | {'hidden': ((200, 200), (100, 100)), 'latents': (100, 50), 'samples': 50}, IWAE_PLAYER, IWAE_RUN,
  ),
  'iwae_omniglot:1x5': Row(
    'Burda et al. 2016, arXiv:1509.00519, section 5 and appendix C, and its program (images held out)', 'vae.iwae',
    CHARACTERS, VAE | {'hidden': ((200, 200),), 'latents': (50,), 'samples': 5}, IWAE_PLAYER, IWAE_RUN,
    {'encoder': 217_300, 'decoder': 207_984},
  ),
  'iwae_omniglot:2x1': Row(
    'Burda et al. 2016, arXiv:1509.00519, section 5 and appendix C, and its program (images held out)', 'vae.iwae',
    CHARACTERS, VAE | {'hidden': ((200, 200), (100, 100)), 'latents': (100, 50), 'samples': 1}, IWAE_PLAYER, IWAE_RUN,
  ),
  'nice_mnist:': Row(
    'Dinh et al. 2014, arXiv:1410.8516, section 5.1; batch of laurent-dinh/nice', 'flow.nice',
    ('mnist', 'dequantize', 10_000),
    FLOW | {
      'network': {'hidden': (1000,) * 5, 'couplings': 4, 'start': 'zeros', 'memory': 'plain'}, 'noise': 'logistic'
    },
    {'model': adam(b2=0.99, eps=1e-4)}, {'batch_size': 200, 'epochs': 1500.0},
  ),
  'nice_cifar10:': Row(
    'Dinh et al. 2014, arXiv:1410.8516, table 1 and section 5.1; batch and images held out of laurent-dinh/nice',
    'flow.nice', ('cifar10', 'dequantize', 10_000),
    FLOW | {
      'network': {
        'hidden': (2000,) * 4, 'couplings': 4, 'start': 'zeros', 'memory': 'plain', 'whitening': True
      },
      'noise': 'logistic',
    },
    {'model': adam(b2=0.99, eps=1e-4)}, {'batch_size': 200, 'epochs': 1500.0}, {'flow': 82_060_544},
  ),
  'pixelcnn:': pixels(
    f'{OORD}; rate and epochs of EugenHotaj/pytorch-generative, h and head too', 'pixelcnn',
    {'likelihood': 'bernoulli', 'average': 0.0, 'network': PIXELCNN}, adam(), BINARY, SHORT,
  ),
  'pixelcnn:cifar10': pixels(
    f'{OORD}; rate and epochs are ours', 'pixelcnn',
    {'likelihood': 'categorical', 'average': 0.0, 'network': PIXELCNN | {'hidden': 128, 'head': 1024}}, adam(), LEVELS,
    SHORT,
  ),
  'pixelcnn_pp:': pixels(
    'Salimans et al. 2017, arXiv:1701.05517, section 3, and openai/pixel-cnn; images held out are ours', 'pixelcnn_pp',
    {
      'likelihood': 'logistic_mixture', 'average': 0.9995,
      'network': {'features': 192, 'blocks': 5, 'levels': 3, 'dropout': 0.5, 'nonlinearity': 'concat_elu'},
    },
    adam(b1=0.95, b2=0.9995, schedule='exponential', decay=0.999995), ('cifar10', 'scale_symmetric', 400),
    {'batch_size': 128, 'epochs': 5000.0},
  ),
  'pixelrnn:': pixels(
    f'{OORD}; head, rate and epochs are ours', 'pixelrnn',
    {'likelihood': 'bernoulli', 'average': 0.0, 'network': PIXELRNN}, adam(), BINARY, SHORT,
  ),
  'pixelrnn:cifar10': pixels(
    f'{OORD}; rate and epochs are ours', 'pixelrnn',
    {'likelihood': 'categorical', 'average': 0.0, 'network': PIXELRNN | {'layers': 12, 'hidden': 128, 'head': 1024}},
    adam(), LEVELS, SHORT,
  ),
  'pixelrnn:cifar10_row': pixels(
    f'{OORD}; rate and epochs are ours', 'pixelrnn',
    {
      'likelihood': 'categorical', 'average': 0.0,
      'network': PIXELRNN | {'layers': 12, 'hidden': 128, 'head': 1024, 'layer': 'row_lstm'},
    },
    adam(), LEVELS, SHORT,
  ),
  'pixelsnail:': pixels(
    f'{COMMUNITY}; Adam and average of neocxi/pixelsnail-public', 'pixelsnail',
    {'likelihood': 'bernoulli', 'average': 0.9995, 'network': SNAIL}, SMALL_SNAIL | {'decay': 0.999977}, BINARY, LONG,
    {'model': 1_153_034},
  ),
  'pixelsnail:cifar10': pixels(
    'Chen et al. 2018, arXiv:1712.09763, and neocxi/pixelsnail-public; batch and epochs are ours', 'pixelsnail',
    {'likelihood': 'logistic_mixture', 'average': 0.9995, 'network': SNAIL_CIFAR}, SMALL_SNAIL | {'decay': 0.999998},
    ('cifar10', 'scale_symmetric', 400), LONG,
  ),
  'realnvp_cifar10:': Row(
    'Dinh et al. 2017, arXiv:1605.08803, section 4.1, and tensorflow/models; images held out and epochs are ours',
    'flow.realnvp', ('cifar10', 'dequantize', 5000),
    FLOW | {
      'network': {
        'width': 64, 'blocks': 8, 'scales': 2, 'geometry': 'grid', 'channel_factor': 1.0, 'memory': 'reversible'
      },
      'alpha': 0.05,
      'momentum': 0.9, 'l2': 5e-5,
    },
    {'model': adam(clip_norm=100.0)}, {'batch_size': 64, 'epochs': 500.0},
  ),
  'realnvp_mnist:': Row(
    'Papamakarios et al. 2017, arXiv:1705.07057, section 4 and appendix; epochs are ours', 'flow.realnvp_dense',
    ('mnist', 'dequantize', 10_000),
    FLOW | {
      'network': {
        'hidden': (1024, 1024), 'couplings': 5, 'activation': 'relu', 'elementwise': 'affine', 'memory': 'plain'
      },
      'alpha': 1e-6,
    },
    {'model': adam(1e-4)}, {'batch_size': 100, 'epochs': 100.0}, {'flow': 11_279_733},
  ),
  'realnvp_mnist:maf': Row(
    'Papamakarios et al. 2017, arXiv:1705.07057, section 4 and appendix; epochs are ours', 'flow.maf',
    ('mnist', 'dequantize', 10_000),
    FLOW | {
      'network': {'hidden': (1024, 1024), 'layers': 5, 'activation': 'relu', 'unroll': 1}, 'alpha': 1e-6,
      'momentum': 1 - 1 / 500,
    },
    {'model': adam(1e-4)}, {'batch_size': 100, 'epochs': 100.0},
  ),
  'vamp_mnist:': Row(
    VAMP, 'vae.vamp', VAMP_DATA, VAMP_MODEL | {'pseudo_inputs': 500, 'warmup': 50_000}, {'model': adam(5e-4)}, VAMP_RUN,
    {'encoder': 675_680, 'decoder': 441_184, 'pseudo_inputs': 392_000},
  ),
  'vamp_mnist:standard': Row(
    VAMP + '; no warm-up is ours', 'vae.vae', VAMP_DATA, VAMP_MODEL, {'model': adam(5e-4)}, VAMP_RUN,
    {'encoder': 675_680, 'decoder': 441_184},
  ),
  'vae_digits:': Row(
    'Kingma & Welling 2014, arXiv:1312.6114, section 5 (500 tanh units); rates and length are ours', 'vae.vae', DIGITS,
    VAE | {'hidden': ((500,),), 'latents': (16,)}, {'model': adam(schedule='cosine')},
    {'batch_size': 96, 'steps': 12_000}, {'encoder': 48_532, 'decoder': 40_564},
  ),
  'vae_estimators:': Row(
    'Mnih & Gregor 2014, arXiv:1402.0030; sizes, rates and length are ours', 'estimators.reparametrized', DIGITS,
    {
      'posterior': 'normal', 'likelihood': 'bernoulli', 'hidden': (200,), 'latents': 8, 'samples': 4,
      'activation': 'tanh',
    },
    {'model': adam()}, {'batch_size': 96, 'steps': 6000},
  ),
  'vae_mnist:': Row(
    'Kingma & Welling 2014, arXiv:1312.6114; networks of Burda et al. 2016, rates and length are ours', 'vae.vae',
    ('mnist', 'dynamic_binarize', 10_000), VAE | {'hidden': ((200, 200),), 'latents': (50,)},
    {'model': adam(schedule='cosine', warmup_steps=500)}, {'batch_size': 100, 'epochs': 100.0},
  ),
  'vae_mnist:conv': Row(
    'Kingma & Welling 2014, arXiv:1312.6114; networks, rates and length are ours', 'vae.vae',
    ('mnist', 'dynamic_binarize', 10_000), VAE | {'hidden': ((256,),), 'latents': (32,), 'channels': (32, 64, 64)},
    {'model': adam(schedule='cosine', warmup_steps=500)}, {'batch_size': 100, 'epochs': 100.0},
  ),
}  # fmt: skip
