"""What a trial is: which images in which order, what reward for which scores, what becomes of a lack of memory."""

import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from jaxad.nas import trial
from jaxad.nas.trial import TrialConfig

batch_order = jax.jit(trial.batch_order, static_argnums=(1, 2, 3))
reward_of = jax.jit(trial.reward_of, static_argnums=3)


def order_of(images, steps, batch_size, seed=0):
    return np.asarray(batch_order(jax.random.key(seed), images, steps, batch_size))


@pytest.mark.parametrize(("images", "steps", "batch_size"), [(10, 5, 4), (12, 3, 4), (5, 2, 8), (7, 1, 3)])
def test_the_order_is_one_permutation_after_another(images, steps, batch_size):
    order = order_of(images, steps, batch_size)
    assert order.shape == (steps, batch_size)
    for epoch in range(0, order.size, images):
        part = order.ravel()[epoch : epoch + images]
        assert len(set(part)) == len(part)
        assert set(part) <= set(range(images))
        if len(part) == images:
            assert set(part) == set(range(images))


def test_the_order_depends_on_the_key_alone():
    first = order_of(20, 4, 8)
    np.testing.assert_array_equal(first, order_of(20, 4, 8))
    assert (first != order_of(20, 4, 8, seed=1)).any()
    assert (first.ravel()[:12] != first.ravel()[20:]).any()  # epochs differ


def test_orders_are_uniform():
    orders = jax.jit(jax.vmap(lambda key: trial.batch_order(key, 4, 2, 4)))(jax.random.split(jax.random.key(0), 4000))
    counts = np.stack([(np.asarray(orders).reshape(4000, 8) == image).mean(0) for image in range(4)])
    np.testing.assert_allclose(counts, 0.25, atol=0.03)  # 4 standard errors


def test_the_keys_of_a_trial_differ():
    keys = trial.trial_keys(jax.random.key(0))
    assert len({tuple(np.asarray(jax.random.key_data(key)).tolist()) for key in keys}) == len(keys) == 2


def test_windows_read_in_order_and_wrap_around(rng):
    images = rng.integers(0, 256, (7, 2, 2, 1), np.uint8)
    windows = [trial.window(images, index, 3) for index in range(trial.batches(7, 3))]
    expected = images[[0, 1, 2, 3, 4, 5, 6, 0, 1]].astype(np.float32) / 255
    np.testing.assert_allclose(np.concatenate(windows), expected, rtol=1e-6)
    np.testing.assert_allclose(trial.window(images, 0, 16)[7:14], images.astype(np.float32) / 255, rtol=1e-6)
    assert [trial.batches(n, 3) for n in (1, 3, 4, 6, 7)] == [1, 1, 2, 2, 3]


def test_stored_images_become_floats_once():
    stored = np.array([0, 51, 255], np.uint8)
    np.testing.assert_allclose(trial.to_float(jnp.asarray(stored)), [0, 0.2, 1], rtol=1e-6)
    for floats in (np.array([0, 0.2, 1], np.float32), np.array([0, 1], np.float16)):
        result = trial.to_float(jnp.asarray(floats))
        np.testing.assert_array_equal(result, floats)
        assert result.dtype == jnp.float32


def test_data_keep_their_type_on_the_device(rng):
    images = rng.integers(0, 256, (6, 4, 4, 1), np.uint8)
    data = trial.put(images, images[:4], np.array([False, True, False, True]))
    assert data.train.dtype == jnp.uint8
    assert data.valid_labels.dtype == jnp.int32
    np.testing.assert_array_equal(data.valid_labels, [0, 1, 0, 1])
    with pytest.raises(AssertionError):
        trial.put(images[..., 0], images, np.zeros(6))
    with pytest.raises(AssertionError):
        trial.put(images, images, np.zeros((6, 1)))


# ---- reward ------------------------------------------------------------------------------------------------------

ORACLES = {
    "auroc": roc_auc_score,
    "aupr_in": lambda labels, scores: average_precision_score(1 - labels, -scores),
    "aupr_out": average_precision_score,
}


@pytest.mark.parametrize("criterion", trial.CRITERIA)
def test_rewards_equal_scikit_learn(rng, criterion):
    labels = (np.arange(40) % 5 == 0).astype(np.int32)
    scores = (rng.standard_normal(40).round(1) + labels).astype(np.float32)  # rounding makes ties
    reward = reward_of(jnp.asarray(scores), jnp.asarray(labels), jnp.float32(-3.5), criterion)
    np.testing.assert_allclose(reward.value, ORACLES[criterion](labels, scores), atol=1e-6)
    assert float(reward.loss) == -3.5
    assert reward.usable


