"""What every function of the losses and distributions keeps: gradients, jit, vmap, float32, clear shape errors."""

import inspect
import math
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from dgm_jax import distributions as dist
from dgm_jax import losses
from dgm_jax.distributions.boltzmann import Machine

RANDOM = np.random.default_rng(0)
KEY = jax.random.key(0)


def real(*shape):
  return jnp.asarray(RANDOM.normal(size=shape), jnp.float32)


BITS = jnp.asarray([[0, 1, 1], [1, 0, 1]])
CLASSES = jnp.asarray([[0, 3, 1], [2, 2, 0]])
CODES = jnp.asarray([0, 2, 1, 2])
PIXELS = jnp.asarray([[0, 7, 255], [127, 128, 254]]) / 127.5 - 1
TRIL = jnp.asarray([[1.0, 0.0], [0.5, 2.0]])
SLOPES = real(3, 2)


def named(function, *names):
  """The function with its last arguments, which have names only, given by position."""
  return lambda *args: function(*args[: -len(names)], **dict(zip(names, args[-len(names) :], strict=True)))


def critic(x):
  return jnp.sum(jnp.tanh(x @ SLOPES) ** 2, -1)


def image(w):
  return jnp.tanh(w @ SLOPES).reshape(-1, 1, 1, 2)


def log_weight(z):
  return -jnp.sum(jnp.square(z - 0.3), -1)


def same_path(z):
  # Without the surrogate's gradient, which is not that of its value.
  return losses.doubly_reparametrized_surrogate(log_weight, z)


def mixture_log_prob(logits, means, log_scales, coefficients):
  mixture = dist.LogisticMixture(logits, means, log_scales, coefficients)
  return dist.logistic_mixture_log_prob(PIXELS, mixture)


def mixture_sample(logits, means, log_scales, coefficients):
  mixture = dist.LogisticMixture(logits, means, log_scales, coefficients)
  return dist.logistic_mixture_sample(KEY, mixture)


def bits_divergence(logits, left, right, weights):
  return losses.boltzmann_divergence(logits, BITS, Machine(left, right, weights), BITS, log_z=1.5)


def overlapping(logits, expected, left, right, weights):
  return losses.overlapping_divergence(logits, expected, Machine(left, right, weights), BITS, log_z=1.5)


PAIR = (real(4), real(4))
TWO = (real(2, 3), real(2, 3))
MIXTURE = (real(2, 4), real(2, 3, 4), real(2, 3, 4) - 1, real(2, 3, 4))
NORMALS = (real(4), real(4, 3), real(4, 3))
SCHEDULE = losses.diffusion_schedule(6, name='cosine')
STEPS = jnp.asarray([1, 2, 6, 4])
FLIPS = jnp.asarray([[0, 1, 1], [1, 0, 1], [1, 1, 0], [0, 0, 1]])
CLOUD = tuple(real(4, 3) for _ in range(4))

