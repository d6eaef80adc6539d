"""Rows of autoencoders whose decoder draws pixels one after another."""

from papers.row import Row, adam

RESNET = {'name': 'resnet', 'channels': (16, 32, 32), 'hidden': 450}
LOCAL = {'name': 'local_pixelcnn', 'features': 12, 'layers': 6, 'pointwise': 4, 'tied': True}
BINARY = {'likelihood': 'bernoulli', 'levels': 256, 'components': 10}
CHEN = 'Chen et al. 2017, arXiv:1611.02731'
ADAMAX = {'model': adam(2e-3, name='adamax')}
VLAE = BINARY | {
  'latents': (64,), 'average': 0.998, 'encoder': RESNET, 'map': RESNET | {'features': 4}, 'decoder': 'pixels',
  'network': LOCAL, 'prior': 'flow', 'prior_flow': 'af',
  'prior_network': {'layers': 4, 'hidden': (640, 640, 640), 'unroll': 4}, 'bound': 'free_bits', 'free_bits': 7.84,
  'groups': 1,
}  # fmt: skip


def vlae(system='pixel_latents.vlae', counts=None, model=None, **changes):
  source = f'{CHEN}, appendix A; batch and epochs are ours'
  data, run = ('mnist', 'dynamic_binarize', 400), {'batch_size': 100, 'epochs': 400.0}
  return Row(source, system, data, model or VLAE | changes, ADAMAX, run, counts)


MAPS = {'name': 'maps', 'widths': (48, 96, 96), 'blocks': (2, 2, 3), 'dense': False}


def colour(wide, high, **network):
  window = {'name': 'window_pixelcnn', 'wide': wide, 'high': high, 'features': 64, 'blocks': 4, 'grey': False}
  model = {
    'latents': (1024,), 'likelihood': 'logistic_mixture', 'levels': 256, 'components': 10, 'average': 0.998,
    'encoder': MAPS, 'map': MAPS | {'features': 64}, 'decoder': 'pixels', 'network': window | network, 'prior': 'flow',
    'prior_flow': 'map', 'prior_network': {'size': (8, 8, 16), 'layers': 6, 'hidden': (128, 128)},
    'bound': 'free_bits', 'free_bits': 30.72, 'groups': 1,
  }  # fmt: skip
  source = f'{CHEN}, appendix B; batch, epochs and free bits are ours'
  data, run = ('cifar10', 'scale_symmetric', 400), {'batch_size': 64, 'epochs': 500.0}
  return Row(source, 'pixel_latents.vlae', data, model, ADAMAX, run)


PAIRS = {'name': 'pairs', 'channels': (32, 64, 64)}
GATED = {'name': 'gated_pixelcnn', 'gated_head': 2}


def pixel_vae(counts=None, mapping=None, decoder='pixels', **network):
  settings = GATED | {'features': 16, 'head': 16, 'first': 7, 'size': 5, 'layers': 12} | network
  model = BINARY | {
    'latents': (16,), 'average': 0.0, 'encoder': PAIRS, 'map': mapping or {'name': 'none'}, 'decoder': decoder,
    'network': settings, 'prior': 'normal', 'bound': 'warm_up', 'warm_up': 10_000,
  }  # fmt: skip
  return Row(
    'Gulrajani et al. 2017, arXiv:1611.05013, section 4.1, and mnist_pixelvae_train.py', 'pixel_latents.pixel_vae',
    ('mnist', 'dynamic_binarize', 10_000), model, {'model': adam(clip_value=1.0)},
    {'batch_size': 100, 'steps': 200_000}, counts,
  )  # fmt: skip


LADDER = {'widths': (64, 128, 256), 'blocks': (1, 1, 2)}
TWO_LEVELS = {
  'latents': (4096, 512), 'likelihood': 'logistic_mixture', 'levels': 256, 'components': 10, 'average': 0.0,
  'encoder': LADDER | {'name': 'ladder', 'top_width': 512}, 'map': LADDER | {'name': 'maps', 'features': 64},
  'decoder': 'pixels', 'network': GATED | {'features': 64, 'head': 64, 'first': 5, 'size': 3, 'layers': 4},
  'latent_size': (8, 8), 'latent_map': {'name': 'dense', 'hidden': (512,), 'features': 64},
  'latent_network': GATED | {'features': 128, 'head': 128, 'first': 5, 'size': 3, 'layers': 4},
  'bound': 'warm_up', 'warm_up': 10_000,
}  # fmt: skip
TABLE = {
  'vlae_mnist:': vlae(counts={'encoder': 367_684, 'decoder': 343_226, 'prior': 3_612_416}),
  'vlae_mnist:gaussian_prior': vlae(prior='normal'),
  'vlae_mnist:factorised': vlae(decoder='factorised'),
  'vlae_mnist:unconditional': vlae(
    'autoregressive.local_pixelcnn',
    model=BINARY | {'average': 0.998, 'network': {key: value for key, value in LOCAL.items() if key != 'name'}},
  ),
  'vlae_cifar10:': colour(7, 4),
  'vlae_cifar10:5x3': colour(5, 3),
  'vlae_cifar10:4x2': colour(4, 2),
  'vlae_cifar10:7x4_grey': colour(7, 4, grey=True),
  'pixelvae_mnist:': pixel_vae({'encoder': 217_824, 'decoder': 144_705}),
  'pixelvae_mnist:upsample': pixel_vae(mapping=PAIRS | {'features': 32}),
  'pixelvae_mnist:conv_vae': pixel_vae(mapping=PAIRS, decoder='factorised'),
  'pixelvae_mnist:layers_0': pixel_vae(mapping=PAIRS, decoder='factorised'),
  'pixelvae_mnist:layers_1': pixel_vae(mapping=PAIRS | {'features': 32}, first=5, layers=0),
  'pixelvae_mnist:layers_10': pixel_vae(mapping=PAIRS | {'features': 32}, first=5, layers=9),
  'pixelvae_cifar10:': Row(
    'Gulrajani et al. 2017, arXiv:1611.05013, section 3.2, and pixelvae.py; widths, blocks and likelihood are ours',
    'pixel_latents.pixel_vae', ('cifar10', 'scale_symmetric', 5000), TWO_LEVELS, {'model': adam()},
    {'batch_size': 64, 'steps': 200_000},
  ),
}  # fmt: skip
