"""Rewards and losses of neural batch sampling, the thesis's proof, and REINFORCE against all episodes there are."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.methods.nbs import environment as env
from jaxad.methods.nbs import losses, sampling
from jaxad.types import Network

DISCOUNT = 0.9


def test_returns_are_discounted_sums(rng):
    rewards = rng.standard_normal(7).astype(np.float32)
    expected = [sum(DISCOUNT**s * rewards[t + s] for s in range(7 - t)) for t in range(7)]
    np.testing.assert_allclose(losses.discounted_returns(rewards, DISCOUNT), expected, rtol=1e-5)
    terminal = np.zeros(7, np.float32)
    terminal[-1] = -0.7
    np.testing.assert_allclose(
        losses.terminal_returns(-0.7, 7, DISCOUNT), losses.discounted_returns(terminal, DISCOUNT), rtol=1e-5
    )


@pytest.mark.parametrize("discount", [0.5, 0.9, 0.99])
def test_a_terminal_reward_vanishes_from_returns_that_are_normalised(discount):
    """Section 3.2.1: Q_norm,t = (gamma^(N - t) - a) / b whatever the reward k, so nothing would be learnt from k."""
    n = 32
    geometric = discount ** np.arange(n - 1, -1, -1, dtype=np.float64)
    a = (1 - discount**n) / (n * (1 - discount))
    b = np.sqrt((1 - discount ** (2 * n)) / (n * (1 - discount**2)) - a**2)
    raw = []
    for k in (0.01, 0.3, 5.0):
        returns = np.asarray(losses.terminal_returns(jnp.float32(k), n, discount), np.float64)
        normal = (returns - returns.mean()) / returns.std()
        np.testing.assert_allclose(normal, (geometric - a) / b, rtol=1e-3, atol=1e-4)
        raw.append(returns)
    # What is used here does depend on it, in proportion.
    np.testing.assert_allclose(raw[2], 500 * raw[0], rtol=1e-5)


def test_rewards_of_patches():
    masks = np.zeros((3, 4, 4))
    masks[1, 2, 3] = 1
    np.testing.assert_array_equal(losses.clone_reward(masks), [1, -1, 1])
    np.testing.assert_allclose(losses.cover_reward(jnp.array([0.0, 0.5, 1.0])), [0, 0.05, 0.1])


def test_cloning_fades_out():
    weights = [float(losses.clone_weight(jnp.int32(j), 10)) for j in (0, 5, 10, 99)]
    np.testing.assert_allclose(weights, [1, 0.5, 0, 0])


def test_the_predictors_loss_is_eq_3_2(rng):
    logits, masks = rng.standard_normal((3, 5, 4)).astype(np.float32), (rng.random((3, 5, 4)) < 0.2).astype(np.uint8)
    alpha = 0.25
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    images = [
        -np.mean([y * np.log(q) + alpha * (1 - y) * np.log(1 - q) for y, q in zip(m.ravel(), s.ravel())])
        for m, s in zip(masks.astype(float), p)
    ]
    np.testing.assert_allclose(losses.weighted_cross_entropy(logits, masks, alpha), np.mean(images), rtol=1e-5)
    # Far out the logarithms stay finite.
    assert np.isfinite(losses.weighted_cross_entropy(1e4 * logits, masks, alpha))
    normal, anomalous = (masks == 0).sum(), (masks == 1).sum()
    np.testing.assert_allclose(losses.anomalous_ratio(masks), anomalous / normal, rtol=1e-5)


def test_profiles_are_divided_by_the_mean_of_their_image(rng):
    profiles = rng.random((2, 3, 4, 5)).astype(np.float32)
    got = np.asarray(losses.normalise_profiles(profiles))
    np.testing.assert_allclose(got.mean((1, 2, 3)), 1, rtol=1e-5)
    np.testing.assert_allclose(got[1], profiles[1] / profiles[1].mean(), rtol=1e-5)
    np.testing.assert_array_equal(losses.normalise_profiles(0 * profiles), 0)


# ---- REINFORCE -------------------------------------------------------------------------------------------------

CONFIG = env.EnvironmentConfig(patch=2, shift=2, window=4)
STEPS = 3


@pytest.fixture(scope="module")
def world():
    """Two images of 5x6, with an anomaly in each, and a small linear policy."""
    rng = np.random.default_rng(0)
    images, errors = rng.random((2, 5, 6, 1), np.float32), rng.random((2, 5, 6), np.float32)
    masks = np.zeros((2, 5, 6), np.float32)
    masks[0, 1, 1], masks[1, 4, 5] = 1, 1
    weights = 0.3 * rng.standard_normal((4 * 4 * 3, env.ACTIONS)).astype(np.float32)
    return images, errors, masks, weights


def test_reinforce_equals_the_gradient_over_all_episodes(world):
    """Every sequence of actions there is, 9^3 of them: sum of probability times estimate = gradient of expectation.

    The estimate uses returns without the factor gamma^t of the discounted objective (as REINFORCE is used), so the
    expectation whose gradient it is takes at each step the return from there on, with everything before held fixed:
    sum_t E[grad log pi(a_t | s_t) G_t]. With gamma = 1 it is the gradient of the expected sum of rewards itself.
    """
    images, errors, masks, weights = world
    sequences = np.array(list(itertools.product(range(env.ACTIONS), repeat=STEPS)), np.int32)
    key = jax.random.key(3)
    scene = env.make_scene(CONFIG, jnp.asarray(images), jnp.asarray(errors))

    linear = Network(None, lambda weights, seen: seen.reshape(seen.shape[0], -1) @ weights)

    def logs_of(weights, episode):
        return sampling.policy(linear, weights, episode.observations).log_prob(episode.actions)

    def forced(actions):
        episode = env.rollout(CONFIG, key, scene, lambda key, t, seen: actions[t], STEPS)
        patches = env.patches(jnp.asarray(masks), episode.images, episode.corners, CONFIG.patch)
        return episode, losses.clone_reward(patches) + losses.cover_reward(episode.news)

    episodes, rewards = jax.jit(jax.vmap(forced))(sequences)

    def log_probs(weights):
        return jax.vmap(lambda episode: logs_of(weights, episode))(episodes)

    def by_reinforce(weights, discount):
        def estimate(weights, episode, rewards):
            return losses.policy_loss(logs_of(weights, episode), losses.discounted_returns(rewards, discount))

        estimates = jax.vmap(jax.grad(estimate), (None, 0, 0))(weights, episodes, rewards)
        probabilities = jnp.exp(log_probs(weights).sum(1))
        return -jnp.einsum("n,nij->ij", probabilities, estimates), probabilities

    def expected_sum(weights):
        return jnp.sum(jnp.exp(log_probs(weights).sum(1)) * rewards.sum(1))

    got, probabilities = jax.jit(by_reinforce, static_argnums=1)(weights, 1.0)
    np.testing.assert_allclose(np.sum(probabilities), 1, rtol=1e-4)
    np.testing.assert_allclose(got, jax.jit(jax.grad(expected_sum))(weights), rtol=1e-3, atol=1e-5)

    def discounted_by_hand(weights):
        """sum over t of E[gamma^(s - t) R_s], the probability of what came before t held fixed."""
        logs = log_probs(weights)
        total = 0.0
        for t in range(STEPS):
            before = jax.lax.stop_gradient(logs[:, :t].sum(1))
            later = jax.lax.stop_gradient(logs[:, t + 1 :].sum(1))
            returns = sum(DISCOUNT ** (s - t) * rewards[:, s] for s in range(t, STEPS))
            total += jnp.sum(jnp.exp(before + logs[:, t] + later) * returns)
        return total

    got, _ = jax.jit(by_reinforce, static_argnums=1)(weights, DISCOUNT)
    np.testing.assert_allclose(got, jax.jit(jax.grad(discounted_by_hand))(weights), rtol=1e-3, atol=1e-5)


def test_no_gradient_passes_through_returns():
    logs = jnp.log(jnp.array([0.5, 0.25]))
    gradient = jax.grad(lambda returns: losses.policy_loss(logs, returns))(jnp.ones(2))
    np.testing.assert_array_equal(gradient, 0)
    undecided = sampling.policy(Network(None, lambda weights, seen: seen), None, jnp.zeros((2, 9)))
    np.testing.assert_allclose(undecided.entropy(), np.log(9), rtol=1e-5)