# name -> (function of its floating arguments, those arguments)
DISTRIBUTIONS = {
  'bernoulli_entropy': (dist.bernoulli_entropy, (real(2, 3),)),
  'bernoulli_log_prob': (lambda logits: dist.bernoulli_log_prob(BITS, logits), (real(2, 3),)),
  'bernoulli_sample': (lambda logits: dist.bernoulli_sample(KEY, logits), (real(2, 3),)),
  'categorical_entropy': (dist.categorical_entropy, (real(2, 4),)),
  'categorical_kl': (dist.categorical_kl, (real(2, 4), real(2, 4))),
  'categorical_log_prob': (lambda logits: dist.categorical_log_prob(CLASSES, logits), (real(2, 3, 4),)),
  'categorical_sample': (lambda logits: dist.categorical_sample(KEY, logits), (real(2, 4),)),
  'discretized_logistic_log_prob': (lambda m, s: dist.discretized_logistic_log_prob(PIXELS, m, s - 1), TWO),
  'discretized_logistic_sample': (lambda m, s: dist.discretized_logistic_sample(KEY, m, s), TWO),
  'discretized_normal_log_prob': (lambda m, s: dist.discretized_normal_log_prob(PIXELS, m, s - 1), TWO),
  'gaussian_kl': (dist.gaussian_kl, TWO + TWO[::-1]),
  'gaussian_kl_per_dim': (dist.gaussian_kl_per_dim, TWO + TWO[::-1]),
  'gaussian_kl_standard': (dist.gaussian_kl_standard, TWO),
  'gaussian_kl_standard_per_dim': (dist.gaussian_kl_standard_per_dim, TWO),
  'gumbel_softmax_log_prob': (
    lambda x, logits: dist.gumbel_softmax_log_prob(x, logits, 0.7),
    (real(2, 4), real(2, 4)),
  ),
  'gumbel_softmax_sample': (lambda logits: dist.gumbel_softmax_sample(KEY, logits, 0.7), (real(2, 4),)),
  'logistic_entropy': (dist.logistic_entropy, (real(2, 3),)),
  'logistic_log_prob': (dist.logistic_log_prob, (real(2, 3), *TWO)),
  'logistic_mixture_log_prob': (mixture_log_prob, MIXTURE),
  'logistic_mixture_sample': (mixture_sample, MIXTURE),
  'logistic_mixture_split': (dist.logistic_mixture_split, (real(2, 20),)),
  'logistic_sample': (lambda m, s: dist.logistic_sample(KEY, m, s), TWO),
  'multivariate_normal_entropy': (dist.multivariate_normal_entropy, (TRIL,)),
  'multivariate_normal_log_prob': (dist.multivariate_normal_log_prob, (real(3, 2), real(3, 2), TRIL)),
  'multivariate_normal_sample': (lambda m, t: dist.multivariate_normal_sample(KEY, m, t), (real(3, 2), TRIL)),
  'normal_entropy': (dist.normal_entropy, (real(2, 3),)),
  'normal_log_prob': (dist.normal_log_prob, (real(2, 3), *TWO)),
  'normal_mixture_log_prob': (dist.normal_mixture_log_prob, (real(2, 3), *NORMALS)),
  'normal_mixture_sample': (lambda *p: dist.normal_mixture_sample(KEY, *p, 5), NORMALS),
  'normal_sample': (lambda m, v: dist.normal_sample(KEY, m, v), TWO),
  'standard_normal_log_prob': (dist.standard_normal_log_prob, (real(2, 3),)),
}
LOSSES = {
  'active_units': (losses.active_units, (real(5, 3),)),
  'aggregate_covariance': (losses.aggregate_covariance, (real(5, 3), real(5, 3))),
  'auxiliary_classifier': (lambda logits: losses.auxiliary_classifier(logits, CODES), (real(4, 3),)),
  'beta_elbo': (named(losses.beta_elbo, 'beta'), (*PAIR, real())),
  'binomial_diffusion': (lambda x: losses.binomial_diffusion(x, STEPS, SCHEDULE), CLOUD[:1]),
  'binomial_divergence': (
    lambda logits: losses.binomial_divergence(FLIPS, 1 - FLIPS, STEPS, logits, SCHEDULE),
    CLOUD[:1],
  ),
  'binomial_flip': (lambda x: losses.binomial_flip(jnp.square(x), FLIPS, STEPS, SCHEDULE), CLOUD[:1]),
  'binomial_prior_divergence': (
    lambda x: x[:, 0] * losses.binomial_prior_divergence(FLIPS, SCHEDULE),
    CLOUD[:1],
  ),
  'bits_per_dim': (lambda nats: losses.bits_per_dim(nats, 12), (real(4),)),
  'boltzmann_divergence': (bits_divergence, (real(2, 3), real(1), real(2), real(1, 2))),
  'capacity_elbo': (
    named(losses.capacity_elbo, 'capacity', 'gamma'),
    (real(4), jnp.asarray([1.0, 2, 4, 5]), jnp.asarray(3.0), jnp.asarray(7.0)),
  ),
  'change_of_variables': (losses.change_of_variables, PAIR),
  'clip_parameters': (
    lambda w: losses.clip_parameters({'w': w}, bound=0.5)['w'].astype(jnp.float32),
    (jnp.arange(4.0),),
  ),
  'codebook_ema': (
    lambda counts, sums, z: losses.codebook_ema(jnp.exp(counts), sums, z, CODES, decay=0.9),
    (real(3), real(3, 2), real(4, 2)),
  ),
  'codebook_loss': (lambda z, book: losses.codebook_loss(z, book, CODES), (real(4, 2), real(3, 2))),
  'codebook_vectors': (lambda counts, sums: losses.codebook_vectors(jnp.exp(counts), sums), (real(3), real(3, 2))),
  'commitment_loss': (lambda z, book: losses.commitment_loss(z, book, CODES), (real(4, 2), real(3, 2))),
  'covariance_of_means': (losses.covariance_of_means, (real(5, 3),)),
  'dequantize': (lambda x: losses.dequantize(KEY, x), (jnp.asarray([3.0, 250.0]),)),
  'diffusion': (lambda x, e: losses.diffusion(x, e, STEPS, SCHEDULE), CLOUD[:2]),
  'diffusion_divergence': (
    lambda x_0, x_t, m, v: losses.diffusion_divergence(x_0, x_t, STEPS, m, v, SCHEDULE),
    CLOUD,
  ),
  'diffusion_posterior': (lambda x_0, x_t: losses.diffusion_posterior(x_0, x_t, STEPS, SCHEDULE), CLOUD[:2]),
  'diffusion_prior_divergence': (lambda x: losses.diffusion_prior_divergence(x, SCHEDULE), CLOUD[:1]),
  'diffusion_schedule': (lambda x: x * losses.diffusion_schedule(3).beta.astype('f4'), (real(4),)),
  'dip_penalty': (named(losses.dip_penalty, 'off_diagonal', 'diagonal'), (real(3, 3), real(), real())),
  'doubly_reparametrized_surrogate': (same_path, (real(4, 2, 3),)),
  'elbo': (losses.elbo, PAIR),
  'elbo_from_energy': (losses.elbo_from_energy, PAIR),
  'elbo_from_evidence': (losses.elbo_from_evidence, PAIR),
  'elbo_surgery': (lambda m, v: losses.elbo_surgery(m, v, KEY, 10), (real(5, 3), real(5, 3))),
  'estimator_variance': (
    lambda w: losses.estimator_variance(lambda key: w * jax.random.normal(key, (3,)), KEY, 10),
    (real(3),),
  ),
  'feature_matching': (losses.feature_matching, (real(4, 2, 3), real(5, 2, 3))),
  'free_bits': (lambda kl: losses.free_bits(kl, floor=0.5), (jnp.asarray([[0.1, 3.0], [0.2, 4.0]]),)),
  'gaussian_kernel': (named(losses.gaussian_kernel, 'bandwidth'), (real(4, 3), real(5, 3), jnp.asarray(1.5))),
  'gradient_penalty': (lambda x, y: losses.gradient_penalty(critic, x, y, KEY), (real(4, 3), real(4, 3))),
  'hierarchical_elbo': (lambda x, a, b: losses.hierarchical_elbo(x, (a, b)), (*PAIR, real(4))),
  'hinge_discriminator': (losses.hinge_discriminator, PAIR),
  'hinge_generator': (losses.hinge_generator, PAIR[:1]),
  'historical_averaging': (
    lambda a, b: losses.historical_averaging({'a': a, 'b': b}, {'a': a * 0, 'b': b * 0 + 1}),
    (real(2), real(3, 2)),
  ),
  'importance_weighted_bound': (losses.importance_weighted_bound, (real(5, 2),)),
  'infogan_categorical_information': (
    lambda logits: losses.infogan_categorical_information(CODES, logits),
    (real(4, 3),),
  ),
  'infogan_gaussian_information': (
    named(losses.infogan_gaussian_information, 'entropy'),
    (real(4, 2), real(4, 2), real(1, 2), real()),
  ),
  'infogan_mutual_information': (named(losses.infogan_mutual_information, 'entropy'), (real(4), real())),
  'least_squares_discriminator': (losses.least_squares_discriminator, PAIR),
  'least_squares_generator': (losses.least_squares_generator, PAIR[:1]),
  'leave_one_out_baseline': (losses.leave_one_out_baseline, (real(3, 2),)),
  'logit_transform': (losses.logit_transform, (jnp.asarray([[0.1, 0.9], [0.4, 0.6]]),)),
  'logit_transform_inverse': (losses.logit_transform_inverse, (real(2, 3),)),
  'minibatch_total_correlation': (
    lambda z, m, v: losses.minibatch_total_correlation(z, m, v, dataset_size=50),
    (real(4, 2), real(4, 2), real(4, 2)),
  ),
  'minibatch_weights': (lambda x: x + losses.minibatch_weights(3, 10), (real(3, 3),)),
  'minimax_discriminator': (
    named(losses.minimax_discriminator, 'real_label', 'fake_label'),
    (*PAIR, jnp.asarray(0.9), jnp.asarray(0.1)),
  ),
  'minimax_generator': (losses.minimax_generator, PAIR[:1]),
  'mmd': (losses.mmd, (real(4, 3), real(5, 3))),
  'nonsaturating_generator': (losses.nonsaturating_generator, PAIR[:1]),
  'orthogonal_regularization': (lambda w: losses.orthogonal_regularization({'w': w, 'b': w[0]}), (real(4, 3),)),
  'overlapping_divergence': (overlapping, (*TWO, real(1), real(2), real(1, 2))),
  'path_length': (lambda w: losses.path_length(image, w, KEY), (real(4, 3),)),
  'permute_latents': (lambda z: losses.permute_latents(KEY, z).astype(jnp.float32), (real(4, 3),)),
  'perplexity': (lambda x: x * losses.perplexity(CODES, 3), (real(),)),
  'polynomial_kernel': (losses.polynomial_kernel, (real(4, 3), real(5, 3))),
  'r1_penalty': (lambda x: losses.r1_penalty(critic, x), (real(4, 3),)),
  'score_function_surrogate': (losses.score_function_surrogate, (*PAIR, real(4))),
  'soft_free_bits': (named(losses.soft_free_bits, 'floor'), (jnp.asarray(0.4), jnp.asarray(3.0), jnp.asarray(2.0))),
  'sticking_the_landing': (
    lambda z, m, v: losses.sticking_the_landing(dist.normal_log_prob, z, m, v),
    (real(2, 3), *TWO),
  ),
  'stratified_weights': (lambda x: x + losses.stratified_weights(3, 10), (real(3, 3),)),
  'strided_schedule': (lambda x: x * losses.strided_schedule(SCHEDULE, 2).beta.astype('f4'), (real(4),)),
  'total_correlation': (losses.total_correlation, PAIR[:1]),
  'total_correlation_discriminator': (losses.total_correlation_discriminator, PAIR),
  'multi_hinge': (lambda logits: losses.multi_hinge(logits, CODES), (real(4, 3),)),
  'twin_auxiliary_classifier': (lambda a, b: losses.twin_auxiliary_classifier(a, b, CODES), (real(4, 3), real(4, 3))),
  'vector_quantize': (losses.vector_quantize, (real(4, 2), real(3, 2))),
  'vimco_surrogate': (losses.vimco_surrogate, (real(3, 2), real(3, 2))),
  'wasserstein_critic': (losses.wasserstein_critic, PAIR),
  'wasserstein_generator': (losses.wasserstein_generator, PAIR[:1]),
}
CASES = DISTRIBUTIONS | LOSSES

