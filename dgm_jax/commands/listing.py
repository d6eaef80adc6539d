"""Lists the experiments: what they are, their papers, what they cost, and what was reached.

Usage: dgm list [WORD ...]

Only experiments whose name, variants or description have all words are listed. With one experiment left, its whole
description is printed.
"""

import re
import sys
from collections.abc import Sequence
from types import ModuleType

from absl import flags
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from dgm_jax import config as experiment
from dgm_jax.config import names
from dgm_jax.errors import UserError
from dgm_jax.runtime import cli

__all__ = ['define_flags', 'described', 'main', 'run']

flags.disclaim_key_flags()  # --help lists them as the flags of the program that calls `run`

# Paragraphs of a config's description, each from its word to the next one's.
HEADS = ('Paper', 'Command', 'Variants', 'Cost', 'Expected', 'Measured')


def define_flags() -> None:
  """Defines the command line, which has no flags."""


def main(argv: list[str]) -> None:
  """Prints the experiments that have all the words of the command line."""
  words = experiment.parse(argv, __doc__)[1:]
  modules = {name: module for name, module in names.experiments().items() if _has(name, module, words)}
  if not modules:
    raise UserError(f'no experiment has {" and ".join(words)}: leave a word out')
  console = Console(soft_wrap=not sys.stdout.isatty(), markup=False, highlight=False)
  if len(modules) == 1:
    ((name, module),) = modules.items()
    console.print(f'{name}: {(module.__doc__ or "").strip()}')
    return
  for name, module in modules.items():
    console.print(Text(name, 'bold').append(' ' + ' '.join(variants(module)), 'not bold'))
    about, paper, cost, reached = described(module.__doc__ or '')
    heads = {'paper': paper, 'cost': cost, 'measured': reached}
    for line in (about, *(f'{head}: {text}' for head, text in heads.items() if text)):
      console.print(Padding(line, (0, 0, 0, 4)))


def variants(module: ModuleType) -> list[str]:
  """Returns the names of an experiment's variants, those for tests left out."""
  return [name for name in getattr(module, 'VARIANTS', ()) if name and not name.startswith('tiny')]


def described(text: str) -> tuple[str, str, str, str]:
  """Returns what an experiment is, its paper, its cost and its figures, from the description of its file.

  A cost or a figure that the description does not state is ''.
  """
  parts = re.split(rf'(?:^|(?<=\s))({"|".join(HEADS)})(?:[,:]| \()', text.strip())
  heads = {head: ' '.join(body.split()) for head, body in zip(parts[1::2], parts[2::2], strict=True)}
  said = lambda head: heads.get(head, '').strip(' :').rstrip('.')
  paper = re.split(r', (?:section|table|appendix|figure|and )|; ', said('Paper').removeprefix('none'))[0]
  cost = '' if said('Cost').startswith(('not timed', 'no full run')) else said('Cost')
  return parts[0].strip().partition('\n')[0], paper, cost, said('Measured')


def _has(name: str, module: ModuleType, words: Sequence[str]) -> bool:
  text = ' '.join([name, *getattr(module, 'VARIANTS', ()), module.__doc__ or '']).lower()
  return all(word.lower() in text for word in words)


def run() -> None:
  """Runs the program."""
  define_flags()
  cli.run(main)
