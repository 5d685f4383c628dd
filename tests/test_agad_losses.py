"""AGAD's terms against NumPy in float64, their signs, and reciprocals at zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.methods.agad import losses
from jaxad.methods.agad.losses import EPSILON, Terms, Weights

WEIGHTS = Weights()


@pytest.fixture
def scene(rng):
    """Images, reconstructions, reconstructions of these, logits, latents and classes of a batch."""
    images = rng.uniform(-1, 1, (3, 7, 4, 5, 2)).astype(np.float32)
    logits = rng.normal(0, 3, (2, 7)).astype(np.float32)
    latents = rng.normal(0, 1, (2, 7, 6)).astype(np.float32)
    anomalous = np.array([0, 1, 0, 0, 1, 0, 1], np.float32)
    return images, logits, latents, anomalous


def plain_bce(logits, target):
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return -np.log(p if target else 1 - p)


def plain_terms(scene, members, target):
    (x, rebuilt, again), (_, fake), (z, z_hat), _ = (np.asarray(part, np.float64) for part in scene)
    chosen = members.astype(bool)
    return {
        "adversarial": plain_bce(fake, target)[chosen].mean(),
        "contextual": np.abs(x - rebuilt)[chosen].mean(),
        "pseudo": np.abs(rebuilt - again)[chosen].mean(),
        "latent": ((z - z_hat) ** 2)[chosen].mean(),
    }


def terms(scene, members, target=1):
    (x, rebuilt, again), (_, fake), (z, z_hat), _ = (jnp.asarray(part) for part in scene)
    values = (
        losses.cross_entropy(fake, target),
        losses.absolute_error(x, rebuilt),
        losses.absolute_error(rebuilt, again),
        losses.squared_error(z, z_hat),
    )
    return Terms(*(losses.class_mean(value, jnp.asarray(members)) for value in values))


def test_equations_5_to_9_of_the_normal_images(scene):
    normal = 1 - scene[3]
    expected = plain_terms(scene, normal, 1)
    got = terms(scene, normal)
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(got, name), value, rtol=1e-5, err_msg=name)
    total = 1 * expected["adversarial"] + 50 * expected["contextual"] - 15 * expected["pseudo"]
    total += 5 * expected["latent"]
    np.testing.assert_allclose(losses.normality_loss(got, WEIGHTS), total, rtol=1e-5)


@pytest.mark.parametrize("target", [0, 1])
@pytest.mark.parametrize("contextual", [False, True])
def test_equation_10_of_the_anomalous_images(scene, target, contextual):
    """Reciprocals of the class's means, all positive; the printed target is 0, the default 1."""
    anomalous = scene[3]
    expected = plain_terms(scene, anomalous, target)
    total = 1 / (expected["adversarial"] + EPSILON) + 15 / (expected["pseudo"] + EPSILON)
    total += 5 / (expected["latent"] + EPSILON)
    total += 50 / (expected["contextual"] + EPSILON) if contextual else 0
    got = losses.anomaly_loss(terms(scene, anomalous, target), WEIGHTS, contextual=contextual)
    np.testing.assert_allclose(got, total, rtol=1e-4)


def test_another_epsilon_bounds_the_reciprocals(scene):
    expected = plain_terms(scene, scene[3], 1)
    total = 1 / (expected["adversarial"] + 0.5) + 15 / (expected["pseudo"] + 0.5) + 5 / (expected["latent"] + 0.5)
    np.testing.assert_allclose(losses.anomaly_loss(terms(scene, scene[3]), WEIGHTS, epsilon=0.5), total, rtol=1e-4)


def test_the_mean_comes_before_the_reciprocal():
    """Distances 0 and 1: the reciprocal of the mean is 2, the mean of reciprocals half a million."""
    distance = losses.class_mean(jnp.array([0.0, 1.0]), jnp.ones(2))
    only = Weights(adversarial=0.0, contextual=0.0, pseudo=1.0, latent=0.0)
    zero = jnp.float32(0)
    got = losses.anomaly_loss(Terms(zero, zero, distance, zero), only)
    np.testing.assert_allclose(got, 2, rtol=1e-5)