# A gradient that is by intent not the derivative of the value; each has a test of its own, of the same name.
OWN_GRADIENT = {
  'boltzmann_divergence',
  'codebook_ema',
  'codebook_loss',
  'commitment_loss',
  'doubly_reparametrized_surrogate',
  'historical_averaging',
  'overlapping_divergence',
  'score_function_surrogate',
  'sticking_the_landing',
  'vector_quantize',
  'vimco_surrogate',
}
# Draws and counts, which pass no gradient.
NO_GRADIENT = {
  'active_units',
  'bernoulli_sample',
  'categorical_sample',
  'discretized_logistic_sample',
  'logistic_mixture_sample',
}

# name -> (call with one wrong argument, what the message must say: argument, got, expected)
WRONG_DISTRIBUTIONS = {
  'bernoulli_entropy': (lambda: dist.bernoulli_entropy(real()), 'logits', '()', '[..., D]'),
  'bernoulli_log_prob': (lambda: dist.bernoulli_log_prob(BITS, real(2, 4)), 'logits', '(2, 4)', '[2, 3]'),
  'categorical_entropy': (lambda: dist.categorical_entropy(real()), 'logits', '()', '[..., D]'),
  'categorical_kl': (lambda: dist.categorical_kl(real(2, 4), real(2, 3)), 'logits_p', '(2, 3)', '[2, 4]'),
  'categorical_log_prob': (lambda: dist.categorical_log_prob(CLASSES, real(2, 4)), 'logits', '(2, 4)', '[..., D, K]'),
  'categorical_sample': (lambda: dist.categorical_sample(KEY, real()), 'logits', '()', '[..., D]'),
  'discretized_logistic_log_prob': (
    lambda: dist.discretized_logistic_log_prob(PIXELS, PIXELS, real(3)),
    'log_scale',
    '(3,)',
    '[2, 3]',
  ),
  'discretized_logistic_sample': (
    lambda: dist.discretized_logistic_sample(KEY, real(2, 3), real(2, 4)),
    'log_scale',
    '(2, 4)',
    '[2, 3]',
  ),
  'discretized_normal_log_prob': (
    lambda: dist.discretized_normal_log_prob(PIXELS, PIXELS, real(3)),
    'logvar',
    '(3,)',
    '[2, 3]',
  ),
  'gaussian_kl': (lambda: dist.gaussian_kl(*TWO, real(2, 2), real(2, 3)), 'mean_p', '(2, 2)', '[2, 3]'),
  'gaussian_kl_per_dim': (
    lambda: dist.gaussian_kl_per_dim(real(2, 3), real(4, 3), *TWO),
    'logvar_q',
    '(4, 3)',
    '[2, 3]',
  ),
  'gaussian_kl_standard': (lambda: dist.gaussian_kl_standard(real(2, 3), real(2)), 'logvar', '(2,)', '[2, 3]'),
  'gaussian_kl_standard_per_dim': (
    lambda: dist.gaussian_kl_standard_per_dim(real(2, 3), real(2)),
    'logvar',
    '(2,)',
    '[2, 3]',
  ),
  'gumbel_softmax_log_prob': (
    lambda: dist.gumbel_softmax_log_prob(real(2, 4), real(2, 3), 1.0),
    'logits',
    '(2, 3)',
    '[..., K] with K=4',
  ),
  'gumbel_softmax_sample': (lambda: dist.gumbel_softmax_sample(KEY, *TWO), 'temperature', '(2, 3)', '[]'),
  'logistic_entropy': (lambda: dist.logistic_entropy(real()), 'log_scale', '()', '[..., D]'),
  'logistic_log_prob': (lambda: dist.logistic_log_prob(*TWO, real(2, 4)), 'log_scale', '(2, 4)', '[2, 3]'),
  'logistic_mixture_log_prob': (
    lambda: mixture_log_prob(real(2, 4), real(2, 3, 4), real(2, 3, 4), real(2, 1, 4)),
    'coefficients',
    '(2, 1, 4)',
    '[..., 3, K] with K=4',
  ),
  'logistic_mixture_sample': (
    lambda: mixture_sample(real(2, 4), real(2, 3, 4), real(2, 3, 5), real(2, 3, 4)),
    'log_scales',
    '(2, 3, 5)',
    'K=4',
  ),
  'logistic_mixture_split': (lambda: dist.logistic_mixture_split(real(2, 25)), 'parameters', '(2, 25)', '10'),
  'logistic_sample': (lambda: dist.logistic_sample(KEY, real(2, 3), real(2, 4)), 'log_scale', '(2, 4)', '[2, 3]'),
  'multivariate_normal_entropy': (lambda: dist.multivariate_normal_entropy(real(2, 3)), 'scale_tril', '(2, 3)', 'D=2'),
  'multivariate_normal_log_prob': (
    lambda: dist.multivariate_normal_log_prob(real(4, 2), real(4, 2), real(4, 2, 2)),
    'scale_tril',
    '(4, 2, 2)',
    '[D, D] with D=2',
  ),
  'multivariate_normal_sample': (
    lambda: dist.multivariate_normal_sample(KEY, real(4, 2), real(3, 3)),
    'scale_tril',
    '(3, 3)',
    '[D, D] with D=2',
  ),
  'normal_entropy': (lambda: dist.normal_entropy(real()), 'logvar', '()', '[..., D]'),
  'normal_log_prob': (lambda: dist.normal_log_prob(*TWO, real(2, 5)), 'logvar', '(2, 5)', '[2, 3]'),
  'normal_mixture_log_prob': (
    lambda: dist.normal_mixture_log_prob(real(2, 3), real(4), real(5, 3), real(4, 3)),
    'means',
    '(5, 3)',
    '[K, D] with D=3, K=4',
  ),
  'normal_mixture_sample': (
    lambda: dist.normal_mixture_sample(KEY, real(4), real(4, 3), real(4, 2), 5),
    'logvars',
    '(4, 2)',
    'D=3',
  ),
  'normal_sample': (lambda: dist.normal_sample(KEY, real(2, 3), real(2, 5)), 'logvar', '(2, 5)', '[2, 3]'),
  'standard_normal_log_prob': (lambda: dist.standard_normal_log_prob(real()), 'x', '()', '[..., D]'),
}
WRONG_LOSSES = {
  'active_units': (lambda: losses.active_units(real(0, 3)), 'posterior_means', '(0, 3)', 'one example'),
  'aggregate_covariance': (lambda: losses.aggregate_covariance(real(5, 3), real(5, 2)), 'logvars', '(5, 2)', 'D=3'),
  'auxiliary_classifier': (lambda: losses.auxiliary_classifier(real(5, 3), CODES), 'labels', '(4,)', '[B] with B=5'),
  'beta_elbo': (lambda: losses.beta_elbo(*PAIR, beta=real(4)), 'beta', '(4,)', '[]'),
  'binomial_diffusion': (lambda: losses.binomial_diffusion(FLIPS, STEPS[:2], SCHEDULE), 't', '(2,)', 'B=4'),
  'binomial_divergence': (
    lambda: losses.binomial_divergence(FLIPS, FLIPS, STEPS, real(4, 2), SCHEDULE),
    'logits',
    '(4, 2)',
    'B=4, ...=(3,)',
  ),
  'binomial_flip': (lambda: losses.binomial_flip(FLIPS, FLIPS[:2], STEPS, SCHEDULE), 'x_t', '(2, 3)', 'B=4, ...=(3,)'),
  'binomial_prior_divergence': (lambda: losses.binomial_prior_divergence(real(), SCHEDULE), 'x_0', '()', '[B, ...]'),
  'bits_per_dim': (lambda: losses.bits_per_dim(real(4), 0), 'dims', '0', 'positive'),
  'boltzmann_divergence': (
    lambda: bits_divergence(real(2, 3), real(2), real(2), real(2, 2)),
    'machine',
    '2 and 2',
    '3 in',
  ),
  'capacity_elbo': (lambda: losses.capacity_elbo(*PAIR, capacity=real(2), gamma=1.0), 'capacity', '(2,)', '[]'),
  'change_of_variables': (lambda: losses.change_of_variables(real(4), real(3)), 'log_det', '(3,)', '...=(4,)'),
  'clip_parameters': (lambda: losses.clip_parameters({'w': real(3)}, bound=real(3)), 'bound', '(3,)', '[]'),
  'codebook_ema': (
    lambda: losses.codebook_ema(real(3), real(3, 2), real(5, 2), CODES, decay=0.9),
    'codes',
    '(4,)',
    '...=(5,)',
  ),
  'codebook_loss': (lambda: losses.codebook_loss(real(4, 2), real(3, 3), CODES), 'codebook', '(3, 3)', 'D=2'),
  'codebook_vectors': (lambda: losses.codebook_vectors(real(3), real(4, 2)), 'sums', '(4, 2)', 'K=3'),
  'commitment_loss': (lambda: losses.commitment_loss(real(5, 2), real(3, 2), CODES), 'codes', '(4,)', '...=(5,)'),
  'covariance_of_means': (lambda: losses.covariance_of_means(real(0, 3)), 'means', '(0, 3)', 'one example'),
  'dequantize': (lambda: losses.dequantize(KEY, real(4), bits=17), 'bits', '17', '1 to 16'),
  'diffusion': (lambda: losses.diffusion(*CLOUD[:2], real(3), SCHEDULE), 't', '(3,)', '[B] with B=4'),
  'diffusion_divergence': (
    lambda: losses.diffusion_divergence(*CLOUD[:2], STEPS, CLOUD[2], real(4, 1), SCHEDULE),
    'logvar',
    '(4, 1)',
    'B=4, ...=(3,)',
  ),
  'diffusion_posterior': (
    lambda: losses.diffusion_posterior(CLOUD[0], real(4), STEPS, SCHEDULE),
    'x_t',
    '(4,)',
    'B=4, ...=(3,)',
  ),
  'diffusion_prior_divergence': (lambda: losses.diffusion_prior_divergence(real(), SCHEDULE), 'x_0', '()', '[B, ...]'),
  'diffusion_schedule': (lambda: losses.diffusion_schedule(1), 'steps', '1', 'at least 2'),
  'dip_penalty': (
    lambda: losses.dip_penalty(real(3, 2), off_diagonal=1.0, diagonal=1.0),
    'covariance',
    '(3, 2)',
    '[D, D] with D=3',
  ),
  'doubly_reparametrized_surrogate': (
    lambda: losses.doubly_reparametrized_surrogate(lambda z: log_weight(z).T, real(4, 2, 3)),
    'z',
    '(4, 2, 3)',
    '(2, 4)',
  ),
  'elbo': (lambda: losses.elbo(real(4), real(4, 1)), 'kl', '(4, 1)', '...=(4,)'),
  'elbo_from_energy': (lambda: losses.elbo_from_energy(real(4), real(3)), 'entropy', '(3,)', '...=(4,)'),
  'elbo_from_evidence': (lambda: losses.elbo_from_evidence(real(4), real(3)), 'kl_posterior', '(3,)', '...=(4,)'),
  'elbo_surgery': (lambda: losses.elbo_surgery(real(5, 3), real(4, 3), KEY, 10), 'logvars', '(4, 3)', 'N=5'),
  'estimator_variance': (lambda: losses.estimator_variance(jax.random.normal, KEY, 1), 'n', '1', 'two'),
  'feature_matching': (lambda: losses.feature_matching(real(4, 2), real(5, 3)), 'fake_features', '(5, 3)', '...=(2,)'),
  'free_bits': (lambda: losses.free_bits(real(0, 3), floor=0.1), 'kl_per_dim', '(0, 3)', 'one example'),
  'gaussian_kernel': (lambda: losses.gaussian_kernel(real(4, 3), real(5, 2)), 'y', '(5, 2)', '[M, D] with D=3'),
  'gradient_penalty': (
    lambda: losses.gradient_penalty(critic, real(4, 3), real(5, 3), KEY),
    'fake',
    '(5, 3)',
    '[B, ...] with B=4',
  ),
  'hierarchical_elbo': (lambda: losses.hierarchical_elbo(real(4), (*PAIR[:1], real(3))), 'kl_2', '(3,)', '...=(4,)'),
  'hinge_discriminator': (lambda: losses.hinge_discriminator(real(4), real(3)), 'fake', '(3,)', 'B=4'),
  'hinge_generator': (lambda: losses.hinge_generator(real(4, 1)), 'fake', '(4, 1)', '[B]'),
  'historical_averaging': (
    lambda: losses.historical_averaging({'w': real(3)}, {'w': real(2)}),
    "average['w']",
    '(2,)',
    '(3,)',
  ),
  'importance_weighted_bound': (
    lambda: losses.importance_weighted_bound(real(3), axis=1),
    'log_weights',
    '(3,)',
    'axis 1',
  ),
  'infogan_categorical_information': (
    lambda: losses.infogan_categorical_information(CODES, real(5, 3)),
    'logits',
    '(5, 3)',
    '[B, K] with B=4',
  ),
  'infogan_gaussian_information': (
    lambda: losses.infogan_gaussian_information(real(4, 2), real(4, 2), real(1, 3), entropy=1.0),
    'logvar',
    '(1, 3)',
    'D=2',
  ),
  'infogan_mutual_information': (
    lambda: losses.infogan_mutual_information(real(4), entropy=real(4)),
    'entropy',
    '(4,)',
    '[]',
  ),
  'least_squares_discriminator': (lambda: losses.least_squares_discriminator(real(4), real(3)), 'fake', '(3,)', 'B=4'),
  'least_squares_generator': (lambda: losses.least_squares_generator(real(4, 1)), 'fake', '(4, 1)', '[B]'),
  'leave_one_out_baseline': (lambda: losses.leave_one_out_baseline(real(1, 4)), 'rewards', '(1, 4)', 'two samples'),
  'logit_transform': (lambda: losses.logit_transform(real(2, 3), alpha=0.5), 'alpha', '0.5', 'between 0 and 1/2'),
  'logit_transform_inverse': (lambda: losses.logit_transform_inverse(real(3), alpha=0.0), 'alpha', '0.0', 'between'),
  'minibatch_total_correlation': (
    lambda: losses.minibatch_total_correlation(real(4, 2), real(4, 2), real(4, 3), dataset_size=50),
    'logvars',
    '(4, 3)',
    'D=2',
  ),
  'minibatch_weights': (lambda: losses.minibatch_weights(5, 4), 'batch', '5', '1 to all'),
  'minimax_discriminator': (lambda: losses.minimax_discriminator(real(4), real(5)), 'fake', '(5,)', 'B=4'),
  'minimax_generator': (lambda: losses.minimax_generator(real(4, 1)), 'fake', '(4, 1)', '[B]'),
  'mmd': (lambda: losses.mmd(real(4, 3), real(1, 3)), 'y', '(1, 3)', 'two points'),
  'nonsaturating_generator': (lambda: losses.nonsaturating_generator(real(4, 1)), 'fake', '(4, 1)', '[B]'),
  'orthogonal_regularization': (lambda: losses.orthogonal_regularization({'b': real(3)}), 'params', '(3,)', 'kernel'),
  'overlapping_divergence': (
    lambda: overlapping(real(2, 3), real(2, 2), *[real(1)] * 2, real(1, 1)),
    'expected',
    '(2, 2)',
    'N=3',
  ),
  'path_length': (lambda: losses.path_length(lambda w: w[:1], real(4, 3), KEY), 'generator', '(1, 3)', '[4, ...]'),
  'permute_latents': (lambda: losses.permute_latents(KEY, real(4)), 'z', '(4,)', '[B, D]'),
  'perplexity': (lambda: losses.perplexity(CODES[:0], 3), 'codes', '(0,)', 'one code'),
  'polynomial_kernel': (lambda: losses.polynomial_kernel(real(4, 3), real(5, 2)), 'y', '(5, 2)', '[M, D] with D=3'),
  'r1_penalty': (lambda: losses.r1_penalty(lambda x: x, real(4, 3)), 'critic(x)', '(4, 3)', '(4,)'),
  'score_function_surrogate': (
    lambda: losses.score_function_surrogate(*PAIR, real(3)),
    'baseline',
    '(3,)',
    '...=(4,)',
  ),
  'soft_free_bits': (lambda: losses.soft_free_bits(real(), real(2), floor=1.0), 'kl', '(2,)', '[]'),
  'stratified_weights': (lambda: losses.stratified_weights(1, 4), 'batch', '1', '2 to all'),
  'strided_schedule': (lambda: losses.strided_schedule(SCHEDULE, 4), 'stride', '4', 'a divisor of the 6 steps'),
  'total_correlation': (lambda: losses.total_correlation(real(4, 2)), 'joint_logits', '(4, 2)', '[B]'),
  'total_correlation_discriminator': (
    lambda: losses.total_correlation_discriminator(real(4), real(3)),
    'permuted_logits',
    '(3,)',
    'B=4',
  ),
  'multi_hinge': (lambda: losses.multi_hinge(real(5, 3), CODES), 'labels', '(4,)', '[B] with B=5'),
  'twin_auxiliary_classifier': (
    lambda: losses.twin_auxiliary_classifier(real(4, 3), real(4, 2), CODES),
    'twin_logits',
    '(4, 2)',
    'K=3',
  ),
  'vector_quantize': (lambda: losses.vector_quantize(real(4, 2), real(3, 3)), 'codebook', '(3, 3)', 'D=2'),
  'vimco_surrogate': (lambda: losses.vimco_surrogate(real(1, 2), real(1, 2)), 'log_weights', '(1, 2)', 'two samples'),
  'wasserstein_critic': (lambda: losses.wasserstein_critic(real(4), real(3)), 'fake', '(3,)', 'B=4'),
  'wasserstein_generator': (lambda: losses.wasserstein_generator(real(4, 1)), 'fake', '(4, 1)', '[B]'),
}
WRONG = WRONG_DISTRIBUTIONS | WRONG_LOSSES

