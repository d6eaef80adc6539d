"""Objectives of the players of a game: logits or critic values [B] in, losses to be minimised [B] out."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32, Int, Num, PyTree

from dgm_jax import distributions as dist
from dgm_jax.distributions import stable
from dgm_jax.internal import shapes

__all__ = [
  'auxiliary_classifier', 'feature_matching', 'hinge_discriminator', 'hinge_generator', 'historical_averaging',
  'infogan_categorical_information', 'infogan_gaussian_information', 'infogan_mutual_information',
  'least_squares_discriminator', 'least_squares_generator', 'minimax_discriminator', 'minimax_generator',
  'multi_hinge', 'nonsaturating_generator', 'twin_auxiliary_classifier', 'wasserstein_critic', 'wasserstein_generator',
]  # fmt: skip


def minimax_discriminator(
  real: Float[ArrayLike, ' B'],
  fake: Float[ArrayLike, ' B'],
  *,
  real_label: Num[ArrayLike, ''] = 1.0,
  fake_label: Num[ArrayLike, ''] = 0.0,
) -> Float32[Array, ' B']:
  """Computes the cross-entropy of a discriminator in nats, per pair of a real and a generated example.

  At sigmoid(logit) = 1/2 it is 2 ln 2; at the optimum 2 ln 2 - 2 JSD. One-sided smoothing is real_label = 0.9.

  Args:
    real: [B] logits of real examples.
    fake: [B] logits of generated examples.
    real_label: [] target probability of "real" for a real example.
    fake_label: [] target probability of "real" for a generated one.

  Returns:
    [B] nats, float32.

  Raises:
    ValueError: real and fake are not [B] both, or a label is no scalar.

  Reference: Goodfellow et al. 2014, arXiv:1406.2661, equation 1; Salimans et al. 2016, arXiv:1606.03498, section 3.4.
  """
  pattern = 'real[B] fake[B] real_label[] fake_label[]'
  real, fake, real_label, fake_label = shapes.float32(pattern, real, fake, real_label, fake_label)
  return -stable.bernoulli(real_label, real) - stable.bernoulli(fake_label, fake)


def minimax_generator(fake: Float[ArrayLike, ' B']) -> Float32[Array, ' B']:
  """Computes the generator's side of the minimax game in nats, per example: log(1 - sigmoid(logit)).

  Its gradient vanishes if the discriminator is certain; `nonsaturating_generator` has the same fixed point.

  Args:
    fake: [B] logits of generated examples.

  Returns:
    [B] nats, float32.

  Raises:
    ValueError: fake is not [B].

  Reference: Goodfellow et al. 2014, arXiv:1406.2661, equation 1.
  """
  (fake,) = shapes.float32('fake[B]', fake)
  return -stable.softplus(fake)


def nonsaturating_generator(fake: Float[ArrayLike, ' B']) -> Float32[Array, ' B']:
  """Computes -log sigmoid(logit), the cross-entropy against the label "real", in nats, per example.

  Args:
    fake: [B] logits of generated examples.

  Returns:
    [B] nats, float32.

  Raises:
    ValueError: fake is not [B].

  Reference: Goodfellow et al. 2014, arXiv:1406.2661, section 3.
  """
  (fake,) = shapes.float32('fake[B]', fake)
  return stable.softplus(-fake)


def least_squares_discriminator(real: Float[ArrayLike, ' B'], fake: Float[ArrayLike, ' B']) -> Float32[Array, ' B']:
  """Computes half the squared distance of real values from 1 and of generated ones from 0, per pair.

  Args:
    real: [B] critic values of real examples.
    fake: [B] critic values of generated examples.

  Returns:
    [B], float32.

  Raises:
    ValueError: real and fake are not [B] both.

  Reference: Mao et al. 2017, arXiv:1611.04076, equation 9.
  """
  real, fake = shapes.float32('real[B] fake[B]', real, fake)
  return 0.5 * (jnp.square(real - 1) + jnp.square(fake))


def least_squares_generator(fake: Float[ArrayLike, ' B']) -> Float32[Array, ' B']:
  """Computes half the squared distance of generated values from 1, per example.

  Args:
    fake: [B] critic values of generated examples.

  Returns:
    [B], float32.

  Raises:
    ValueError: fake is not [B].

  Reference: Mao et al. 2017, arXiv:1611.04076, equation 9.
  """
  (fake,) = shapes.float32('fake[B]', fake)
  return 0.5 * jnp.square(fake - 1)


def hinge_discriminator(real: Float[ArrayLike, ' B'], fake: Float[ArrayLike, ' B']) -> Float32[Array, ' B']:
  """Computes the hinge loss max(0, 1 - D(x)) + max(0, 1 + D(G(z))), per pair.

  Args:
    real: [B] critic values of real examples.
    fake: [B] critic values of generated examples.

  Returns:
    [B], float32.

  Raises:
    ValueError: real and fake are not [B] both.

  Reference: Miyato et al. 2018, arXiv:1802.05957, equation 16; Brock et al. 2019, arXiv:1809.11096, section 3.
  """
  real, fake = shapes.float32('real[B] fake[B]', real, fake)
  return jnp.maximum(1 - real, 0.0) + jnp.maximum(1 + fake, 0.0)


def hinge_generator(fake: Float[ArrayLike, ' B']) -> Float32[Array, ' B']:
  """Computes the negative critic value of generated examples, per example.

  Args:
    fake: [B] critic values of generated examples.

  Returns:
    [B], float32.

  Raises:
    ValueError: fake is not [B].

  Reference: Miyato et al. 2018, arXiv:1802.05957, equation 17.
  """
  (fake,) = shapes.float32('fake[B]', fake)
  return -fake


def wasserstein_critic(real: Float[ArrayLike, ' B'], fake: Float[ArrayLike, ' B']) -> Float32[Array, ' B']:
  """Computes the critic value of a generated minus that of a real example, per pair.

  Its mean is minus the critic's estimate of the distance.

  Args:
    real: [B] critic values of real examples.
    fake: [B] critic values of generated examples.

  Returns:
    [B], float32.

  Raises:
    ValueError: real and fake are not [B] both.

  Reference: Arjovsky et al. 2017, arXiv:1701.07875, equation 2.
  """
  real, fake = shapes.float32('real[B] fake[B]', real, fake)
  return fake - real


def wasserstein_generator(fake: Float[ArrayLike, ' B']) -> Float32[Array, ' B']:
  """Computes the negative critic value of generated examples, per example.

  Args:
    fake: [B] critic values of generated examples.

  Returns:
    [B], float32.

  Raises:
    ValueError: fake is not [B].

  Reference: Arjovsky et al. 2017, arXiv:1701.07875, algorithm 1.
  """
  (fake,) = shapes.float32('fake[B]', fake)
  return -fake


def feature_matching(
  real_features: Float[ArrayLike, 'N *D'], fake_features: Float[ArrayLike, 'M *D']
) -> Float32[Array, '']:
  """Computes the squared distance of the batch means of a discriminator's features, summed over all axes but the first.

  Args:
    real_features: [N, ...] of real examples.
    fake_features: [M, ...] of generated examples.

  Returns:
    [], float32.

  Raises:
    ValueError: the axes after the first differ, or a batch is empty.

  Reference: Salimans et al. 2016, arXiv:1606.03498, section 3.1.
  """
  pattern = 'real_features[N, ...] fake_features[M, ...]'
  real, fake = shapes.float32(pattern, real_features, fake_features)
  shapes.enough(1, 'example', real_features=real, fake_features=fake)
  return jnp.sum(jnp.square(real.mean(0) - fake.mean(0)))


def historical_averaging(
  params: PyTree[Float[ArrayLike, '...']], average: PyTree[Float[ArrayLike, '...']]
) -> Float32[Array, '']:
  """Computes the squared distance of a player's parameters from their average over time, summed over the tree.

  Args:
    params: tree of arrays.
    average: tree of the same structure and shapes; no gradient passes.

  Returns:
    [], float32.

  Raises:
    ValueError: the structures or shapes differ.

  Reference: Salimans et al. 2016, arXiv:1606.03498, section 3.3.
  """

  def squares(path: Any, now: ArrayLike, then: ArrayLike) -> Array:
    if jnp.shape(now) != jnp.shape(then):
      where = f'average{jax.tree_util.keystr(path)}'
      raise ValueError(f'{where}: got shape {jnp.shape(then)}, expected {jnp.shape(now)}, as params')
    now, then = jnp.asarray(now, jnp.float32), jnp.asarray(then, jnp.float32)
    return jnp.sum(jnp.square(now - jax.lax.stop_gradient(then)))

  if jax.tree.structure(params) != jax.tree.structure(average):
    raise ValueError(
      f'average: got the tree {jax.tree.structure(average)}, expected {jax.tree.structure(params)}, as params'
    )
  return jnp.asarray(sum(jax.tree.leaves(jax.tree_util.tree_map_with_path(squares, params, average))), jnp.float32)


def infogan_mutual_information(
  log_posterior: Float[ArrayLike, ' B'], *, entropy: Num[ArrayLike, '']
) -> Float32[Array, ' B']:
  """Computes a lower bound of the information between codes and images in nats, per example: log Q(c|x) + H(c).

  Args:
    log_posterior: [B] log Q(c|x) of the code that the image was generated from, in nats.
    entropy: [] of the codes' prior, in nats.

  Returns:
    [B] nats, float32; to be maximised by generator and Q alike.

  Raises:
    ValueError: log_posterior is not [B], or entropy is no scalar.

  Reference: Chen et al. 2016, arXiv:1606.03657, equation 5.
  """
  log_posterior, entropy = shapes.float32('log_posterior[B] entropy[]', log_posterior, entropy)
  return log_posterior + entropy


def infogan_categorical_information(
  codes: Int[ArrayLike, ' B'], logits: Float[ArrayLike, 'B K']
) -> Float32[Array, ' B']:
  """Computes a lower bound of the information in a uniform categorical code in nats, per example; at most ln K.

  Args:
    codes: [B] classes in [0, K) that the images were generated from.
    logits: [B, K] of Q(c|x).

  Returns:
    [B] nats, float32; to be maximised.

  Raises:
    ValueError: the batch sizes differ.

  Reference: Chen et al. 2016, arXiv:1606.03657, equation 5.
  """
  sizes = shapes.check('codes[B] logits[B, K]', codes, logits)
  return infogan_mutual_information(-auxiliary_classifier(logits, codes), entropy=math.log(sizes['K']))


def infogan_gaussian_information(
  codes: Float[ArrayLike, 'B D'],
  mean: Float[ArrayLike, 'B D'],
  logvar: Float[ArrayLike, '#B D'],
  *,
  entropy: Num[ArrayLike, ''],
) -> Float32[Array, ' B']:
  """Computes a lower bound of the information in continuous codes with a normal Q in nats, per example.

  It is summed over the codes.

  Args:
    codes: [B, D] that the images were generated from.
    mean: [B, D] of Q(c|x).
    logvar: [B, D] or [1, D] log-variance of Q(c|x); zeros fix the variance at one.
    entropy: [] of all D codes together: D ln 2 for uniforms on [-1, 1].

  Returns:
    [B] nats, float32; to be maximised.

  Raises:
    ValueError: the shapes differ, or entropy is no scalar.

  Reference: Chen et al. 2016, arXiv:1606.03657, section 6 and appendix C.
  """
  shapes.check('codes[B, D] mean[B, D] logvar[N, D]', codes, mean, logvar)
  return infogan_mutual_information(dist.normal_log_prob(codes, mean, logvar), entropy=entropy)


def auxiliary_classifier(logits: Float[ArrayLike, 'B K'], labels: Int[ArrayLike, ' B']) -> Float32[Array, ' B']:
  """Computes the cross-entropy of a classifier in nats, per example.

  Args:
    logits: [B, K].
    labels: [B] classes in [0, K); others give NaN.

  Returns:
    [B] nats, float32.

  Raises:
    ValueError: the batch sizes differ.

  Reference: Odena et al. 2017, arXiv:1610.09585, equation 3.
  """
  shapes.check('logits[B, K] labels[B]', logits, labels)
  return -dist.categorical_log_prob(jnp.asarray(labels)[:, None], jnp.asarray(logits)[:, None, :])


def twin_auxiliary_classifier(
  logits: Float[ArrayLike, 'B K'], twin_logits: Float[ArrayLike, 'B K'], labels: Int[ArrayLike, ' B']
) -> Float32[Array, ' B']:
  """Computes the generator's term of the twin classifiers in nats, per generated example: CE(classifier) - CE(twin).

  The twin is trained on generated examples only, by its own `auxiliary_classifier`. The second term restores the
  diversity within a class that the first alone reduces.

  Args:
    logits: [B, K] of the classifier, which is trained on real examples.
    twin_logits: [B, K] of the twin, which is trained on generated examples.
    labels: [B] classes that the examples were generated for.

  Returns:
    [B] nats, float32.

  Raises:
    ValueError: the shapes differ.

  Reference: Gong et al. 2019, arXiv:1907.02690, equation 6.
  """
  shapes.check('logits[B, K] twin_logits[B, K] labels[B]', logits, twin_logits, labels)
  return auxiliary_classifier(logits, labels) - auxiliary_classifier(twin_logits, labels)


def multi_hinge(
  logits: Float[ArrayLike, 'B K'], labels: Int[ArrayLike, ' B'], *, clamp: bool = True
) -> Float32[Array, ' B']:
  """Computes by how much the logit of the label fails to exceed each logit by one, a mean over all K, per example.

  It is mean_k max(0, 1 - l_y + l_k), the label's own k = y included, which adds 1 / K.

  Args:
    logits: [B, K].
    labels: [B] classes in [0, K); others give NaN.
    clamp: whether what is more than one apart counts as 0. Without it the loss is linear in the logits, as for a
      generator.

  Returns:
    [B], float32.

  Raises:
    ValueError: the batch sizes differ.

  Reference: Gong et al. 2019, arXiv:1907.02690, by its program, TAC-BigGAN/losses.py.
  """
  shapes.check('logits[B, K] labels[B]', logits, labels)
  logits = jnp.asarray(logits, jnp.float32)
  own = stable.take(logits, jnp.asarray(labels))
  return jnp.maximum(1 - own[:, None] + logits, 0 if clamp else -jnp.inf).mean(1)
