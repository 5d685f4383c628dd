"""The yardstick of trained detectors: what it comes to, and what is said of it."""

import types

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

import jaxad
from jaxad.runs import yardstick

WORDS = [(0.1, "0.100 less."), (-0.1, "0.100 more: training was not worth it here.")]
TASK = jaxad.load_task("digits", normal_classes=["3"], anomaly_ratio=0.3)


def evaluation(value):
    return types.SimpleNamespace(test={"auroc": {"value": value}})


def test_the_yardstick_is_the_auroc_of_principal_components_of_normal_pixels():
    found, _ = yardstick.measure(TASK, "ama", evaluation(0.5), seed=0)
    rows = [part.images.reshape(len(part.images), -1) / 255.0 for part in (TASK.train, TASK.test)]
    model = PCA(32).fit(rows[0])
    errors = np.square(rows[1] - model.inverse_transform(model.transform(rows[1]))).mean(1)
    assert found["method"] == "pca"
    assert found["auroc"] == pytest.approx(roc_auc_score(TASK.test.labels, errors), abs=1e-3)


@pytest.mark.parametrize(
    ("more", "said"), [(0.1, "0.100 less."), (-0.1, "0.100 more: training was not worth it here.")]
)
def test_notes_say_by_how_much_a_detector_is_better_or_worse(monkeypatch, more, said):
    monkeypatch.setattr(yardstick, "auroc", lambda scores, labels: 0.75)
    _, notes = yardstick.measure(TASK, "ama", evaluation(0.75 + more), seed=0)
    assert notes == [f"Principal components of the same pixels have a test AUROC of 0.750, {said}"]


def test_the_yardstick_is_not_compared_with_itself():
    assert yardstick.measure(TASK, "pca", evaluation(0.9), seed=0) == ({}, [])