# Losses that are elementwise but for a sum over the last axis -> their arguments' shapes, large enough to count bytes.
ELEMENTWISE = {
  'bernoulli_entropy': 1,
  'bernoulli_log_prob': 2,
  'discretized_logistic_log_prob': 3,
  'gaussian_kl': 4,
  'gaussian_kl_per_dim': 4,
  'gaussian_kl_standard': 2,
  'gaussian_kl_standard_per_dim': 2,
  'logistic_entropy': 1,
  'logistic_log_prob': 3,
  'normal_entropy': 1,
  'normal_log_prob': 3,
  'standard_normal_log_prob': 1,
  'elbo': 2,
  'elbo_from_energy': 2,
  'elbo_from_evidence': 2,
  'change_of_variables': 2,
  'hinge_discriminator': 2,
  'hinge_generator': 1,
  'least_squares_discriminator': 2,
  'least_squares_generator': 1,
  'logit_transform_inverse': 1,
  'minimax_discriminator': 2,
  'minimax_generator': 1,
  'nonsaturating_generator': 1,
  'score_function_surrogate': 2,
  'total_correlation_discriminator': 2,
  'wasserstein_critic': 2,
  'wasserstein_generator': 1,
}


def public_functions():
  both = [(module, name) for module in (dist, losses) for name in module.__all__]
  return {name: getattr(module, name) for module, name in both if not inspect.isclass(getattr(module, name))}


