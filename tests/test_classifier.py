"""A classifier of the normal classes: MSP, ODIN, and what labels mean to it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learning import assert_learns
from scipy.special import log_softmax

from jaxad import data
from jaxad.data import digits
from jaxad.methods import DETECTORS
from jaxad.methods.classifier import classifier, negative_log_confidence
from jaxad.methods.common.labels import training_labels, with_classes
from jaxad.metrics.image import auroc
from jaxad.training.loop import fit
from jaxad.training.scoring import score_images
from jaxad.types import Batch

IMAGES, LABELS = digits().images, digits().labels


def pixels(n, start=0):
    return IMAGES[start : start + n].astype(np.float32) / 255


@functools.partial(jax.jit, static_argnums=0)
def started(detector, key, images):
    return detector.init(key, images)


@functools.partial(jax.jit, static_argnums=0)
def stepped(detector, key, state, batch):
    return detector.step(key, state, batch)


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def test_confidence_is_that_of_the_softmax_even_where_it_is_nearly_one(rng):
    logits = (10 * rng.standard_normal((50, 7))).astype(np.float32)
    logits[0] = [60, 0, 0, 0, 0, 0, 0]
    exact = -log_softmax(logits.astype(np.float64), axis=1).max(1)
    found = jax.jit(lambda x: negative_log_confidence(x, 1.0))(logits)
    np.testing.assert_allclose(found[1:], exact[1:], rtol=1e-4)
    np.testing.assert_allclose(found[0], 6 * np.exp(-60), rtol=1e-4)  # which even SciPy's float64 rounds to 0
    exact = 1000 * (-log_softmax(logits.astype(np.float64) / 1000, axis=1).max(1) - np.log(7))
    found = jax.jit(lambda x: negative_log_confidence(x, 1000.0))(logits)
    np.testing.assert_allclose(found, exact, rtol=1e-4)


def test_odin_moves_each_image_towards_confidence():
    config = {"widths": (4,), "classes": 10, "steps": 5}
    images = pixels(12)
    msp, far, near = (
        classifier(**config, **more) for more in ({}, {"score": "odin"}, {"score": "odin", "perturbation": 0})
    )
    state = started(msp, jax.random.key(0), images)
    moved, still = (np.asarray(jax.jit(d.score)(state, images)) for d in (far, near))
    assert (moved < still).all()
    slope = jax.jit(jax.grad(lambda x: jnp.sum(near.score(state, x))))(images)
    by_hand = jax.jit(near.score)(state, images - np.float32(0.0014) * np.sign(slope))
    np.testing.assert_allclose(moved, by_hand, rtol=1e-4, atol=1e-5)


def test_images_without_a_class_teach_nothing_and_labels_must_be_given():
    detector = classifier(widths=(4,), steps=5)
    state = started(detector, jax.random.key(0), pixels(8))
    labels = jnp.asarray(LABELS[:8])
    some, info = stepped(detector, jax.random.key(1), state, Batch(pixels(8), labels.at[3:].set(-1)))
    assert np.isfinite(info.loss)
    none, nothing = stepped(detector, jax.random.key(1), state, Batch(pixels(8), jnp.full(8, -1)))
    assert nothing.loss == 0
    np.testing.assert_array_equal(flat(none.variables), flat(state.variables))
    assert not np.array_equal(flat(some.variables), flat(state.variables))
    with pytest.raises(ValueError, match="labels is None; a classifier needs the class of every normal image"):
        fit(detector, jax.random.key(0), IMAGES[:8], steps=1, batch_size=4)


@pytest.mark.slow
@pytest.mark.parametrize("score", ["msp", "odin"])
def test_a_classifier_of_five_digits_is_unsure_of_the_others(score):
    detector = classifier(widths=(16, 32), classes=5, score=score, steps=150, learning_rate=3e-3)
    known = LABELS < 5
    train, classes = IMAGES[known][:600], LABELS[known][:600]
    test = np.concatenate([IMAGES[known][600:], IMAGES[~known][:300]])
    labels = np.repeat([0, 1], [known.sum() - 600, 300])
    values = []
    for seed in range(3):
        options = {"batch_size": 32, "chunk": 50, "labels": classes}
        states = [fit(detector, jax.random.key(seed), train, steps=n, **options)[0] for n in (0, 150)]
        states = [jax.jit(detector.calibrate)(state, train) for state in states]
        values.append([float(auroc(score_images(detector, state, test, 64), labels)) for state in states])
    assert_learns(*np.array(values).T)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"classes": 1}, "classes is 1"),
        ({"score": "energy"}, "score is 'energy'"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"perturbation": -0.1}, "perturbation is -0.1"),
    ],
)
def test_configs_say_what_is_wrong_with_them(fields, message):
    with pytest.raises(ValueError, match=message):
        classifier(**fields)


def test_there_are_as_many_outputs_as_normal_classes_unless_settings_say():
    task = data.load_task("digits", normal_classes=["3", "5", "8"], anomaly_ratio=0.2, limit=200)
    config = DETECTORS["classifier"].config()
    assert with_classes(config, task).classes == 3
    assert with_classes(config, task, ("score=odin", "classes=10")).classes == 10
    assert sorted(set(training_labels("classifier", with_classes(config, task), task).tolist())) == [0, 1, 2]
    other = DETECTORS["pca"].config()
    assert with_classes(other, task) is other
