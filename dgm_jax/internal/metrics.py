"""Names of metrics that say what a figure is of."""

import re

__all__ = ['GIVEN', 'MORE', 'better', 'named', 'once']

GIVEN = '_given_label'  # ends the metrics of a network that was told the label
TOLD = re.compile(r'nll_nats|nll_codes_nats|bits_per_dim|bits_per_code_.*')  # the metrics that this makes others

# Figures of which more is better, and those of which less is.
MORE = re.compile(
  r'unsupervised_accuracy|inception_score|modes|high_quality|active_units|beta_vae|factor_vae|mig$'
  r'|parzen_log_likelihood|label_found|label_gain'
)
LESS = re.compile(
  r'nll_|neg_elbo|neg_bound|bits_per_dim|bits_per_code|error_percent|mse($|/)|squared_error|fid|kid|wasserstein'
  r'|kl_modes_nats|distance_in_deviations|cross_entropy|loss$'
)


def better(name: str) -> int:
  """Returns 1 if more is better of a figure of this name, -1 if less is, and 0 if neither can be said.

  Figures of noise, of real examples and their deviations are measured for comparison: of these it is 0.
  """
  if re.search(r'_(chance|ideal|noise|real|deviation|standard_error\w*)($|/)', name):
    return 0
  return 1 if MORE.match(name) else -1 if LESS.match(name) else 0


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