def test_every_function_has_a_case_and_a_whole_docstring():
  functions = public_functions()
  assert set(functions) == set(CASES)
  assert set(WRONG) == {name for name, function in functions.items() if 'Raises:' in function.__doc__}
  assert set(functions) - set(WRONG) == {'bernoulli_sample', 'sticking_the_landing'}  # no shape is wrong for these
  for name, function in functions.items():
    for part in ('Args:', 'Returns:', 'Reference:'):
      assert part in function.__doc__, (name, part)
    for argument in inspect.signature(function).parameters:
      assert f'    {argument}: ' in function.__doc__.replace('*', ''), (name, argument)


@pytest.mark.parametrize('name', CASES)
def test_jit_vmap_and_precision(name):
  function, arguments = CASES[name]
  narrow = [a.astype(jnp.bfloat16) for a in arguments]
  one = jax.jit(function)(*[a.astype(jnp.float32) for a in narrow])
  two = jax.jit(jax.vmap(function))(*[jnp.stack([a, a]) for a in narrow])
  for got, expected in zip(jax.tree.leaves(two), jax.tree.leaves(one), strict=True):
    assert got.dtype == expected.dtype and expected.dtype in (jnp.float32, jnp.int32)
    np.testing.assert_allclose(got, jnp.stack([expected, expected]), 2e-5, 2e-5)


