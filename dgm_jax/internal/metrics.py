"""Names of metrics that say what a figure is of."""

import re

__all__ = ['GIVEN', 'named', 'once']

GIVEN = '_given_label'  # ends the metrics of a network that was told the label
TOLD = re.compile(r'nll_nats|nll_codes_nats|bits_per_dim|bits_per_code_.*')  # the metrics that this makes others


def named(name: str, system: str, conditional: bool) -> str:
  """Returns the present name of a metric of `system` from its old name `name`. A present name stays.

  The old name did not depend on the quantity that the system measures.

  Nats of codes are not nats of images, and a likelihood given the label is not the likelihood of an image.
  """
  name = 'nll_codes_nats' if system == 'vq.prior' and name == 'nll_nats' else name
  return name + GIVEN if conditional and TOLD.fullmatch(name) and not name.endswith(GIVEN) else name


def once(name: str) -> str:
  """Returns the name of a metric in runs from before `named`."""
  return name.removesuffix(GIVEN).replace('nll_codes_nats', 'nll_nats')
