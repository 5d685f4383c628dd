"""A stand-alone autoencoder is the search's child: same loss, same score, frozen statistics, and it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.data import digits
from jaxad.methods.autoencoder import AutoencoderConfig, autoencoder, reconstruct
from jaxad.metrics.image import auroc
from jaxad.nas import supernet
from jaxad.nas.space import SearchSpace
from jaxad.nn.architecture import Architecture, Layer
from jaxad.nn.objectives.child import ChildConfig, make_child
from jaxad.training.loop import fit
from jaxad.training.scoring import map_images, score_images
from jaxad.types import Batch

IMAGES = digits().images
LABELS = digits().labels
ONES = IMAGES[LABELS == 1][:110]


def layer(channels=4, norm="batch", activation="elu", pool_kernel=3):
    return Layer(channels=channels, kernel=3, pool="average", pool_kernel=pool_kernel, norm=norm, activation=activation)


def architecture(hypothesis="density", distance="l2", norm="batch"):
    return Architecture(hypothesis=hypothesis, distance=distance, layers=(layer(norm=norm), layer(norm=norm)))


SMALL = Architecture(hypothesis="reconstruction", distance="l2", layers=(layer(norm="none"),))
CALIBRATE = jax.jit(lambda detector, state, images: detector.calibrate(state, images), static_argnums=0)


def pixels(n, start=0):
    return IMAGES[start : start + n].astype(np.float32) / 255


@pytest.fixture(scope="module")
def trained():
    """A small detector after some steps, not yet calibrated."""
    detector = autoencoder(architecture=architecture(), steps=200)
    state, _ = fit(detector, jax.random.key(0), ONES, steps=8, batch_size=32, chunk=8)
    return detector, state


def test_a_step_follows_the_gradient_of_the_childs_loss():
    config, chosen = ChildConfig(optimiser="sgd", learning_rate=0.01), architecture("cluster", "l1")
    detector, child = autoencoder(architecture=chosen, child=config, steps=10), make_child(chosen, config)

    @jax.jit
    def both(init_key, step_key):
        state = detector.init(init_key, pixels(16))
        gradient = jax.value_and_grad(child.loss, has_aux=True)
        return state, detector.step(step_key, state, Batch(pixels(16, 50))), gradient(state.params, pixels(16, 50), 0)

    state, (after, info), ((loss, parts), gradients) = both(jax.random.key(0), jax.random.key(1))
    np.testing.assert_allclose(info.loss, loss, rtol=1e-5)
    np.testing.assert_allclose(info.loss, parts.distance + 0.1 * parts.regulariser, rtol=1e-5)
    norm = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(gradients)))
    np.testing.assert_allclose(info.gradient_norm, norm, rtol=1e-4)
    expected = jax.tree.map(lambda p, g: p - 0.01 * g, state.params, gradients)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), after.params, expected)
    assert after.step == 1


def test_the_schedule_is_made_for_the_steps_of_the_config():
    def first_steps(key, steps):
        detector = autoencoder(architecture=SMALL, steps=steps)
        with jax.debug_key_reuse(False):  # a step needs no randomness
            states = [detector.init(key, pixels(8))]
            for _ in range(2):
                states.append(detector.step(key, states[-1], Batch(pixels(8)))[0])
        return [state.params for state in states]

    run = jax.jit(first_steps, static_argnums=1)
    (_, *two), (_, *many) = run(jax.random.key(0), 2), run(jax.random.key(0), 1000)
    moved = [jax.tree.leaves(jax.tree.map(lambda a, b: np.asarray(b - a), *params)) for params in (two, many)]
    moved = [np.concatenate([leaf.ravel() for leaf in leaves]) for leaves in moved]
    assert np.abs(moved[1]).max() > 1e-3
    np.testing.assert_allclose(moved[0], moved[1] / 10, rtol=1e-2, atol=1e-6)  # half of 2 steps have passed


def test_a_shared_weight_child_and_the_stand_alone_one_agree():
    space = SearchSpace(num_layers=2, channels=(4, 8), kernels=(3, 5), pool_kernels=(1, 3))
    shared = supernet.init(np.random.default_rng(0), space, 1)
    config, chosen, images = ChildConfig(), architecture("centroid", "l21"), pixels(12)
    child, detector = make_child(chosen, config), autoencoder(architecture=chosen, child=config)

    @jax.jit
    def shared_child(weights):
        output = child.apply(weights, images)
        stats = child.fit(weights, images, output.moments)
        loss = child.loss(weights, images, 0)[0]
        return loss, output.reconstruction, child.score(weights, stats, images, output.moments)

    @jax.jit
    def stand_alone(key, weights):
        state = detector.init(key, images)
        weights = weights | {"hypothesis": state.params["hypothesis"]}
        state = detector.calibrate(state._replace(params=weights), images)
        loss = detector.step(key, state, Batch(images))[1].loss
        return weights, (loss, reconstruct(chosen, state, images), detector.score(state, images))

    with jax.debug_key_reuse(False):  # the step needs no randomness
        weights, found = stand_alone(jax.random.key(0), supernet.take(shared, chosen))
    for a, b in zip(found, shared_child(weights)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_calibration_freezes_the_moments_of_all_images(trained):
    detector, state = trained
    images = pixels(150)  # three batches of 50
    calibrated = CALIBRATE(detector, state, IMAGES[:150])
    layers, child = architecture().layers, make_child(architecture(), ChildConfig())
    per_batch = [jax.jit(child.apply)(state.params, images[i : i + 50]).moments for i in (0, 50, 100)]
    assert len(calibrated.moments) == 2 * len(layers)
    for place, moments in enumerate(calibrated.moments):
        means = np.stack([batch[place].mean for batch in per_batch])
        second = np.stack([batch[place].variance + batch[place].mean ** 2 for batch in per_batch])
        np.testing.assert_allclose(moments.mean, means.mean(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(moments.variance, second.mean(0) - means.mean(0) ** 2, rtol=1e-3, atol=1e-5)
    stats = jax.jit(child.fit)(state.params, images, calibrated.moments)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), calibrated.stats, stats)


def test_stored_images_calibrate_as_scaled_ones_do(trained):
    def known(state):  # covariances instead of their factors, which rounding reaches magnified
        factors = state.stats.choleskys
        return state._replace(stats=state.stats._replace(choleskys=factors @ factors.transpose(0, 2, 1)))

    stored, scaled = CALIBRATE(*trained, IMAGES[:150]), CALIBRATE(*trained, pixels(150))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), known(stored), known(scaled))


def test_scores_are_distance_plus_weighted_regulariser_and_maps_belong_to_the_distance(trained):
    detector, state = trained
    state = CALIBRATE(detector, state, IMAGES[:150])
    images = pixels(10, 300)
    child = make_child(architecture(), ChildConfig())
    parts = jax.jit(child.parts)(state.params, state.stats, images, state.moments)
    expected = parts.distance + 0.1 * parts.regulariser
    np.testing.assert_allclose(score_images(detector, state, images, 10), expected, rtol=1e-4, atol=1e-5)
    reconstructed = jax.jit(reconstruct, static_argnums=0)(architecture(), state, images)
    maps = map_images(detector, state, images, 10)
    np.testing.assert_allclose(maps, np.square(np.asarray(reconstructed) - images).mean(-1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(maps.mean((1, 2)), parts.distance, rtol=1e-4)


def test_any_number_of_images_is_scored_batch_by_batch(trained):
    detector, state = trained
    whole = np.asarray(jax.jit(detector.score)(state, pixels(23)))
    for images in (IMAGES[:23], pixels(23), jnp.asarray(IMAGES[:23])):
        scores = score_images(detector, state, images, batch_size=10)
        assert scores.shape == (23,)
        np.testing.assert_allclose(scores, whole, rtol=1e-4, atol=1e-5)
    assert map_images(detector, state, IMAGES[:23], batch_size=10).shape == (23, 8, 8)
    assert score_images(detector, state, IMAGES[:3], batch_size=10).shape == (3,)
    with pytest.raises(ValueError, match="has no anomaly maps"):
        map_images(detector._replace(score_map=None), state, IMAGES[:2])
    with pytest.raises(ValueError, match="at least one image"):
        score_images(detector, state, IMAGES[:0])
    with pytest.raises(ValueError, match="batch_size is 0"):
        score_images(detector, state, IMAGES[:2], batch_size=0)


def test_it_learns_to_tell_another_digit_from_ones(trained):
    detector, state = trained
    options = {"steps": 200, "batch_size": 32, "chunk": 8, "state": state, "start_step": 8}
    state, history = fit(detector, jax.random.key(0), ONES, **options)
    assert history.info.distance[-10:].mean() < 0.8 * history.info.distance[:5].mean()
    state = CALIBRATE(detector, state, np.concatenate([ONES, ONES[:40]]))
    others = np.concatenate([IMAGES[LABELS == 1][110:], IMAGES[LABELS == 0][:60]])
    labels = np.repeat([0, 1], [len(others) - 60, 60])
    assert auroc(score_images(detector, state, others, 10), labels) > 0.85


def test_configs_say_what_is_wrong_with_them():
    chosen = architecture()
    with pytest.raises(ValueError, match="steps is 0"):
        AutoencoderConfig(architecture=chosen, steps=0)
    with pytest.raises(ValueError, match="give a jaxad"):
        AutoencoderConfig(architecture="resnet")
    config = AutoencoderConfig(architecture=chosen)
    with pytest.raises(ValueError, match="steps is 0"):
        autoencoder(config, steps=0)