@pytest.mark.parametrize('name', [name for name in CASES if name not in OWN_GRADIENT | NO_GRADIENT])
def test_gradients(name):
  function, arguments = CASES[name]
  check_grads(jax.jit(function), arguments, order=1, modes=('fwd', 'rev'), atol=2e-2, rtol=2e-2, eps=1e-2)


@pytest.mark.parametrize('name', WRONG)
def test_a_wrong_shape_names_argument_got_and_expected(name, unchecked):
  call, *parts = WRONG[name]
  with pytest.raises(ValueError) as error:
    jax.eval_shape(call)
  for part in parts:
    assert part in str(error.value)


@pytest.mark.parametrize('name', ELEMENTWISE)
def test_an_elementwise_loss_reads_and_writes_everything_once(name):
  per_example = 'B' in str(inspect.signature(public_functions()[name]).parameters) and name in LOSSES
  shape = (4096,) if per_example else (64, 128)
  arguments = [jax.ShapeDtypeStruct(shape, jnp.float32)] * ELEMENTWISE[name]
  function = public_functions()[name]
  compiled = jax.jit(function).lower(*arguments).compile()
  outputs = jax.tree.leaves(jax.eval_shape(function, *arguments))
  needed = 4 * sum(math.prod(a.shape) for a in [*arguments, *outputs])
  assert compiled.cost_analysis()['bytes accessed'] <= 1.5 * needed


def test_import_is_light():
  program = (
    'import sys, time, jax; start = time.process_time(); import dgm_jax.losses; '
    'print(time.process_time() - start, [m for m in sys.modules '
    "if m.split('.')[0] in ('flax', 'orbax', 'tensorflow_datasets', 'grain', 'optax', 'chex')])"
  )
  environment = dict(os.environ, OMP_NUM_THREADS='1')
  run = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=True, env=environment)
  seconds, heavy = run.stdout.split(' ', 1)
  assert float(seconds) <= 0.3
  assert heavy.strip() == '[]'
