"""Means over classes and seeds, against loops."""

import numpy as np
import pytest

from jaxad.metrics import image as metrics
from jaxad.metrics.aggregate import group_cells, mean_interval


def cell(value, low=0.0, high=1.0):
    return {"value": value, "low": low, "high": high}


def test_the_interval_of_one_cell_is_its_own():
    assert mean_interval([[cell(0.7, 0.6, 0.8)]]) == cell(0.7, 0.6, 0.8)


def test_the_interval_is_that_of_resampled_classes_and_seeds(rng):
    """Both stages of the bootstrap, drawn one by one; where seeds agree, its variance has a closed form."""
    values = rng.random((5, 3))
    found = mean_interval([[cell(value) for value in row] for row in values], seed=1, resamples=20_000)
    means = []
    for _ in range(20_000):
        drawn = [values[rng.integers(5)] for _ in range(5)]
        means.append(np.mean([row[rng.integers(3)] for row in drawn for _ in range(3)]))
    low, high = np.quantile(means, (0.025, 0.975))
    assert found["value"] == pytest.approx(values.mean())
    np.testing.assert_allclose([found["low"], found["high"]], [low, high], atol=0.01)
    same = [[cell(value)] * 3 for value in (0.0, 1.0) * 50]
    found = mean_interval(same, resamples=20_000)
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * 0.05, rel=0.05)


def test_groups_are_means_over_classes_of_means_over_seeds():
    def record(variant, gamma, name, seed, value):
        test = {metric: cell(value) for metric in metrics.PANEL} | {"prevalence": 0.5, "f1_all_anomalous": 0.6}
        told = {"running": value, "batches, shuffled": value / 2}
        row = {"variant": variant, "gamma": gamma, "class": name, "seed": seed, "test": test}
        return row | ({"auroc_by_statistics": told} if variant == "agad" else {})

    cells = [record("agad", 0.0, "cat", 0, 0.9), record("agad", 0.0, "dog", 0, 0.6), record("agad", 0.0, "cat", 1, 0.7)]
    cells += [
        record("agad", 0.0, "dog", 1, 0.8),
        record("other", "all", "dog", 0, 0.5),
        record("other", "all", "cat", 0, 1),
    ]
    first, second = group_cells(cells, ["dog", "cat"])
    assert (first["variant"], first["gamma"], second["variant"], second["gamma"]) == ("agad", 0.0, "other", "all")
    assert first["auroc"] == {"dog": [0.6, 0.8], "cat": [0.9, 0.7]}
    assert (first["mean"], first["sd"]) == (pytest.approx(0.75), pytest.approx(0.05))
    assert first["test"]["aupr_in"]["value"] == pytest.approx(0.75)
    assert first["auroc_by_statistics"] == {"running": pytest.approx(0.75), "batches, shuffled": pytest.approx(0.375)}
    assert second["auroc"] == {"dog": [0.5], "cat": [1]}
    assert "auroc_by_statistics" not in second
