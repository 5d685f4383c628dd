"""The report's part on the controller shows what the log says."""

import numpy as np
import pytest

from jaxad.nas.space import SearchSpace
from jaxad.report import controller_parts, plots
from jaxad.report.html import Facts, Figure, Table

SPACE = SearchSpace(num_layers=2)


def record(num_evaluated, *, plain=False):
    rng = np.random.default_rng(num_evaluated)
    widest = max(SPACE.choices_per_token)
    exists = np.arange(widest) < np.array(SPACE.choices_per_token)[:, None]
    weights = rng.random(exists.shape) * exists
    return {
        "num_evaluated": num_evaluated,
        "entropies": (np.log(SPACE.choices_per_token) * 0.5).tolist(),
        "probabilities": (weights / weights.sum(1, keepdims=True)).tolist(),
        "rewards": [0.6, 0.8],
        "gains": [0.0, 0.0] if plain else [0.01, 0.03],
        "curiosity": [0.0, 0.0] if plain else [0.1, 0.3],
        "baseline": 0.65,
        "advantages": [0.05, 0.45],
        "kl_prior": 0.0 if plain else 1e5,
        "kl_sharpening": 0.0 if plain else 0.02,
        "imitated": 0.07,
        "buffer_tokens": [[1] * SPACE.num_tokens, [0] * SPACE.num_tokens],
        "buffer_rewards": [0.8, None],
    }


def parts_of(log):
    return controller_parts(log, SPACE.position_names, SPACE.values_by_action)


def test_log_becomes_pictures_and_tables():
    parts = parts_of([record(4), record(2), record(4)])  # a resumed run repeats its last record
    figures = [part for part in parts if isinstance(part, Figure)]
    assert len(figures) == 4
    entropy = figures[0].drawing.axes[0]
    for line in entropy.get_lines():
        np.testing.assert_array_equal(line.get_xdata(), [2, 4])
        np.testing.assert_allclose(line.get_ydata(), 0.5)
    (facts,) = [part for part in parts if isinstance(part, Facts)]
    assert facts.items["curiosity's share of the reward"] == "22 %"  # 0.2 of 0.7 + 0.2
    (table,) = [part for part in parts if isinstance(part, Table)]
    assert [row[:2] for row in table.rows] == [[1, 0.8]]


def test_probabilities_are_means_over_layers():
    log = record(2)
    figure = plots.controller_probabilities(log["probabilities"], SPACE.position_names, SPACE.values_by_action)
    panels = {ax.get_title(loc="left"): ax for ax in figure.axes if ax.get_visible()}
    assert len(panels) == 8
    widths = [bar.get_width() for bar in panels["kernel"].patches]
    positions = [i for i, name in enumerate(SPACE.position_names) if name.endswith(".kernel")]
    np.testing.assert_allclose(widths, np.mean([log["probabilities"][p][:4] for p in positions], axis=0))
    assert sum(widths) == pytest.approx(1)


def test_a_plain_lstm_has_no_information_to_show():
    figures = [part for part in parts_of([record(2, plain=True)]) if isinstance(part, Figure)]
    assert "no posterior" in " ".join(text.get_text() for text in figures[2].drawing.axes[0].texts)


def test_no_log_is_no_section():
    assert parts_of([]) == []
    assert "no population" in plots.controller_entropy([], [], [], []).axes[0].texts[0].get_text()
