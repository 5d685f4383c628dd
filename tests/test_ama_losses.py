"""The terms of AMA's objective on hand-made critics, and its gradient penalty against closed form and differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.methods.ama import losses


def test_pairs_are_stacked_on_channels(rng):
    first, second = rng.standard_normal((2, 3, 4, 4, 2)).astype(np.float32)
    pairs = losses.stack_pairs(jnp.asarray(first), jnp.asarray(second))
    np.testing.assert_array_equal(pairs[..., :2], first)
    np.testing.assert_array_equal(pairs[..., 2:], second)


def test_equation_1_on_a_critic_that_measures_the_difference(rng):
    """D(x, y) = -sum |x - y|: the estimate is the mean l1 error, and 0 for a perfect autoencoder."""
    images, rebuilt = rng.uniform(-1, 1, (2, 5, 4, 4, 1)).astype(np.float32)

    def critic(pairs):
        return -jnp.abs(pairs[..., :1] - pairs[..., 1:]).sum((1, 2, 3))

    same, other = (critic(losses.stack_pairs(jnp.asarray(images), jnp.asarray(y))) for y in (images, rebuilt))
    ones = jnp.ones(5)
    np.testing.assert_allclose(losses.wasserstein(same, other, ones), np.abs(images - rebuilt).sum() / 5, rtol=1e-5)
    assert losses.wasserstein(same, same, ones) == 0


def test_negatives_count_with_a_negative_weight():
    """Eq. 2: normal images pull D(x, x) - D(x, x^) up, negatives push it down, l_neg times as much."""
    weights = losses.image_weights(jnp.array([0, 0, 1]), 5.0)
    np.testing.assert_array_equal(weights, [1, 1, -5])
    value = losses.wasserstein(jnp.array([3.0, 1.0, 2.0]), jnp.array([1.0, 0.0, 4.0]), weights)
    np.testing.assert_allclose(value, (2 + 1 - 5 * (2 - 4)) / 3, rtol=1e-6)


def test_interpolation_gap_averages_over_parents_and_skips_negatives():
    parents = jnp.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [100.0, 0.0, 0.0]])
    interpolated = jnp.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    gap = losses.interpolation_gap(parents, interpolated, jnp.array([1.0, 1.0, 0.0]))
    np.testing.assert_allclose(gap, (2 + 4) / 2, rtol=1e-6)
    assert losses.interpolation_gap(parents, interpolated, jnp.zeros(3)) == 0


def test_code_norm_is_not_squared_and_has_a_gradient_at_the_origin():
    codes = jnp.array([[3.0, 4.0], [0.0, 0.0], [30.0, 40.0]])
    normal = jnp.array([1.0, 1.0, 0.0])
    value, gradient = jax.value_and_grad(losses.code_norm)(codes, normal)
    np.testing.assert_allclose(value, 2.5, rtol=1e-6)
    np.testing.assert_allclose(gradient, [[0.3, 0.4], [0, 0], [0, 0]], atol=1e-6)


def test_losses_have_the_signs_of_equation_2():
    """The critic raises the distance, generator and encoder lower it."""
    low, high = (
        losses.critic_loss(jnp.float32(d), jnp.float32(2), jnp.float32(0.1), interpolation=0.5, penalty_weight=10.0)
        for d in (1, 4)
    )
    np.testing.assert_allclose([low, high], [-1 - 1 + 1, -4 - 1 + 1], rtol=1e-6)
    value = losses.generator_loss(jnp.float32(-2), jnp.float32(-2), jnp.float32(7), interpolation=0.5, latent=0.1)
    np.testing.assert_allclose(value, -2 + 0.5 * -2 + 0.1 * 7, rtol=1e-6)


def test_between_mixes_image_by_image(rng):
    first, second = rng.standard_normal((2, 3, 2, 2, 1)).astype(np.float32)
    mixed = losses.between(jnp.asarray(first), jnp.asarray(second), jnp.array([0.0, 1.0, 0.25]))
    np.testing.assert_allclose(mixed, [second[0], first[1], 0.25 * first[2] + 0.75 * second[2]], rtol=1e-5)


# ---- gradient penalty ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", losses.NORMS)
def test_penalty_of_a_linear_critic(rng, norm):
    slope = rng.standard_normal((4, 4, 2)).astype(np.float32)
    pairs = jnp.asarray(rng.standard_normal((3, 4, 4, 2)), jnp.float32)
    value = losses.gradient_penalty(lambda pairs: jnp.einsum("bhwc,hwc->b", pairs, slope), pairs, norm)
    if norm == "sample":
        expected = (np.linalg.norm(slope) - 1) ** 2
    else:
        expected = np.mean((np.linalg.norm(slope, axis=-1) - 1) ** 2)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


@pytest.mark.parametrize("norm", losses.NORMS)
def test_penalty_and_its_gradient_equal_finite_differences(rng, norm):
    """A critic D(x) = sum tanh(W x) with slopes and second derivatives, differentiated by hand in float64."""
    weights, pairs = rng.standard_normal((5, 8)), rng.standard_normal((3, 2, 2, 2))

    def critic(weights, pairs):
        return np.tanh(pairs.reshape(len(pairs), -1) @ weights.T).sum(1)

    def penalty(weights, step=1e-5):
        slopes = np.zeros_like(pairs)
        for index in np.ndindex(pairs.shape[1:]):
            moved = np.zeros_like(pairs)
            moved[(slice(None), *index)] = step
            slopes[(slice(None), *index)] = (critic(weights, pairs + moved) - critic(weights, pairs - moved)) / step / 2
        sizes = np.sqrt((slopes**2).sum((1, 2, 3) if norm == "sample" else 3))
        return np.mean((sizes - 1) ** 2)

    def ours(weights):
        judge = lambda pairs: jnp.tanh(pairs.reshape(3, -1) @ weights.T).sum(1)  # noqa: E731
        return losses.gradient_penalty(judge, jnp.float32(pairs), norm)

    value, gradient = jax.value_and_grad(ours)(jnp.float32(weights))
    np.testing.assert_allclose(value, penalty(weights), rtol=1e-4)
    for index in ((0, 0), (2, 5), (4, 7)):
        moved = np.zeros_like(weights)
        moved[index] = 1e-3
        expected = (penalty(weights + moved) - penalty(weights - moved)) / 2e-3
        np.testing.assert_allclose(gradient[index], expected, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("norm", losses.NORMS)
def test_a_flat_critic_has_penalty_one_and_a_finite_gradient(norm):
    value, gradient = jax.value_and_grad(
        lambda w: losses.gradient_penalty(lambda pairs: w * pairs.sum((1, 2, 3)), jnp.ones((2, 4, 4, 1)), norm)
    )(jnp.float32(0))
    assert value == 1
    assert np.isfinite(gradient)