@pytest.mark.parametrize(
    ("loss", "change"),
    [
        (np.nan, None),
        (np.inf, None),
        (1.0, np.nan),
        (1.0, np.inf),
        (1.0, -np.inf),
        (1.0, "constant"),
        (np.nan, "constant"),
    ],
)
def test_useless_scores_are_worth_nothing(rng, loss, change):
    """One bad score is enough, and none may look perfect: an infinite score would top any ranking."""
    scores, labels = rng.standard_normal(10).astype(np.float32), np.arange(10) == 3
    if change == "constant":
        scores[:] = 0.3
    elif change is not None:
        scores[3] = change
    for criterion in trial.CRITERIA:
        reward = reward_of(jnp.asarray(scores), jnp.asarray(labels, jnp.int32), jnp.float32(loss), criterion)
        assert not reward.usable
        assert float(reward.value) == trial.WORST_REWARD == 0.0
        np.testing.assert_equal(float(reward.loss), loss)


# ---- memory ------------------------------------------------------------------------------------------------------

EXHAUSTED = "RESOURCE_EXHAUSTED: Out of memory allocating 17179869184 bytes."


def attempts(fits, message=EXHAUSTED):
    """A run that needs a batch of `fits` or less; and the batches that were tried."""
    tried = []

    def run(batch_size):
        tried.append(batch_size)
        if batch_size > fits:
            raise jax.errors.JaxRuntimeError(message)
        return {"w": batch_size}, trial.Reward(0.5, 1.0, True)

    return run, tried


@pytest.mark.parametrize(("fits", "expected"), [(64, [64]), (63, [64, 32]), (8, [64, 32, 16, 8])])
def test_batches_are_halved_until_they_fit(fits, expected):
    run, tried = attempts(fits)
    result = trial.halving_batches(run, 64)
    assert tried == expected
    assert (result.params, result.reason, result.batch_size) == ({"w": expected[-1]}, None, expected[-1])
    assert result.seconds >= 0


@pytest.mark.parametrize(("batch_size", "expected"), [(64, [64, 32, 16, 8]), (8, [8]), (15, [15]), (20, [20, 10])])
def test_below_the_smallest_batch_a_child_fails(batch_size, expected):
    run, tried = attempts(0, "INTERNAL: CUDA_ERROR_OUT_OF_MEMORY: out of memory")
    result = trial.halving_batches(run, batch_size)
    assert tried == expected
    assert result.params is result.reward is None
    assert result.reason == f"out of memory at batch sizes {batch_size} down to {expected[-1]}"
    assert min(tried) >= trial.MIN_BATCH


def test_compilation_that_runs_out_of_memory_halves_the_batch_and_waiting_for_it_is_not_timed():
    run, tried = attempts(64)
    prepared = []

    def prepare(batch_size):
        prepared.append(batch_size)
        time.sleep(0.2)
        if batch_size == 64:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: while compiling")

    result = trial.halving_batches(run, 64, prepare)
    assert (prepared, tried, result.batch_size) == ([64, 32], [32], 32)
    assert result.seconds < 0.1


@pytest.mark.parametrize(
    ("images", "expected"), [(1000, (4, 256)), (256, (4, 256)), (100, (2, 100)), (64, (1, 64)), (5, (1, 5))]
)
def test_statistics_are_fitted_to_every_image_once(images, expected):
    assert trial.fit_windows(TrialConfig(fit_images=256), images, 64) == expected


def test_other_errors_are_not_swallowed():
    run, tried = attempts(0, "INVALID_ARGUMENT: something else")
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        trial.halving_batches(run, 64)
    assert tried == [64]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps is 0; give a whole number from 1 upwards"),
        ({"batch_size": 7}, "batch_size is 7; give a whole number from 8 upwards"),
        ({"fit_images": 0}, "fit_images is 0; give a whole number from 1 upwards"),
        ({"steps": 2.5}, r"steps is 2\.5; give a whole number"),
        ({"reward": "accuracy"}, "reward is 'accuracy'; choose one of auroc, aupr_in, aupr_out"),
    ],
)
def test_bad_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TrialConfig(**options)


def test_settings_can_be_compared_and_hashed():
    """Compiled kernels are found by them."""
    assert hash(TrialConfig()) == hash(TrialConfig())
    assert TrialConfig() != dataclasses.replace(TrialConfig(), steps=3)
