"""AGAD learns on bundled images: better than chance and than its untrained self, over classes and seeds."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from jaxad import data
from jaxad.methods.agad import AGADConfig, agad
from jaxad.metrics.image import auroc
from jaxad.training.loop import fit, fit_population
from jaxad.training.scoring import score_images

CONFIG = AGADConfig(generator="naive", width=0.125, latent_dim=32, learning_rate=1e-3, epsilon=0.5)
SETTINGS = {
    "untrained": (CONFIG, 0.0),
    "none": (CONFIG, 0.0),
    "few": (dataclasses.replace(CONFIG, contextual_reciprocal=True), 0.05),
    "few, as published": (dataclasses.replace(CONFIG, epsilon=1e-6), 0.05),
}
TRAINING = {"steps": 300, "batch_size": 32, "chunk": 300}
SEEDS = 3
detector_of = functools.cache(agad)  # compiled once for all classes and seeds, trained or not
CLASSES = ("1", "3", "8")


@pytest.fixture(scope="module")
def values():
    """AUROC [class, seed] on the same test images."""
    digits = data.digits()
    found = {name: np.zeros((len(CLASSES), SEEDS)) for name in SETTINGS}
    for name, (config, gamma) in SETTINGS.items():
        detector = detector_of(config)
        for row, seed in np.ndindex(len(CLASSES), SEEDS):
            task = data.labelled_one_class(
                digits, None, CLASSES[row], gamma=gamma, gamma_seed=seed, anomaly_ratio=0.5, limit=160
            )
            options = TRAINING | ({"steps": 0} if name == "untrained" else {})
            if gamma:
                options |= {"labels": task.train.labels, "anomalies_per_batch": 4}
            state, history = fit(detector, jax.random.key(seed), task.train.images, **options)
            assert not history.diverged
            # What differs between the settings acts on training alone.
            scores = score_images(detector_of(CONFIG), state, task.test.images, 64)
            found[name][row, seed] = auroc(scores, task.test.labels)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("trained", ["none", "few"])
def test_trained_beats_chance_and_its_untrained_self_with_a_margin(values, trained):
    assert values[trained].mean() > 0.75
    assert (values[trained].mean(0) > 0.7).all()
    assert values[trained].mean() > values["untrained"].mean() + 0.15


@pytest.mark.slow
def test_a_few_labelled_anomalies_help(values):
    assert values["few"].mean() > values["none"].mean()


@pytest.mark.slow
def test_they_do_not_help_with_the_published_objective_in_so_few_steps(values):
    """Without x - x^ among the reciprocals and with tiny denominators, Adam has not yet forgotten its first steps."""
    assert values["few, as published"].mean() < values["none"].mean()


@pytest.mark.slow
def test_a_vmapped_population_equals_separate_runs():
    """Compiled as one program, on the same few labels."""
    task = data.labelled_one_class(data.digits(), None, "1", gamma=0.1, anomaly_ratio=0.5, limit=60)
    detector, keys = agad(CONFIG, learning_rate=1e-4), jax.vmap(jax.random.key)(np.arange(2))
    options = {"steps": 3, "batch_size": 8, "chunk": 3, "labels": task.train.labels, "anomalies_per_batch": 3}
    results = [
        fit_population(detector, keys, task.train.images, vmapped=vmapped, **options) for vmapped in (True, False)
    ]
    infos = [history.info for _, history in results]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), *infos)
    averages = [[states.generator["batch_stats"], states.discriminator["batch_stats"]] for states, _ in results]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3), *averages)
