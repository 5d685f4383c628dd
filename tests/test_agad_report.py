"""The page of one-class detection and its pictures: they draw what they are given, and little data breaks nothing."""

import numpy as np
import pytest

from jaxad.report import auroc_table, plots, render_one_class
from jaxad.report.agad import PANELS

GROUP = {
    "variant": "agad", "gamma": 0.05, "auroc": {"cat": [0.9, 0.8], "dog": [0.7, 0.7]}, "mean": 0.775, "sd": 0.075,
    "test": {"auroc": {"value": 0.775, "low": 0.6, "high": 0.9}},
}  # fmt: skip


def test_fences_are_tukeys():
    values = np.array([0.0, 1, 2, 3, 4, 8, 100])  # quartiles 1.5 and 6, so the fences are -5.25 and 12.75
    np.testing.assert_array_equal(plots.within_fences(values), [0, 1, 2, 3, 4, 8])
    np.testing.assert_array_equal(plots.within_fences([5.0]), [5])


def test_boxes_are_quartiles_and_whiskers_end_within_the_fences(rng):
    values = np.append(rng.normal(0, 1, 400), [50, 60])
    (ax,) = plots.class_boxes({"gamma 0": {"cat": values, "dog": values + 3}}, normal=["dog"]).axes
    low, middle, high = np.percentile(values, (25, 50, 75))
    box = ax.patches[0]
    np.testing.assert_allclose([box.get_y(), box.get_height()], [low, high - low])
    whisker, median = (ax.collections[i].get_segments()[0] for i in (0, 1))
    inside = plots.within_fences(values)
    np.testing.assert_allclose(whisker[:, 1], [inside.min(), inside.max()])
    np.testing.assert_allclose(median[:, 1], middle)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["cat", "dog\n(normal)"]
    gone = 2 * (len(values) - len(inside))
    assert gone >= 4
    assert ax.get_xlabel().startswith(f"{gone} of 804 scores")


def test_boxes_of_two_models_stand_side_by_side(rng):
    groups = {name: {"a": rng.random(9), "b": rng.random(9)} for name in ("gamma 0", "gamma 0.2")}
    (ax,) = plots.class_boxes(groups).axes
    middles = sorted(patch.get_x() + patch.get_width() / 2 for patch in ax.patches)
    np.testing.assert_allclose(middles, [-0.2, 0.2, 0.8, 1.2])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["gamma 0", "gamma 0.2"]


@pytest.mark.parametrize("groups", [{}, {"m": {}}, {"m": {"a": []}}, {"m": {"a": [np.nan]}}, {"m": {"a": [1.0, 1.0]}}])
def test_boxes_of_next_to_nothing(groups):
    plots.class_boxes(groups)


def test_the_table_has_means_over_seeds_in_percent():
    columns, rows = auroc_table([GROUP, GROUP | {"auroc": {"cat": [1.0]}, "sd": None}], ["cat", "dog"])
    assert columns == ["method", "gamma", "cat", "dog", "mean", "sd"]
    assert rows[0] == ["agad", "0.05", "85.0", "70.0", "77.50", "7.50"]
    assert rows[1] == ["agad", "0.05", "100.0", "–", "77.50", "–"]


def test_a_page_holds_all_sections(rng):
    images = rng.random((4, 8, 8, 1))
    fields = {field for curves in PANELS.values() for field in curves.values()}
    results = {
        "test": GROUP["test"], "shown": "cat", "groups": [GROUP], "classes": ["cat", "dog"], "cells": [1, 2],
        "seconds": 12.0, "notes": ["mind this"], "num_seeds": 2, "intervals": "over classes", "dataset": "animals",
        "headline": "gamma 0.05, 2 class(es)", "task": {"name": "animals: cat normal"},
    }  # fmt: skip
    page = render_one_class(
        config={"seed": 0},
        results=results,
        rebuilt={"normal": [("x", images), ("G(x)", images)], "anomalous": [("x", images)]},
        scores={"gamma 0.05": {"cat": rng.random(9), "dog": rng.random(9)}},
        curves={"gamma 0.05": (np.arange(5), {field: rng.random(5) for field in fields})},
        program="python experiments/agad_oneclass.py",
    )
    for words in ("one class of animals", "mind this", "AUROC by class", "over classes", "Scores by class", "Training"):
        assert words in page
