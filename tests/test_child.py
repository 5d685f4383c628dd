"""The objective of a child: its two terms, its training schedule, and that no choice of an architecture is ignored."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxad.nas import supernet
from jaxad.nas.space import SearchSpace
from jaxad.nn.architecture import Architecture, Layer
from jaxad.nn.objectives import CentroidParams
from jaxad.nn.objectives.child import ChildConfig, make_child, make_optimiser

LAYER = Layer(channels=8, kernel=3, pool="max", pool_kernel=3, norm="none", activation="tanh")
BASE = Architecture(hypothesis="centroid", distance="l2", layers=(LAYER,))
CONFIG = ChildConfig(regulariser=0.5)
ACTIONS = {
    "hypothesis": "reconstruction",
    "distance": "ssim",
    "channels": 3,
    "kernel": 5,
    "pool": "average",
    "pool_kernel": 5,
    "norm": "batch",
    "activation": "elu",
}


def images_of(count=6):
    return np.random.default_rng(3).random((count, 9, 7, 1), dtype=np.float32)


SPACE = SearchSpace(num_layers=1, channels=(3, 8), kernels=(3, 5))
SHARED = supernet.init(np.random.default_rng(5), SPACE, 1)
HYPOTHESES = {"centroid": CentroidParams(np.linspace(-1, 1, 10, dtype=np.float32)), "reconstruction": ()}


def params_of(architecture):
    """The same shared weights for all, with scales and offsets that show where they are forgotten."""
    shared = jax.tree.map(np.copy, SHARED)
    for role in ("encoder", "decoder"):
        width = shared[role][0]["offset"].size
        shared[role][0] |= {
            "scale": np.linspace(1, 2, width, dtype=np.float32),
            "offset": np.full(width, 0.3, np.float32),
        }
    return supernet.take(shared, architecture) | {"hypothesis": HYPOTHESES[architecture.hypothesis]}


def evaluate(architecture):
    """(reconstruction, latent, loss, scores) of a child with its part of the same shared weights."""
    child = make_child(architecture, CONFIG)

    @jax.jit
    def run(params, images):
        output = child.apply(params, images)
        stats = child.fit(params, images[:4])
        return (
            output.reconstruction,
            output.latent,
            child.loss(params, images, 0)[0],
            child.score(params, stats, images),
        )

    return [np.asarray(result) for result in run(params_of(architecture), images_of())]


@pytest.fixture(scope="module")
def base():
    return evaluate(BASE)


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_changes_the_child(base, action):
    """Loss and scores see all eight choices; what a layer chooses also shows in image and latent."""
    value = ACTIONS[action]
    if action in ("hypothesis", "distance"):
        changed = evaluate(dataclasses.replace(BASE, **{action: value}))
    else:
        changed = evaluate(dataclasses.replace(BASE, layers=(dataclasses.replace(LAYER, **{action: value}),)))
    differs = [np.abs(new - old).max() > 1e-3 for new, old in zip(changed, base)]
    assert differs == [action not in ("hypothesis", "distance")] * 2 + [True] * 2
    # Every image has a score of its own, and each is affected.
    assert (changed[3] != base[3]).all()


def test_loss_and_score_are_the_sum_of_their_terms():
    """DIST + lambda REG, with both terms by hand: l2 and a sphere."""
    child, images, params = make_child(BASE, CONFIG), images_of(), params_of(BASE)
    output, early, late, stats = jax.jit(
        lambda params, images: (
            child.apply(params, images),
            child.loss(params, images, 0),
            child.loss(params, images, 10),
            child.fit(params, images[:4]),
        )
    )(params, images)
    score, parts = jax.jit(lambda *args: (child.score(*args), child.parts(*args)))(params, stats, images)

    output, stats = jax.device_get((output, stats))
    distances = ((output.reconstruction - images) ** 2).mean((1, 2, 3))
    outside = ((output.latent - params["hypothesis"].centre) ** 2).sum(1)
    radius = np.quantile(outside, 0.9)
    for (loss, terms), expected in (
        (early, outside.mean() / 0.1),
        (late, radius + np.maximum(outside - radius, 0).mean() / 0.1),
    ):
        np.testing.assert_allclose(terms.distance, distances.mean(), rtol=1e-5)
        np.testing.assert_allclose(terms.regulariser, expected, rtol=1e-4)
        np.testing.assert_allclose(loss, distances.mean() + 0.5 * expected, rtol=1e-4)

    scores = outside - np.quantile(outside[:4], 0.9)
    np.testing.assert_allclose(parts.distance, distances, rtol=1e-5)
    np.testing.assert_allclose(parts.regulariser, scores, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(score, distances + 0.5 * scores, rtol=1e-4, atol=1e-4)


def test_the_hypothesis_starts_from_the_first_latents():
    child, images, params = make_child(BASE, CONFIG), images_of(), params_of(BASE)
    params["projection"]["bias"] += np.float32(5)
    centre, latent = jax.jit(
        lambda key, params, images: (child.start(key, params, images).centre, child.apply(params, images).latent)
    )(jax.random.key(0), params, images)
    np.testing.assert_allclose(centre, np.asarray(latent).mean(0), rtol=1e-5)


def test_a_child_of_its_own_has_the_shapes_of_a_share_of_omega():
    for name in HYPOTHESES:
        architecture = dataclasses.replace(BASE, hypothesis=name)
        made = jax.eval_shape(make_child(architecture, CONFIG).init, jax.random.key(0), images_of())
        assert jax.tree.map(np.shape, made) == jax.tree.map(np.shape, params_of(architecture))


def test_gradients_are_clipped_value_by_value():
    transformation = make_optimiser(ChildConfig(optimiser="sgd", learning_rate=0.5, clip=0.2), 100)
    gradients = {"large": jnp.float32([3.0, -0.5, 0.1]), "small": jnp.float32([0.1, -0.1])}
    updates, _ = transformation.update(gradients, transformation.init(gradients), gradients)
    np.testing.assert_allclose(updates["large"], [-0.1, 0.1, -0.05], rtol=1e-5)
    np.testing.assert_allclose(updates["small"], [-0.05, 0.05], rtol=1e-5)


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_step_sizes_drop_at_half_and_at_three_quarters(optimiser):
    """Under a constant gradient of one Adam moves by its step size, momentum by a known sum."""
    transformation = make_optimiser(ChildConfig(optimiser=optimiser, learning_rate=0.1), 8)
    value, state, steps = jnp.float32(0), transformation.init(jnp.float32(0)), []
    for _ in range(8):
        update, state = transformation.update(jnp.float32(1), state, value)
        steps.append(-float(update))
    rates = np.array([0.1] * 4 + [0.01] * 2 + [0.001] * 2)
    momentum = np.cumsum(0.9 ** np.arange(8)) if optimiser == "sgd" else np.ones(8)
    np.testing.assert_allclose(steps, rates * momentum, rtol=1e-4)


def test_a_single_step_has_the_full_step_size():
    transformation = make_optimiser(ChildConfig(optimiser="sgd", learning_rate=0.1), 1)
    update, _ = transformation.update(jnp.float32(1), transformation.init(jnp.float32(0)))
    np.testing.assert_allclose(update, -0.1, rtol=1e-6)
    assert isinstance(transformation, optax.GradientTransformation)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimiser": "rmsprop"}, "optimiser is 'rmsprop'; choose one of adam, sgd"),
        ({"clip": 0.0}, r"clip is 0\.0; give a positive number"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; give a positive number"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"learning_rate": float("inf")}, "learning_rate is inf"),
        ({"regulariser": -1.0}, "regulariser is -1.0; give a number from 0 upwards"),
        ({"regulariser": float("nan")}, "regulariser is nan"),
    ],
)
def test_bad_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ChildConfig(**options)
