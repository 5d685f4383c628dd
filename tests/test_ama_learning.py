"""AMA learns: on bundled images training makes it better than it began, and long trainings stay finite."""

import functools

import jax
import numpy as np
import pytest

from jaxad.data import load_task
from jaxad.detectors.ama import AMAConfig, ama
from jaxad.metrics import auroc
from jaxad.scoring import score_images
from jaxad.selection import calibrated
from jaxad.training import fit_population

SEEDS = np.arange(3)
LONG = 2000


@functools.cache
def zeros():
    """Handwritten zeros are normal, other digits are not: 8x8 pixels."""
    return load_task("digits", normal_classes=["0"], contamination=0.5)


def trained(steps, batch_size=24, seeds=SEEDS, schedule=None):
    detector = detector_of(schedule or steps)
    keys = jax.vmap(jax.random.key)(seeds)
    return detector, *fit_population(detector, keys, zeros().train.images, steps=steps, batch_size=batch_size, chunk=50)


@functools.cache
def detector_of(steps):
    """Compiled once for all seeds."""
    return ama(AMAConfig(width=0.06, latent_dim=16, steps=steps))


def aurocs(detector, states):
    """Of test images, one for every seed."""
    states = calibrated(detector, states, zeros().train.images)
    test = zeros().test
    members = [jax.tree.map(lambda leaf, seed=seed: leaf[seed], states) for seed in range(len(SEEDS))]
    return np.array([float(auroc(score_images(detector, state, test.images), test.labels)) for state in members])


def test_training_beats_no_training_and_chance_over_seeds():
    detector, states, history = trained(150)
    _, fresh, _ = trained(0, seeds=SEEDS + 100, schedule=150)
    before, after = aurocs(detector, fresh), aurocs(detector, states)
    print("untrained", before, "trained", after)
    assert not history.diverged.any()
    # By more than the spread over seeds on either side.
    assert after.mean() - before.mean() > before.std(ddof=1) + after.std(ddof=1)
    assert after.min() > 0.5


@pytest.mark.slow
def test_a_long_training_stays_finite_and_its_wasserstein_estimate_settles():
    _, states, history = trained(LONG, seeds=SEEDS[:1])
    assert not history.diverged.any()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(states))
    estimate, loss = (np.abs(history.info._asdict()[name][0]) for name in ("wasserstein", "critic_loss"))
    print("|Wasserstein| by fifths", [round(float(part.mean()), 3) for part in np.split(estimate, 5)])
    # No runaway game: neither grows without bound, which a critic that wins for good would show.
    for values in (estimate, loss):
        assert np.median(values[-LONG // 5 :]) < 10 * np.median(values[LONG // 5 : 2 * LONG // 5]) + 1