def test_without_the_adversarial_context_its_terms_are_gone(scene):
    without = WEIGHTS._replace(pseudo=0.0)
    normal, anomalous = plain_terms(scene, 1 - scene[3], 1), plain_terms(scene, scene[3], 1)
    got = losses.normality_loss(terms(scene, 1 - scene[3]), without)
    np.testing.assert_allclose(got, normal["adversarial"] + 50 * normal["contextual"] + 5 * normal["latent"], rtol=1e-5)
    got = losses.anomaly_loss(terms(scene, scene[3]), without)
    np.testing.assert_allclose(got, 1 / anomalous["adversarial"] + 5 / anomalous["latent"], rtol=1e-4)


def test_reciprocals_and_their_gradients_are_finite_at_zero():
    """A generator that copies its input: all distances exactly 0, and D sure of everything."""
    images = jnp.ones((2, 4, 4, 1))

    def loss(rebuilt, logits, latent):
        again = rebuilt
        values = Terms(
            losses.cross_entropy(logits, 1).mean(),
            losses.absolute_error(images, rebuilt).mean(),
            losses.absolute_error(rebuilt, again).mean(),
            losses.squared_error(latent, latent).mean(),
        )
        return losses.anomaly_loss(values, WEIGHTS, contextual=True)

    arguments = images, jnp.full(2, 200.0), jnp.zeros((2, 3))
    value, gradients = jax.value_and_grad(loss, (0, 1, 2))(*arguments)
    np.testing.assert_allclose(value, (1 + 15 + 5 + 50) / EPSILON, rtol=1e-5)
    assert all(np.isfinite(g).all() for g in gradients)


def test_cross_entropy_is_exact_where_probabilities_round_to_one():
    logits = jnp.array([-200.0, -20.0, 0.0, 20.0, 200.0])
    np.testing.assert_allclose(losses.cross_entropy(logits, 1)[:3], [200, 20, np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(losses.cross_entropy(logits, 1)[3], np.exp(-20), rtol=1e-5)
    np.testing.assert_array_equal(losses.cross_entropy(logits, 0), losses.cross_entropy(-logits, 1))


def test_the_discriminator_tells_normal_images_from_their_reconstructions_and_from_anomalies(scene):
    """Equations 2 and 4; reconstructions of anomalies do not count."""
    _, (real, fake), _, anomalous = scene
    normal = 1 - anomalous
    expected = (plain_bce(real, 1) + plain_bce(fake, 0))[normal > 0].mean() + plain_bce(real, 0)[anomalous > 0].mean()
    arguments = [jnp.asarray(x) for x in (real, fake, normal, anomalous)]
    np.testing.assert_allclose(losses.discriminator_loss(*arguments), expected, rtol=1e-5)
    gradient = jax.grad(losses.discriminator_loss, 1)(*arguments)
    np.testing.assert_array_equal(np.asarray(gradient)[anomalous > 0], 0)


def test_a_class_without_images_counts_nothing():
    assert losses.class_mean(jnp.ones(3), jnp.zeros(3)) == 0
    assert losses.present(jnp.zeros(3)) == 0
    assert losses.present(jnp.array([0.0, 1.0])) == 1


def test_shapes_are_checked():
    with pytest.raises(AssertionError):
        losses.cross_entropy(jnp.zeros((3, 1)), 1)
    with pytest.raises(AssertionError):
        losses.absolute_error(jnp.zeros((3, 4, 4, 1)), jnp.zeros((3, 4, 4, 2)))
    with pytest.raises(AssertionError):
        losses.squared_error(jnp.zeros((3, 4)), jnp.zeros((3, 5)))
