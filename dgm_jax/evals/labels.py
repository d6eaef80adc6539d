"""What a label tells a class-conditional model of an image, and what the model says without it."""

import jax.numpy as jnp
from jax.scipy.special import logsumexp

from dgm_jax import losses
from dgm_jax.distributions import stable
from dgm_jax.evals.mean import means, per_example
from dgm_jax.internal.metrics import GIVEN
from dgm_jax.runs.subject import Subject
from dgm_jax.views import needs

__all__ = ['labels']


@needs('log_prob_classes')
def labels(seed: int, subject: Subject) -> dict[str, float]:
  """Measures the NLL given the label, and that of the mixture over labels, in nats, and Bayes' rule's accuracy.

  Without a label the density is sum_y p(y) p(x|y) with the shares p(y) of the training images' labels. Bayes' rule
  classifies the label. For a network of codes (vq.prior) both likelihoods are those of codes.
  """
  view, shares = subject.system.views.log_prob_classes, jnp.asarray(subject.config.data.class_shares)
  name = 'nll_codes_nats' if subject.config.system == 'vq.prior' else 'nll_nats'

  def measure(key, state, batch):
    each = view(key, state, batch['x'])
    conditional, joint = stable.take(each, batch['y']), each + jnp.log(shares)[None]
    without = logsumexp(joint, 1)
    right = (joint.argmax(1) == batch['y']).astype(jnp.float32)
    measured = {
      name + GIVEN: -conditional,
      name: -without,
      'label_gain_nats': conditional - without,
      'label_found': right,
    }
    if name == 'nll_nats':
      pixels = batch['x'][0].size
      measured |= {'bits_per_dim': losses.bits_per_dim(-without, pixels)}
    return measured

  return means(per_example(measure, subject.split, subject.config, subject.mesh)(seed, subject.state))
