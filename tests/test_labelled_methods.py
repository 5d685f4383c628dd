"""Deep SAD and the deviation network: their objectives by PyTorch, and that labelled anomalies act."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learning import OneClass, assert_learns, before_and_after

from jaxad.data import digits
from jaxad.methods.deep_sad import deep_sad, sad_loss
from jaxad.methods.deep_svdd import deep_svdd
from jaxad.methods.devnet import REFERENCES, deviation_loss, devnet, squared_weights
from jaxad.metrics.image import auroc
from jaxad.training.calibration import calibrate
from jaxad.training.loop import fit
from jaxad.training.scoring import score_images
from jaxad.types import Batch

IMAGES, LABELS = digits().images, digits().labels
MARKED = np.arange(12) % 3 == 0
SAD = {"widths": (4,), "kernel": 3, "outputs": 5}


def pixels(n, start=0):
    return IMAGES[start : start + n].astype(np.float32) / 255


@functools.partial(jax.jit, static_argnums=(0, 1))
def called(detector, part, *arguments):
    return getattr(detector, part)(*arguments)


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


# ---- Deep SAD --------------------------------------------------------------------------------------------------


def test_the_objective_of_deep_sad_and_its_slope_are_those_of_pytorch(rng):
    """Distances to the power of the label, as section 3.2 writes it: -1 for anomalies."""
    torch = pytest.importorskip("torch")
    distances = rng.uniform(0.01, 4.0, 12).astype(np.float32)
    powers = torch.tensor(np.where(MARKED, -1.0, 1.0))
    for eta in (1.0, 2.5):
        d = torch.tensor(distances.astype(np.float64), requires_grad=True)
        weights = torch.where(powers < 0, eta, 1.0)
        loss = torch.mean(weights * (d + 1e-6 * (powers < 0)) ** powers)
        loss.backward()
        ours = jax.jit(jax.value_and_grad(functools.partial(sad_loss, eta=eta, epsilon=1e-6)))(distances, MARKED)
        np.testing.assert_allclose(ours[0], loss.item(), rtol=1e-5)
        np.testing.assert_allclose(ours[1], d.grad, rtol=1e-4)


def test_an_anomaly_on_the_centre_has_a_finite_loss_and_slope():
    loss, slope = jax.value_and_grad(functools.partial(sad_loss, eta=1.0, epsilon=1e-6))(
        jnp.zeros(2), jnp.ones(2, bool)
    )
    assert np.isfinite(loss)
    assert np.isfinite(slope).all()


def test_without_labels_it_is_deep_svdd():
    images = pixels(12)
    sad, svdd = deep_sad(**SAD, schedule_steps=None, steps=90), deep_svdd(**SAD)
    states = [called(d, "init", jax.random.key(0), images) for d in (sad, svdd)]
    np.testing.assert_array_equal(states[0].centre, states[1].centre)
    for labels in (None, jnp.zeros(12, jnp.int32)):
        after, info = called(sad, "step", jax.random.key(1), states[0], Batch(images, labels))
        wanted, told = called(svdd, "step", jax.random.key(1), states[1], Batch(images))
        np.testing.assert_allclose(flat(after.variables), flat(wanted.variables), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose([info.loss, info.spread], [told.loss, told.spread], rtol=1e-5)
        assert info.anomalous_distance == 0
    scores = [called(d, "score", state, images) for d, state in zip((sad, svdd), states)]
    np.testing.assert_allclose(*scores, rtol=1e-4)


def test_the_loss_of_a_step_is_that_of_its_distances():
    """Calibrated on the very batch, scores are the distances that training sees."""
    images, detector = pixels(12), deep_sad(**SAD, eta=3.0)
    state = called(detector, "init", jax.random.key(0), images)
    distances = np.asarray(called(detector, "score", state, images), np.float64)
    _, info = called(detector, "step", jax.random.key(1), state, Batch(images, jnp.asarray(MARKED, jnp.int32)))
    np.testing.assert_allclose(info.loss, np.where(MARKED, 3 / (distances + 1e-6), distances).mean(), rtol=1e-3)
    means = [distances[~MARKED].mean(), distances[MARKED].mean()]
    np.testing.assert_allclose([info.distance, info.anomalous_distance], means, rtol=1e-3)


@pytest.mark.slow
def test_deep_sad_learns_and_labels_help():
    task = OneClass(5)
    detector = deep_sad(widths=(8, 16), kernel=3, outputs=16, steps=200)
    untrained, plain = before_and_after(detector, task, steps=200)
    assert_learns(untrained, plain)
    others = IMAGES[LABELS != 5][200:230]  # none of those that are tested
    images, labels = np.concatenate([task.train, others]), np.repeat([0, 1], [len(task.train), 30])
    told = []
    for seed in range(3):
        state, _ = fit(detector, jax.random.key(seed), images, labels=labels, steps=200, batch_size=32, chunk=50)
        told.append(task.value(detector, calibrate(detector, state, task.train)))
    print("labelled", told)
    assert np.mean(told) > plain.mean()


# ---- the deviation network -------------------------------------------------------------------------------------


def test_the_deviation_loss_and_its_slope_are_those_of_pytorch(rng):
    torch = pytest.importorskip("torch")
    scores = rng.normal(0, 4, 12).astype(np.float32)
    references = rng.standard_normal(500).astype(np.float32)
    s, r = (torch.tensor(part.astype(np.float64)) for part in (scores, references))
    s.requires_grad_()
    deviations = (s - r.mean()) / r.std(correction=0)
    y = torch.tensor(MARKED.astype(np.float64))
    loss = torch.mean((1 - y) * deviations.abs() + y * torch.clamp(5 - deviations, min=0))
    loss.backward()
    ours = jax.jit(jax.value_and_grad(functools.partial(deviation_loss, margin=5.0)))(scores, MARKED, references)
    np.testing.assert_allclose(ours[0], loss.item(), rtol=1e-5)
    np.testing.assert_allclose(ours[1], s.grad, rtol=1e-4)


def test_a_step_has_the_loss_of_its_scores_and_weights_and_rmsprops_clipped_first_move():
    images, detector = pixels(12), devnet(widths=(4,), weight_decay=0.1)
    state = called(detector, "init", jax.random.key(0), images)
    batch = Batch(images, jnp.asarray(MARKED, jnp.int32))
    after, info = called(detector, "step", jax.random.key(1), state, batch)
    scores = called(detector, "score", state, images)
    references = jax.random.normal(jax.random.key(1), (REFERENCES,))
    expected = deviation_loss(scores, jnp.asarray(MARKED), references, margin=5.0)
    np.testing.assert_allclose(info.deviation, expected, rtol=1e-4)
    np.testing.assert_allclose(info.loss, expected + 0.1 * squared_weights(state.params), rtol=1e-4)
    kernel = state.params["ConvBlock_0"]["Conv_0"]["kernel"]
    np.testing.assert_allclose(squared_weights(state.params), np.sum(np.square(kernel)), rtol=1e-5)

    def objective(params):
        scores = detector.score(state._replace(params=params), images)
        return deviation_loss(scores, jnp.asarray(MARKED), references, margin=5.0) + 0.1 * squared_weights(params)

    slope = flat(jax.jit(jax.grad(objective))(state.params)).astype(np.float64)
    slope /= max(1.0, np.linalg.norm(slope))
    moved = flat(after.params) - flat(state.params)
    expected = -1e-3 * slope / np.sqrt(0.1 * slope**2 + 1e-7)
    np.testing.assert_allclose(moved, expected, rtol=2e-2, atol=2e-6)


def test_the_deviation_network_needs_labels():
    detector = devnet(widths=(4,))
    with pytest.raises(ValueError, match="labels is None; devnet learns from labelled anomalies: give labels to fit"):
        fit(detector, jax.random.key(0), IMAGES[:8], steps=1, batch_size=4)


def test_a_few_labelled_digits_teach_the_deviation_network_the_others():
    zeros, known, others = IMAGES[LABELS == 0], IMAGES[LABELS != 0][:30], IMAGES[LABELS != 0][100:300]
    images, labels = np.concatenate([zeros[:120], known]), np.repeat([0, 1], [120, 30])
    detector = devnet(widths=(8, 16))
    options = {"labels": labels, "anomalies_per_batch": 16, "batch_size": 32, "chunk": 50}
    states = [fit(detector, jax.random.key(0), images, steps=steps, **options)[0] for steps in (0, 100)]
    test, truth = np.concatenate([zeros[120:], others]), np.repeat([0, 1], [len(zeros) - 120, 200])
    before, after = (float(auroc(score_images(detector, state, test, 64), truth)) for state in states)
    print("untrained", before, "trained", after)
    assert after > max(0.9, before)


@pytest.mark.parametrize(
    ("build", "fields", "message"),
    [
        (deep_sad, {"eta": -1.0}, "eta is -1.0; give a number from 0 upwards"),
        (deep_sad, {"epsilon": 0.0}, "epsilon is 0.0; give a number above 0"),
        (deep_sad, {"kernel": 4}, "kernel is 4; give an odd size"),
        (deep_sad, {"steps": -1}, "steps is -1; the least is 1"),
        (deep_sad, {"schedule_steps": 0}, "schedule_steps is 0; the least is 1"),
        (devnet, {"margin": 0.0}, "margin is 0.0; give a number above 0"),
        (devnet, {"weight_decay": -1.0}, "weight_decay is -1.0"),
        (devnet, {"steps": 0}, "steps is 0; the least is 1"),
    ],
)
def test_configs_say_what_is_wrong_with_them(build, fields, message):
    with pytest.raises(ValueError, match=message):
        build(**fields)
