"""Random settings of the command line: keys of an experiment with values that are right, wrong or hostile."""

import pathlib
import random

from ml_collections import ConfigDict

from dgm_jax.internal.files import import_file

ROOT = pathlib.Path(__file__).parents[2]
NUMBERS = (
  '-1',
  '0',
  '1',
  '2',
  '3',
  '7',
  '13',
  '1.5',
  '-0.0',
  '1e20',
  '1e-40',
  'nan',
  'inf',
  str(2**31),
  str(2**64),
  '',
)
WORDS = ('many', 'None', '', '../x', '/', 'a\x1b[31mb', 'ä', 'x' * 300, "'", '[', '--', 'model', 'True', '0')
TUPLES = (
  '(4',
  '()',
  '(1,)',
  '(0,)',
  '(-1,)',
  '(2, 3)',
  "('a',)",
  '((1,),)',
  '[4]',
  '{1: 2}',
  '5',
  '(1.5,)',
  '(1,None)',
)
# What a user would write, by the last part of the key.
LIKELY = {
  'size': ('5', '7', '9', '12', '27', '100000'), 'name': ('mnst', '/etc', 'folder:/etc', 'npz:/etc/passwd', 'toy:ring'),
  'train': ('train[', 'test', 'train[:10]', 'train[:0]'), 'best': ('nll', 'loss', 'neg_elbo_nats'),
  'batch_size': ('1', '10', '17', '64', '1000000'), 'accumulate': ('2', '3', '5'),
  'system': ('vae', 'flow.glow', 'x.y'),
  'evals': ("('mean.images',)", "('mean',)", "('surgery.surgery',)"), 'preprocess': ('identity', 'dequantize', 'scal'),
  'valid_size': ('1', '1796', '5000'), 'likelihood': ('bernoulli', 'normal', 'categorical'), 'classes': ('3', '1000'),
}  # fmt: skip
FLAGS = ('--workdir=', '--process=-1', '--processes=0', '--heartbeat=1', '--on_nan=x', '--coordinator=nowhere', 'word')


def experiments() -> list[str]:
  """'vae_mnist:tiny' and all others that are made for tests."""
  names = []
  for path in sorted((ROOT / 'configs').glob('[a-z]*.py')):
    names += [f'{path.stem}:{variant}' for variant in getattr(import_file(path), 'TINY', ('tiny',))]
  return names


def leaves(config: ConfigDict, prefix: str = '') -> dict[str, object]:
  """Dotted keys and their values; a dictionary is a value, too."""
  found = {}
  for key, value in config.items():
    found[prefix + key] = value
    if isinstance(value, ConfigDict):
      found |= leaves(value, f'{prefix}{key}.')
  return found


def override(rng: random.Random, keys: dict[str, object]) -> str:
  key = rng.choice([*keys])
  value = keys[key]
  last = key.rpartition('.')[2]
  if rng.random() < 0.03:
    return f'--config.{key}x=1'
  if last in LIKELY and rng.random() < 0.6:
    return f'--config.{key}={rng.choice(LIKELY[last])}'
  kinds = (NUMBERS, WORDS, TUPLES)
  own = kinds[0] if isinstance(value, (bool, int, float)) else kinds[2] if isinstance(value, tuple) else kinds[1]
  return f'--config.{key}={rng.choice(own if rng.random() < 0.7 else rng.choice(kinds))}'


def command(seed: int, names: list[str]) -> list[str]:
  """The words of one command, all but its folder."""
  rng = random.Random(seed)
  name = rng.choice(names)
  stem, _, variant = name.partition(':')
  config = import_file(ROOT / 'configs' / f'{stem}.py').get_config(variant)
  keys = leaves(config)
  model = {key: value for key, value in keys.items() if key.startswith(('model', 'optimizer', 'data'))}
  changes = [override(rng, rng.choice((keys, model))) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
  extra = [rng.choice(FLAGS)] if rng.random() < 0.03 else []
  short = ['--config.steps=2', '--config.steps_per_call=2', '--config.log.tensorboard=False']
  never = [f'--config.{key}_every=0' for key in ('log', 'eval', 'picture', 'save')] if rng.random() < 0.5 else []
  return [f'--config=configs/{stem}.py:{variant}', *short, *never, *changes, *extra]
