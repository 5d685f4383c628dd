"""The yardstick of trained detectors: what it comes to, and what is said of it."""

import re
import types

import jax
import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

import jaxad
from jaxad.runs import yardstick

TASK = jaxad.load_task("digits", normal_classes=["2", "3", "5", "8", "9"], anomaly_ratio=0.3)


def evaluation(scores):
    return types.SimpleNamespace(test_scores=np.asarray(scores, np.float32))


def test_the_yardstick_is_the_auroc_of_principal_components_of_normal_pixels():
    found, _ = yardstick.measure(TASK, "ama", evaluation(TASK.test.labels), seed=0)
    rows = [part.images.reshape(len(part.images), -1) / 255.0 for part in (TASK.train, TASK.test)]
    model = PCA(32).fit(rows[0])
    errors = np.square(rows[1] - model.inverse_transform(model.transform(rows[1]))).mean(1)
    assert found["method"] == "pca"
    assert found["auroc"] == pytest.approx(roc_auc_score(TASK.test.labels, errors), abs=1e-3)


def test_notes_say_by_how_much_a_detector_is_better_or_worse():
    """Scores by the labels are better than anything, by their opposite worse, those of the yardstick as good."""
    fit, _ = jax.random.split(jax.random.key(0))  # as there
    plain = jaxad.score_images(*yardstick.fitted(TASK, fit), TASK.test.images)
    value = roc_auc_score(TASK.test.labels, plain)
    for scores, end in (
        (TASK.test.labels, rf", {1 - value:.3f} \[[\d.]+, [\d.]+\] less\."),
        (-TASK.test.labels, rf", {value:.3f} \[[\d.]+, [\d.]+\] more: this detector was not worth its time here\."),
        (plain, r": a difference of 0\.000 \[0\.000, 0\.000\], which may be chance\."),
    ):
        facts, (note,) = yardstick.measure(TASK, "ama", evaluation(scores), seed=0)
        assert re.search(f"have a test AUROC of {value:.3f}{end}$", note), note
        assert facts["less"]["low"] <= facts["less"]["value"] <= facts["less"]["high"]
        assert facts["less"]["value"] == pytest.approx(roc_auc_score(TASK.test.labels, scores) - value, abs=1e-5)


def test_the_yardstick_is_not_compared_with_itself():
    assert yardstick.measure(TASK, "pca", evaluation(TASK.test.labels), seed=0) == ({}, [])
