"""What a label tells a class-conditional model of an image."""

import math

import jax.numpy as jnp
from jax.scipy.special import logsumexp

from dgm_jax.distributions import stable
from dgm_jax.evals.mean import Subject, means, per_example


def labels(seed: int, subject: Subject) -> dict[str, float]:
  """The NLL given the label, the one without it, in nats, and how often Bayes' rule finds the label.

  Without a label the density is the mean over labels, each as likely: no image gains more than ln(classes) by its own.
  """
  view = subject.system.views['log_prob_classes']

  def measure(key, state, batch):
    each = view(key, state, batch['x'])
    given = stable.chosen(each, batch['y'])
    without = logsumexp(each, 1) - math.log(each.shape[1])
    found = (each.argmax(1) == batch['y']).astype(jnp.float32)
    return {
      'nll_given_label_nats': -given,
      'nll_without_label_nats': -without,
      'label_gain_nats': given - without,
      'label_found': found,
    }

  return means(per_example(measure, subject.split, subject.config, subject.mesh)(seed, subject.state))
