"""What `benchmarks/accelerator.py` measures and trains, in order of value, and the rates that it is compared with.

An item is a JSON object: 'name', 'kind' (a function of accelerator_side.py), 'seconds' that it is expected to take on
a GPU, 'side' ('jax' or 'torch'), and what its function takes.
"""

from typing import Any

# Products a second of one device with dense matrices, by a part of its name: (bfloat16, float32 as JAX runs it there).
PEAKS = {
  'B200': (2250e12, 1125e12), 'H200': (989e12, 495e12), 'H100': (989e12, 495e12), 'A100': (312e12, 156e12),
  'L4': (121e12, 60e12), 'TPU v5 lite': (197e12, 197e12), 'TPU v5p': (459e12, 459e12), 'TPU v4': (275e12, 275e12),
}  # fmt: skip
PAIRS = {'dense VAE': 'vae_mnist', 'convolutional GAN': 'dcgan_mnist', 'PixelCNN++': 'pixelcnn_pp'}  # beside PyTorch
NARROW, WIDE = 'bfloat16', 'float32'
SHAPES = {'mnist': (28, 28, 1), 'digits': (8, 8, 1)}  # of synthetic pictures; others have three colours


def speed(config: str, seconds: float, **changes: Any) -> dict:
  """One compilation and one timing of an experiment's training step."""
  told = [f'{name.rpartition(".")[2]}={value}' for name, value in changes.items()]
  return {
    'name': ', '.join([config, *told]), 'kind': 'speed', 'side': 'jax', 'seconds': seconds, 'config': config,
    'changes': changes,
  }  # fmt: skip


def torch(config: str, seconds: float, compiled: bool, dtype: str) -> dict:
  """The same network and step in PyTorch."""
  form = 'torch.compile' if compiled else 'eager'
  return {
    'name': f'PyTorch {form}, {config}, dtype={dtype}', 'kind': 'torch', 'side': 'torch', 'seconds': seconds,
    'config': config, 'compiled': compiled, 'dtype': dtype,
  }  # fmt: skip


def measurements(tiny: bool) -> list[dict]:
  """All measurements; those of PyTorch stand together, since they take a process of their own."""
  rates = {'name': 'rates', 'kind': 'rates', 'side': 'jax', 'seconds': 10, 'size': 64 if tiny else 8192}
  if tiny:
    return [
      rates, speed('vae_mnist:tiny', 5, dtype=WIDE, steps_per_call=2), speed('no_such_experiment', 1),
      torch('vae_mnist:tiny', 5, False, WIDE),
    ]  # fmt: skip
  first = [
    rates,
    speed('vae_mnist', 8, dtype=WIDE, steps_per_call=500), speed('vae_mnist', 8, dtype=WIDE, steps_per_call=1),
    speed('dcgan_mnist', 12, dtype=WIDE, steps_per_call=100),
    speed('dcgan_mnist', 12, dtype=NARROW, steps_per_call=100),
    speed('gated_pixelcnn', 25, dtype=WIDE), speed('gated_pixelcnn', 25, dtype=NARROW),
    speed('pixelcnn_pp', 110, dtype=NARROW),
  ]  # fmt: skip
  beside = [torch(config, seconds, form, dtype) for config, seconds, form, dtype in (
    ('vae_mnist', 6, False, WIDE), ('dcgan_mnist', 6, False, WIDE), ('pixelcnn_pp', 12, False, NARROW),
    ('vae_mnist', 15, True, WIDE), ('dcgan_mnist', 20, True, WIDE), ('pixelcnn_pp', 70, True, NARROW),
    ('dcgan_mnist', 20, True, NARROW),
  )]  # fmt: skip
  return [*first, *beside, *_rest()]


def _rest() -> list[dict]:
  memory = 'model.network.memory'
  return [
    speed('cifar_gan', 35, dtype=NARROW, steps_per_call=10), speed('cifar_gan', 35, dtype=WIDE, steps_per_call=10),
    speed('pixelsnail', 70, dtype=NARROW),
    speed('glow_cifar10', 45, dtype=NARROW, steps_per_call=2, **{memory: 'plain'}),
    speed('glow_cifar10', 45, dtype=WIDE, steps_per_call=2, **{memory: 'reversible'}),
    speed('vqvae2_256', 25, dtype=NARROW, steps_per_call=2, batch_size=128),
    speed('revnet_cifar10:revnet_38', 20, steps_per_call=100, **{memory: 'plain'}),
    speed('disentangle:beta_conv', 12, steps_per_call=100), speed('infogan_mnist', 15, steps_per_call=100),
    speed('dcgan_mnist', 12, dtype=WIDE, steps_per_call=1),
    speed('pixelcnn_pp', 110, dtype=WIDE),
  ]  # fmt: skip


def training(config: str, seconds: float, evaluation: float = 30, **changes: Any) -> dict:
  """One run at its published length, evaluated and recorded.

  Args:
    config: the experiment.
    seconds: expected, of all.
    evaluation: seconds that are kept for the evaluation, if training must end early.
    **changes: of the experiment.
  """
  name = ', '.join([config, *(f'{key.rpartition(".")[2]}={value}' for key, value in changes.items())])
  return {
    'name': name, 'kind': 'train', 'side': 'jax', 'seconds': seconds, 'config': config, 'changes': changes,
    'evaluation': evaluation,
  }  # fmt: skip


def runs(tiny: bool) -> list[dict]:
  """All runs, in order of value. Cadences are multiples of the steps of a call."""
  if tiny:
    return [training('vae_digits:tiny', 5, 2, eval_every=0, picture_every=0)]
  hundred = {'steps_per_call': 100, 'log_every': 100, 'eval_every': 1000, 'save_every': 1000}
  rare = {'eval_every': 10_000, 'save_every': 10_000, 'picture_every': 50_000}
  return [
    training('classifier_mnist', 30, 5, **hundred | {'eval_every': 500, 'save_every': 500}),
    training('infogan_mnist', 60, 15, **hundred | {'picture_every': 1000}),
    training('dcgan_mnist', 60, 15, **hundred | {'picture_every': 1000}),
    training('disentangle:beta_conv', 230, 20, **rare),
    training('improved_gan_mnist:paper', 220, 10, **hundred | rare),
    training('realnvp_mnist', 60, 10, **rare), training('realnvp_mnist:maf', 60, 10, **rare),
    training('nice_mnist', 270, 10, **rare),
    training('vae_mnist', 60, 40),
    training('wgan_gp_25gaussians:paper', 120, 10),
    training('revnet_cifar10:revnet_38', 180, 10, **hundred | {'model.network.memory': 'plain'}),
    training('disentangle:factor', 370, 20, **rare),
    training('gated_pixelcnn', 540, 30, dtype=NARROW),
    training('pixelsnail', 540, 30, dtype=NARROW),
  ]  # fmt: skip
