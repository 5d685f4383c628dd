"""Batch normalisation of adversarial networks: statistics by hand on two batches, and what passes gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.nn.layers import NORM_EPSILON, Moments
from jaxad.nn.norm import MOMENTUM, BatchNorm, Statistics, averaged, fresh_moments, split_norm

AFFINE = {"scale": jnp.array([2.0, 1.0]), "offset": jnp.array([0.5, -1.0])}
FROZEN = Moments(jnp.array([1.0, -2.0]), jnp.array([4.0, 0.25]))


def normal(values, mean, variance):
    return (values - np.asarray(mean)) / np.sqrt(np.asarray(variance) + NORM_EPSILON)


@pytest.fixture
def images(rng):
    return rng.normal(3, 2, (6, 2, 3, 2)).astype(np.float32)


def test_running_averages_of_two_batches_by_hand():
    """Two batches of two images of one pixel: means 2 and 6, variances 1 and 4."""
    batches = jnp.array([[1.0, 3.0], [4.0, 8.0]]).reshape(2, 2, 1, 1, 1)
    affine = {"scale": jnp.ones(1), "offset": jnp.zeros(1)}
    running = fresh_moments((Moments(jnp.zeros(1), jnp.zeros(1)),))
    for batch in batches:
        norm = BatchNorm()
        out = norm(batch, affine, "linear")
        np.testing.assert_allclose(out.ravel(), [-1, 1], rtol=1e-4)
        running = averaged(running, norm.seen)
    ((mean, variance),) = running
    np.testing.assert_allclose(mean, [0.9 * (0.1 * 2) + 0.1 * 6], rtol=1e-6)
    np.testing.assert_allclose(variance, [0.9 * (0.9 + 0.1 * 1) + 0.1 * 4], rtol=1e-6)
    assert MOMENTUM == 0.1


def test_frozen_moments_are_used_and_given_back(images):
    norm = BatchNorm((FROZEN,))
    out = norm(jnp.asarray(images), AFFINE, "relu")
    expected = normal(images, FROZEN.mean, FROZEN.variance) * np.array([2.0, 1.0]) + np.array([0.5, -1.0])
    np.testing.assert_allclose(out, np.maximum(expected, 0), rtol=1e-4, atol=1e-5)
    assert norm.seen == (FROZEN,)


def test_another_affine_part_replaces_the_networks_own(images):
    other = {"scale": jnp.array([3.0, 3.0]), "offset": jnp.array([7.0, 7.0])}
    norm = BatchNorm(Statistics(affine=(other,)))
    out = norm(jnp.asarray(images), AFFINE, "linear")
    expected = 3 * normal(images, images.mean((0, 1, 2)), images.var((0, 1, 2))) + 7
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)


def test_images_apart_meet_frozen_moments_and_do_not_count(images):
    apart = np.array([0, 1, 0, 0, 1, 0], bool)
    out, own = jax.jit(split_norm)(jnp.asarray(images), jnp.asarray(apart), FROZEN)
    others = images[~apart]
    np.testing.assert_allclose(own.mean, others.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(own.variance, others.var((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(out[~apart], normal(others, own.mean, own.variance), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(out[apart], normal(images[apart], FROZEN.mean, FROZEN.variance), rtol=1e-4, atol=1e-5)


def test_without_apart_images_it_is_the_usual_normalisation_with_its_gradient(images):
    weights = jnp.cos(jnp.arange(images.size, dtype=jnp.float32)).reshape(images.shape)

    def usual(x):
        return jnp.sum(weights * BatchNorm()(x, AFFINE, "linear"))

    def split(x):
        norm = BatchNorm(Statistics((FROZEN,), jnp.zeros(6, bool)))
        return jnp.sum(weights * norm(x, AFFINE, "linear"))

    ours, theirs = jax.jit(lambda x: (jax.value_and_grad(split)(x), jax.value_and_grad(usual)(x)))(images)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-4)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-3, atol=1e-5)


def test_apart_images_pass_their_gradient_through_the_frozen_scale_alone(images):
    apart = jnp.array([0, 1, 0, 0, 1, 0], bool)

    def seen(x):  # of image 1, whose values no other image's normalisation should see
        return jnp.sum(split_norm(x, apart, FROZEN)[0])

    gradient = jax.jit(jax.grad(seen))(jnp.asarray(images))
    scale = 1 / np.sqrt(np.asarray(FROZEN.variance) + NORM_EPSILON)
    np.testing.assert_allclose(gradient[1], np.broadcast_to(scale, (2, 3, 2)), rtol=1e-5)


def test_a_batch_all_apart_changes_no_statistics(images):
    out, own = jax.jit(split_norm)(jnp.asarray(images), jnp.ones(6, bool), FROZEN)
    jax.tree.map(np.testing.assert_array_equal, own, FROZEN)
    assert np.isfinite(out).all()


def test_no_gradient_passes_through_what_is_remembered(images):
    def remembered(x):
        norm = BatchNorm()
        norm(x, AFFINE, "linear")
        split = split_norm(x, jnp.array([1, 0, 0, 0, 0, 0], bool), FROZEN)[1]
        return jnp.sum(norm.seen[0].mean) + jnp.sum(split.variance)

    assert not np.any(jax.jit(jax.grad(remembered))(jnp.asarray(images)))
