"""The trained baselines: each follows its paper's equations, and learns."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learning import OneClass, assert_learns, before_and_after
from skimage.metrics import structural_similarity
from sklearn.mixture import GaussianMixture

from jaxad.data import digits
from jaxad.methods.conv_autoencoder import conv_autoencoder
from jaxad.methods.dagmm import dagmm, error_features
from jaxad.methods.deep_sad import deep_sad
from jaxad.methods.deep_svdd import deep_svdd
from jaxad.nn.convnet import Autoencoder
from jaxad.nn.network import make_network
from jaxad.training.scoring import map_images, score_images
from jaxad.types import Batch

IMAGES = digits().images


def pixels(n, start=0):
    return IMAGES[start : start + n].astype(np.float32) / 255


@functools.partial(jax.jit, static_argnums=0)
def started(detector, key, images):
    return detector.init(key, images)


@functools.partial(jax.jit, static_argnums=0)
def stepped(detector, key, state, batch):
    return detector.step(key, state, batch)


# ---- Deep SVDD -------------------------------------------------------------------------------------------------

SVDD = {"widths": (4, 8), "kernel": 3, "outputs": 6, "steps": 10}


def test_the_centre_stays_away_from_zero_and_nothing_shifts_the_outputs():
    state = started(deep_svdd(**SVDD), jax.random.key(0), pixels(20))
    assert (np.abs(state.centre) >= 0.1 - 1e-6).all()
    assert all(leaf.ndim > 1 for leaf in jax.tree.leaves(state.variables["params"]))
    after, _ = stepped(deep_svdd(**SVDD), jax.random.key(1), state, Batch(pixels(20)))
    np.testing.assert_array_equal(after.centre, state.centre)


@pytest.mark.parametrize("objective", ["one-class", "soft-boundary"])
def test_losses_and_scores_are_those_of_the_sphere(objective):
    detector = deep_svdd(**SVDD, objective=objective, nu=0.2, warmup=0.0, weight_decay=0.0)
    images = pixels(20)
    state = started(detector, jax.random.key(0), images)  # calibrated on these images: their batch's own moments
    plain = deep_svdd(**SVDD)
    distances = np.asarray(jax.jit(plain.score)(state, images))
    radius = np.quantile(distances, 0.8)
    _, info = stepped(detector, jax.random.key(1), state, Batch(images))
    np.testing.assert_allclose(info.distance, distances.mean(), rtol=1e-3)
    scores = jax.jit(detector.score)(state, images)
    if objective == "one-class":
        np.testing.assert_allclose(info.loss, distances.mean(), rtol=1e-3)
        np.testing.assert_array_equal(scores, distances)
    else:
        expected = radius + np.maximum(distances - radius, 0).mean() / 0.2
        np.testing.assert_allclose(info.loss, expected, rtol=1e-3)
        np.testing.assert_allclose(scores, distances - radius, rtol=1e-3, atol=1e-4)
        assert np.mean(np.asarray(scores) > 1e-5) == pytest.approx(0.2)


@pytest.mark.parametrize(("build", "schedule"), [(deep_svdd, 4500), (deep_sad, 7050)])
def test_short_trainings_keep_their_rate_and_long_ones_have_the_authors_drop(build, schedule):
    """Adam's first move has the size of its rate, whatever step the schedule has come to."""
    images = pixels(12)
    options = {"widths": (2,), "kernel": 3, "outputs": 3, "weight_decay": 0.0}
    moves = {}
    for name, more, steps in (
        ("short", {"steps": 30}, 29),
        ("long", {"steps": 10_000}, schedule // 3 + 1),
        ("of the run", {"steps": 30, "schedule_steps": None}, 11),
    ):
        detector = build(**options, **more)
        state = started(detector, jax.random.key(0), images)
        first, (adam, schedule_state) = state.opt_state
        late = first, (adam, schedule_state._replace(count=jnp.int32(steps)))
        after, _ = stepped(detector, jax.random.key(1), state._replace(opt_state=late), Batch(images))
        pairs = zip(jax.tree.leaves(after.variables["params"]), jax.tree.leaves(state.variables["params"]), strict=True)
        moves[name] = np.median(np.concatenate([np.abs(a - b).ravel() for a, b in pairs]))
    np.testing.assert_allclose(moves["long"] / moves["short"], 0.1, rtol=0.35)
    np.testing.assert_allclose(moves["of the run"] / moves["short"], 0.1, rtol=0.35)


# ---- convolutional autoencoder ---------------------------------------------------------------------------------


def test_ssim_maps_are_those_of_scikit_image():
    detector = conv_autoencoder(widths=(4,), latent_dim=5, distance="ssim")
    images = np.repeat(np.repeat(pixels(3), 2, 1), 2, 2)  # 16x16: room for the window
    state = started(detector, jax.random.key(0), images)
    network = jax.jit(make_network(Autoencoder((4,), 5)).apply)  # image by image, as scoring does: sums have one order
    rebuilt = np.concatenate([network({"params": state.params}, image[None])[0] for image in images])
    settings = {"gaussian_weights": True, "use_sample_covariance": False, "data_range": 1.0, "full": True}
    for image, other, found in zip(images, rebuilt, map_images(detector, state, images, 3)):
        _, similarity = structural_similarity(other[..., 0], image[..., 0], **settings)
        np.testing.assert_allclose(found, 1 - similarity, rtol=1e-3, atol=2e-4)
    l2 = conv_autoencoder(widths=(4,), latent_dim=5)
    errors = np.sqrt(map_images(l2, state, images, 3))  # rounding is that of pixels, not of their squares
    np.testing.assert_allclose(errors, np.abs(rebuilt - images)[..., 0], rtol=0, atol=1e-6)
    scores = score_images(l2, state, images, 3)
    np.testing.assert_allclose(scores, np.square(rebuilt - images).mean((1, 2, 3)), rtol=1e-4)


# ---- DAGMM -----------------------------------------------------------------------------------------------------


def test_energies_are_those_of_scikit_learn_and_losses_those_of_the_paper(rng):
    detector = dagmm(widths=(4,), latent_dim=3, components=2, steps=5)
    images = pixels(40)
    state = started(detector, jax.random.key(0), images)
    network = make_network(Autoencoder((4,), 3))

    @jax.jit
    def z_of(params, images):
        rebuilt, codes = network.apply({"params": params}, images)
        return jnp.concatenate([codes, error_features(images, rebuilt)], 1), rebuilt

    z, rebuilt = z_of(state.params["autoencoder"], images)
    mixture = GaussianMixture(2)
    covariances = np.matmul(state.mixture.choleskys, np.swapaxes(state.mixture.choleskys, 1, 2)).astype(np.float64)
    mixture.weights_, mixture.means_ = np.exp(state.mixture.log_weights), np.asarray(state.mixture.means)
    mixture.covariances_ = covariances
    mixture.precisions_cholesky_ = np.linalg.cholesky(np.linalg.inv(covariances))
    scores = score_images(detector, state, IMAGES[:40], 40)
    np.testing.assert_allclose(scores, -mixture.score_samples(np.asarray(z, np.float64)), rtol=2e-3, atol=2e-3)
    # The mixture of the state is that of these images, so is that of the loss.
    _, info = stepped(detector, jax.random.key(1), state, Batch(images))
    error = np.square(images - rebuilt).mean()
    penalty = np.sum(1 / np.diagonal(covariances, axis1=1, axis2=2))
    np.testing.assert_allclose(info.error, error, rtol=1e-4)
    np.testing.assert_allclose(info.loss, 64 * error + 0.1 * scores.mean() + 0.005 * penalty, rtol=1e-3)


def test_error_features_are_relative_distance_and_cosine(rng):
    x, y = rng.random((2, 5, 4, 4, 1)).astype(np.float32)
    found = jax.jit(error_features)(x, y)
    a, b = x.reshape(5, -1), y.reshape(5, -1)
    norms = [np.linalg.norm(part, axis=1) for part in (a, b, a - b)]
    np.testing.assert_allclose(found[:, 0], norms[2] / norms[0], rtol=1e-4)
    np.testing.assert_allclose(found[:, 1], (a * b).sum(1) / (norms[0] * norms[1]), rtol=1e-4)
    black = jnp.zeros((1, 4, 4, 1))
    slopes = jax.jit(jax.grad(lambda y: jnp.sum(error_features(black, y))))(black)
    assert np.isfinite(slopes).all()


# ---- all -------------------------------------------------------------------------------------------------------

LEARNERS = {  # detector, and the digit that is normal
    "svdd": (deep_svdd(widths=(8, 16), kernel=3, outputs=16, steps=200), 5),
    # By a schedule of its own, so that the sphere grows within the training.
    "soft svdd": (
        deep_svdd(widths=(8, 16), kernel=3, outputs=16, steps=200, schedule_steps=None, objective="soft-boundary"),
        5,
    ),
    "l2": (conv_autoencoder(widths=(8, 16), latent_dim=16, steps=200), 8),
    "ssim": (conv_autoencoder(widths=(8, 16), latent_dim=16, distance="ssim", steps=200), 8),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNERS)
def test_training_makes_it_better_than_it_was_and_than_chance(name):
    detector, digit = LEARNERS[name]
    assert_learns(*before_and_after(detector, OneClass(digit), steps=200))


@pytest.mark.slow
def test_training_makes_every_dagmm_better_than_all_untrained_ones():
    """Random codes are a fair start for a density, so the gain of the mean is not asked to exceed what seeds do."""
    detector = dagmm(widths=(8, 16), latent_dim=4, components=2, steps=300)
    untrained, trained = before_and_after(detector, OneClass(1), steps=300)
    print(f"untrained {untrained}, trained {trained}")
    assert trained.min() > max(0.5, untrained.max())


@pytest.mark.parametrize(
    ("make", "fields", "message"),
    [
        (deep_svdd, {"objective": "two-class"}, "objective is 'two-class'"),
        (deep_svdd, {"nu": 0.0}, "nu=0.0"),
        (deep_svdd, {"kernel": 4}, "kernel is 4"),
        (deep_svdd, {"widths": ()}, r"widths are \(\)"),
        (deep_svdd, {"warmup": 2.0}, "warmup is 2.0"),
        (conv_autoencoder, {"distance": "l7"}, "distance 'l7' is unknown"),
        (conv_autoencoder, {"latent_dim": 0}, "latent_dim is 0"),
        (conv_autoencoder, {"learning_rate": 0.0}, "learning_rate is 0.0"),
        (dagmm, {"components": 0}, "components is 0"),
        (dagmm, {"energy": 0.0}, "energy is 0.0"),
        (dagmm, {"penalty": -1.0}, "penalty is -1.0"),
    ],
)
def test_configs_say_what_is_wrong_with_them(make, fields, message):
    with pytest.raises(ValueError, match=message):
        make(**fields)
