"""The losses of AutoAD on a policy that is a table of logits: Eq. 16 term by term, and which parts leave it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import log_softmax

from jaxad.nas.strategies.autoad import AutoADConfig, losses
from jaxad.nas.strategies.autoad import posterior as bayes
from jaxad.nas.strategies.autoad.controller import Episode
from jaxad.nas.strategies.autoad.losses import Data, Learned

TOKENS, CHOICES, COUNT = 3, 4, 5
WEIGHTS = TOKENS * CHOICES


def policy(weights, tokens, carries):
    """Every position has logits of its own and reads nothing."""
    logits = jax.nn.log_softmax(weights.reshape(TOKENS, CHOICES))
    log_probs = jnp.take_along_axis(logits[None], tokens[..., None], axis=2)[..., 0]
    return Episode(tokens, log_probs, jnp.zeros_like(log_probs), None, carries)


def likelihood(weights, data):
    """Minus the mean log-probability of the sequences, weighted by their advantages, in float64."""
    logits = log_softmax(np.asarray(weights, np.float64).reshape(TOKENS, CHOICES), axis=1)
    log_probs = logits[np.arange(TOKENS), np.asarray(data.tokens)].sum(axis=1)
    return -np.mean(np.asarray(data.advantages, np.float64) * log_probs)


def slopes(function, weights, step=1e-5):
    weights = np.asarray(weights, np.float64)
    return np.array([(function(weights + e) - function(weights - e)) / (2 * step) for e in step * np.eye(len(weights))])


@pytest.fixture
def learned(rng):
    posterior = bayes.Posterior(*(jnp.asarray(rng.normal(size=WEIGHTS), jnp.float32) for _ in range(2)))
    return Learned(posterior, jnp.asarray(rng.normal(size=WEIGHTS), jnp.float32))


@pytest.fixture
def data(rng):
    tokens = jnp.asarray(rng.integers(0, CHOICES, (COUNT, TOKENS)), jnp.int32)
    return Data(tokens, jnp.zeros((COUNT, 1)), jnp.asarray(rng.normal(size=COUNT), jnp.float32))


CONFIG = AutoADConfig(prior=0.7, sigma0=0.3)


def test_exploration_loss_is_equation_16(learned, data):
    """Recomputed in float64 from the samples that the key gives."""
    loss, divergences = jax.jit(lambda *given: losses.exploration_loss(policy, CONFIG, *given, COUNT))(
        learned, jax.random.key(3), data
    )
    phi_key, theta_key = jax.random.split(jax.random.key(3))
    phi = bayes.distribution(learned.posterior).sample(seed=phi_key)
    moved = np.asarray(learned.eta, np.float64) * slopes(lambda weights: likelihood(weights, data), phi)
    noise = np.asarray(jax.random.normal(theta_key, (WEIGHTS,)), np.float64)
    theta = np.asarray(phi, np.float64) - moved + CONFIG.sigma0 * noise

    sd = np.log1p(np.exp(np.asarray(learned.posterior.rho, np.float64))) + bayes.SD_FLOOR
    log_q = stats.norm.logpdf(phi, learned.posterior.mean, sd).sum()
    wide, spike = (stats.norm.pdf(phi, 0, scale) for scale in (np.exp(-1), np.exp(-7)))
    log_p = np.log(0.25 * wide + 0.75 * spike).sum()
    sharpening = (moved**2).sum() / (2 * CONFIG.sigma0**2)
    np.testing.assert_allclose(divergences.prior, log_q - log_p, rtol=1e-5)
    np.testing.assert_allclose(divergences.sharpening, sharpening, rtol=1e-4)
    expected = likelihood(theta, data) + sharpening + 0.7 * (log_q - log_p) / COUNT
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


def test_without_sharpening_the_sample_of_the_posterior_itself_is_scored(learned, data):
    config = dataclasses.replace(CONFIG, sharpening=False)
    loss, divergences = losses.exploration_loss(policy, config, learned, jax.random.key(3), data, COUNT)
    phi = bayes.distribution(learned.posterior).sample(seed=jax.random.split(jax.random.key(3))[0])
    expected = likelihood(phi, data) + 0.7 * float(divergences.prior) / COUNT
    assert float(divergences.sharpening) == 0
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


def test_a_plain_likelihood_does_not_see_rewards(learned, data):
    plain = dataclasses.replace(CONFIG, likelihood="plain")
    value = losses.negative_log_likelihood(policy, plain, learned.posterior.mean, data)
    alike = data._replace(advantages=jnp.ones(COUNT))
    np.testing.assert_allclose(value, likelihood(learned.posterior.mean, alike), rtol=1e-5)


def test_the_gradient_that_sharpens_is_a_constant(learned, data):
    """The derivative by phi of a sharpened weight is one: none goes through g."""
    config = dataclasses.replace(CONFIG, sigma0=1e-6)

    def total(phi):
        return losses.sharpened_weights(policy, config, learned, jax.random.key(0), phi, data)[0].sum()

    np.testing.assert_array_equal(jax.grad(total)(learned.posterior.mean), np.ones(WEIGHTS))


def test_reinforce_differentiates_the_sample_that_acted(learned, data, rng):
    """By finite differences in float64, for mean and rho: phi = mean + sd * noise, whatever the key."""
    noise, rewards, baseline = rng.normal(size=WEIGHTS), rng.random(COUNT), 0.4

    def loss(mean, rho):
        sd = np.log1p(np.exp(rho)) + bayes.SD_FLOOR
        advantages = data._replace(advantages=own * (rewards - baseline) * COUNT / own.sum())  # a mean over its own
        return likelihood(mean + sd * noise, advantages)

    own = np.arange(COUNT) != 1
    arguments = jnp.float32(noise), data, jnp.float32(rewards), jnp.float32(baseline), jnp.asarray(own)
    gradient = jax.jit(jax.grad(lambda moving, key: losses.policy_loss(policy, CONFIG, moving, key, *arguments)))
    found = gradient(learned, jax.random.key(0)).posterior
    mean, rho = (np.asarray(part, np.float64) for part in learned.posterior)
    np.testing.assert_allclose(found.mean, slopes(lambda value: loss(value, rho), mean), atol=1e-4)
    np.testing.assert_allclose(found.rho, slopes(lambda value: loss(mean, value), rho), atol=1e-4)
    np.testing.assert_array_equal(found.mean, gradient(learned, jax.random.key(1)).posterior.mean)


def test_a_light_prior_lets_the_loss_see_rewards(learned, data):
    """Gradients with rewards and with none have the same direction only where the divergence drowns the likelihood."""

    def cosine(prior):
        config = dataclasses.replace(CONFIG, prior=prior, sharpening=False)
        loss = jax.jit(jax.grad(lambda *a: losses.exploration_loss(policy, config, *a, COUNT)[0]))
        given = (data, data._replace(advantages=0 * data.advantages))
        one, two = (loss(learned, jax.random.key(3), each).posterior.mean for each in given)
        return float(one @ two / jnp.linalg.norm(one) / jnp.linalg.norm(two))

    assert cosine(1e4) > 0.999
    assert cosine(1e-3) < 0.9
