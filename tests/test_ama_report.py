"""The page of a trained AMA and its pictures: they draw what they are given, and little data does not break them."""

import numpy as np
import pytest

from jaxad.report import ama_sections, plots, render_training
from jaxad.report.training import variant_parts

METRICS = ("auroc", "aupr_in", "aupr_out", "fpr95", "f1_max")


def test_densities_have_area_one_and_show_the_gaussian(rng):
    values = rng.normal(3, 2, 5000)
    (ax,) = plots.densities({"train": values}, xlabel="R", mean=3.0, sd=2.0, line=(4.0, "here")).axes
    heights, edges = ax.patches[0].get_data()[:2]
    np.testing.assert_allclose(np.sum(heights * np.diff(edges)), 1)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["train (5,000)", "Gaussian, mean 3, sd 2", "here"]
    x, bell = next(line.get_data() for line in ax.lines if "Gaussian" in line.get_label())
    np.testing.assert_allclose(np.trapezoid(bell, x), 1, atol=0.01)


@pytest.mark.parametrize("groups", [{}, {"train": [np.nan]}, {"train": [2.0, 2.0]}])
def test_densities_of_next_to_nothing(groups):
    plots.densities(groups, xlabel="R")


def test_image_rows_place_every_image(rng):
    rows = [("input", rng.random((3, 8, 8, 1))), ("rebuilt", rng.random((3, 8, 8, 1)))]
    (ax,) = plots.image_rows(rows, titles=("a", "b", "c")).axes
    assert len(ax.images) == 6
    assert [label.get_text() for label in ax.get_yticklabels()] == ["input", "rebuilt"]


def test_training_curves_draw_a_line_for_every_seed(rng):
    panels = {"one": {"a": rng.random((2, 5)), "b": rng.random((2, 5))}, "two": {"c": np.full((2, 5), np.nan)}}
    figure = plots.training_curves(np.arange(5), panels, lines={"one": (0.5, "level")})
    assert [len(ax.lines) for ax in figure.axes] == [5, 2]


def test_variants_show_mean_and_spread_over_seeds():
    by_choice = {chosen: {metric: [0.8, 0.9] for metric in METRICS} for chosen in ("validation", "last")}
    text, table = variant_parts({"ama": by_choice})
    assert "2 training seeds" in text.text
    assert table.rows[1] == ["ama"] + ["0.850 ± 0.071"] * 5
    assert variant_parts({}) == []


def test_a_page_holds_all_sections(rng):
    images = rng.random((4, 8, 8, 1))
    sections = ama_sections(
        images={"rebuilt": [("input", images)], "interpolated": [("1", images)], "negative": []},
        r_scores={"train": rng.random(20)},
        gaussian=(0.5, 0.3),
        norms={"train": rng.random(20)},
        latent_dim=16,
        steps=np.arange(5),
        history={
            name: rng.random((1, 5))
            for name in (
                *("wasserstein", "interpolation_gap", "critic_loss", "generator_loss"),
                *("penalty", "code_norm", "code_norm_sd", "error"),
            )
        },
    )
    metric = {"value": 0.9, "low": 0.8, "high": 0.95}
    page = render_training(
        method="AMA",
        config={"seed": 0},
        results={"task": {"name": "digits"}, "test": {"auroc": metric}, "chosen_by": "last", "notes": ["mind this"]},
        pictures={},
        sections=sections,
        program="python experiments/ama_ood.py",
    )
    for words in (
        "AMA for digits",
        "mind this",
        "Reconstructions",
        "R-scores",
        "Latent space",
        "Training",
        "no labels",
    ):
        assert words in page
    assert "Synthetic negatives" not in page
