"""The page of a comparison says what was found, in words, a table and pictures."""

import numpy as np

from jaxad.metrics.paired_tests import as_json, sentence, verdicts
from jaxad.report import HEADS, Curves, comparison_rows, render_comparison


def outcomes(rng):
    base = rng.random(12)
    return {
        "best reward": {"autoad": base + 0.5, "random": base, "scratch": rng.random(12)},
        "mean reward": {"autoad": base, "random": base.copy()},
    }


def test_a_comparison_becomes_rows_a_sentence_and_plain_data(rng):
    results = outcomes(rng)
    found = verdicts(results, [("autoad", "random"), ("autoad", "scratch")])
    assert list(found["best reward"]) == [("autoad", "random"), ("autoad", "scratch")]
    assert list(found["mean reward"]) == [("autoad", "random")]  # of what both have
    rows = comparison_rows(found)
    assert all(len(row) == len(HEADS) for row in rows)
    assert rows[0][:4] == ("best reward", "autoad", "random", "+0.5000")
    assert (rows[0][-1], rows[-1][-1]) == ("better", "no evidence")
    assert sentence(found, "autoad", ["random"]) == "By the best reward, autoad is: better against random."
    plain = as_json(results, found)
    assert plain["outcomes"]["best reward"]["random"]["p50"] == np.median(results["best reward"]["random"])
    assert [c["verdict"] for c in plain["comparisons"]] == [row[-1] for row in rows]


def test_the_page_is_complete(rng):
    found = verdicts(outcomes(rng), [("autoad", "random")])
    curves = Curves({"autoad": rng.random((5, 7))}, np.arange(1, 8), "children", "best so far", "How it went.")
    facts = {"task": "digits", "table": {"p10": 0.25}}
    pair = {"autoad": rng.random((5, 7)), "random": rng.random((5, 7))}
    progress = [Curves(pair, np.arange(1, 8), "children", "reward", title) for title in ("best", "sd")]
    page = render_comparison(
        "Nothing & more.", comparison_rows(found), [curves], facts, progress=progress,
        config={"seed": 0, "controller": {"units": 6}}, program="python experiments/compare_search.py",
    )  # fmt: skip
    for text in (
        "Nothing &amp; more.",
        "How it went.",
        "autoad against random, as in Fig. 3",
        "<svg",
        "mean reward",
        "0.25",
        "compare_search.py",
        "--controller.units 6",
    ):
        assert text in page
