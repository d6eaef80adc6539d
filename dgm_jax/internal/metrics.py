"""Names of metrics that say what a figure is of."""

import re

__all__ = ['GIVEN', 'named', 'once']

GIVEN = '_given_label'  # ends the metrics of a network that was told the label
TOLD = re.compile(r'nll_nats|nll_codes_nats|bits_per_dim|bits_per_code_.*')  # the metrics that this makes others


def named(name: str, system: str, conditional: bool) -> str:
  """The name under which a system measures what used to be called `name` whatever it was of, and today's of itself.

  Nats of codes are not nats of images, and a network that is told the label says less of an image than its likelihood.
  """
  name = 'nll_codes_nats' if system == 'vq.prior' and name == 'nll_nats' else name
  return name + GIVEN if conditional and TOLD.fullmatch(name) and not name.endswith(GIVEN) else name


def once(name: str) -> str:
  """The name under which runs from before `named` saved a metric."""
  return name.removesuffix(GIVEN).replace('nll_codes_nats', 'nll_nats')
