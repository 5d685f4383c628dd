"""Calibration is given images of the training, few enough, and a state comes back that scores."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad._utils.tree import member
from jaxad.training import calibration
from jaxad.training.calibration import CALIBRATION_IMAGES, calibrate, calibrate_population, subsample
from jaxad.types import Detector


class Mean(NamedTuple):
    weight: jax.Array
    mean: jax.Array


def fit_mean(state, images):
    return state._replace(mean=state.weight * jnp.mean(images))


DETECTOR = Detector(None, None, fit_mean, None)
STORED = np.random.default_rng(0).integers(0, 256, (50, 2, 3, 1), np.uint8)
IMAGES = np.arange(2000, dtype=np.float32)[:, None, None, None]


def state(weight):
    return Mean(jnp.float32(weight), jnp.float32(0))


@pytest.mark.parametrize("limit", [1, 2, 7, 1999, 2000, 5000])
def test_the_images_are_spread_evenly_over_the_training(limit):
    expected = np.linspace(0, 1999, min(limit, 2000)).astype(int)
    np.testing.assert_array_equal(subsample(IMAGES, limit)[:, 0, 0, 0], expected)
    np.testing.assert_allclose(calibrate(DETECTOR, state(2), IMAGES, limit=limit).mean, 2 * expected.mean(), rtol=1e-6)


def test_a_thousand_and_some_suffice():
    mean = subsample(IMAGES, CALIBRATION_IMAGES).mean()
    np.testing.assert_allclose(calibrate(DETECTOR, state(1), IMAGES).mean, mean, rtol=1e-6)


def test_a_detector_sees_numbers_from_0_to_1_however_images_are_stored():
    found = calibrate(DETECTOR, state(1), STORED)
    np.testing.assert_allclose(found.mean, STORED.mean() / 255, rtol=1e-6)
    again = calibrate(DETECTOR, state(1), STORED.astype(np.float32) / 255)
    np.testing.assert_allclose(again.mean, found.mean, rtol=1e-6)


def test_large_images_are_fewer(monkeypatch):
    monkeypatch.setattr(calibration, "MOST_NUMBERS", 8 * STORED[0].size + 1)
    expected = STORED[np.linspace(0, 49, 8).astype(int)].mean() / 255
    np.testing.assert_allclose(calibrate(DETECTOR, state(1), STORED).mean, expected, rtol=1e-6)
    monkeypatch.setattr(calibration, "MOST_NUMBERS", 1)
    np.testing.assert_allclose(calibrate(DETECTOR, state(1), STORED).mean, STORED[0].mean() / 255, rtol=1e-6)


def test_members_of_a_population_are_calibrated_each_by_itself():
    states = Mean(jnp.array([1.0, 3.0]), jnp.zeros(2))
    found = calibrate_population(DETECTOR, states, IMAGES)
    for index in range(2):
        alone = calibrate(DETECTOR, member(states, index), IMAGES)
        jax.tree.map(np.testing.assert_array_equal, member(found, index), alone)


@pytest.mark.parametrize(
    ("images", "limit", "message"),
    [(IMAGES[:, 0], 9, r"shape \(2000, 1, 1\)"), (IMAGES[:0], 9, "at least one image"), (IMAGES, 0, "limit is 0")],
)
def test_nonsense_is_refused(images, limit, message):
    with pytest.raises(ValueError, match=message):
        calibrate(DETECTOR, state(1), images, limit=limit)
