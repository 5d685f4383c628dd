"""AMA learns: on bundled images training makes it better than it began, and long trainings stay finite."""

import functools

import jax
import numpy as np
import pytest

from jaxad.data import load_task
from jaxad.methods.ama import AMAConfig, ama
from jaxad.metrics.image import auroc
from jaxad.training.calibration import calibrate_population
from jaxad.training.loop import fit_population
from jaxad.training.scoring import score_images

SEEDS = np.arange(3)
LONG = 2000


@functools.cache
def zeros():
    """Handwritten zeros are normal, other digits are not: 8x8 pixels."""
    return load_task("digits", normal_classes=["0"], anomaly_ratio=0.5)


SHORT = AMAConfig(width=0.1, latent_dim=16, steps=200, critic_steps=2, learning_rate=1e-3)


def trained(config, steps, seeds=SEEDS):
    keys = jax.vmap(jax.random.key)(seeds)
    options = {"steps": steps, "batch_size": 20, "chunk": 50}
    return detector_of(config), *fit_population(detector_of(config), keys, zeros().train.images, **options)


detector_of = functools.cache(ama)  # compiled once for all seeds


def aurocs(detector, states):
    """Of test images, one for every seed."""
    states = calibrate_population(detector, states, zeros().train.images)
    test = zeros().test
    members = [jax.tree.map(lambda leaf, seed=seed: leaf[seed], states) for seed in range(len(SEEDS))]
    return np.array([float(auroc(score_images(detector, state, test.images), test.labels)) for state in members])


@pytest.mark.slow
def test_training_beats_no_training_and_chance_over_seeds():
    detector, states, history = trained(SHORT, 60)
    _, fresh, _ = trained(SHORT, 0, seeds=SEEDS + 100)
    before, after = aurocs(detector, fresh), aurocs(detector, states)
    print("untrained", before, "trained", after)
    assert not history.diverged.any()
    # By more than the spread over seeds on either side.
    assert after.mean() - before.mean() > before.std(ddof=1) + after.std(ddof=1)
    assert after.min() > 0.5


@pytest.mark.slow
def test_a_long_training_stays_finite_and_its_wasserstein_estimate_settles():
    _, states, history = trained(AMAConfig(width=0.1, latent_dim=16, steps=LONG), LONG, seeds=SEEDS[:1])
    assert not history.diverged.any()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(states))
    estimate, loss = (np.abs(history.info._asdict()[name][0]) for name in ("wasserstein", "critic_loss"))
    print("|Wasserstein| by fifths", [round(float(part.mean()), 3) for part in np.split(estimate, 5)])
    # No runaway game: neither grows without bound, which a critic that wins for good would show.
    for values in (estimate, loss):
        assert np.median(values[-LONG // 5 :]) < 10 * np.median(values[LONG // 5 : 2 * LONG // 5]) + 1
