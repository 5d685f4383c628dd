"""What searches are compared by, against plain NumPy; small inputs leave out what they cannot show."""

import numpy as np
import pytest
from scipy.stats import kendalltau

from jaxad.nas.analysis.benchmark import SearchRecord
from jaxad.report.search_outcomes import HALF, WINDOW, search_outcomes, table_outcomes

PARTS = ("children", "seconds")


def test_outcomes_of_a_table(rng):
    rewards = {name: rng.random((3, 2 * WINDOW)).astype(np.float32) for name in ("autoad", "random")}
    table = rng.random(100)
    found = table_outcomes(rewards, table)
    for name, values in rewards.items():
        np.testing.assert_allclose(found.outcomes["best reward of a search"][name], values.max(1))
        np.testing.assert_allclose(found.outcomes["mean reward of a search"][name], values.mean(1))
        np.testing.assert_allclose(found.curves[0].values[name], np.maximum.accumulate(values, 1))
        means = [[row[end - WINDOW : end].mean() for end in range(WINDOW, 2 * WINDOW + 1)] for row in values]
        np.testing.assert_allclose(found.curves[1].values[name], means, rtol=1e-5)
    assert found.curves[1].x[0] == WINDOW
    assert found.facts["table"]["p50"] == pytest.approx(np.median(table))
    best, top, mean, sd = found.progress
    for name, values in rewards.items():
        np.testing.assert_allclose(best.values[name], np.maximum.accumulate(values, 1))
        fives = [[np.sort(row[:end])[-5:].mean() for end in range(1, 2 * WINDOW + 1)] for row in values]
        np.testing.assert_allclose(top.values[name], fives, rtol=1e-5)
        halves = np.split(values, 2, 1)  # of twenty children each
        np.testing.assert_allclose(mean.values[name], np.stack([half.mean(1) for half in halves], 1), rtol=1e-5)
        np.testing.assert_allclose(sd.values[name], np.stack([half.std(1) for half in halves], 1), rtol=1e-4)
        assert found.facts["sd of the last 20"][name] == pytest.approx(np.median(halves[1].std(1)), rel=1e-4)
        assert found.facts["mean of the best 5"][name] == pytest.approx(np.median(np.array(fives)[:, -1]), rel=1e-5)
    assert mean.x.tolist() == sd.x.tolist() == [WINDOW, 2 * WINDOW]
    short = table_outcomes({"a": rewards["random"][:, :WINDOW]}, table)
    assert (len(short.curves), short.progress) == (1, [])  # nobody to compare with


def test_outcomes_of_searches():
    def record(*rewards, seconds=1.0):
        return SearchRecord([[n] for n in range(len(rewards))], list(rewards), [seconds, 2 * seconds])

    records = {
        "autoad": [record(0.5, 0.9), record(0.8, 0.7)],
        "scratch": [record(0.1, 0.2, seconds=3.0), record(0.2, 0.1, seconds=2.0)],
    }
    tests = []
    for seed, ranks in enumerate(([(0.1, 0.2), (0.5, 0.4)], [(0.3, 0.9)])):
        auroc = {f"{name} {what}": n + 0.1 * seed for n, name in enumerate(records) for what in PARTS}
        tests.append({"auroc": auroc, "ranks": ranks})
    found = search_outcomes(records, tests, scratch="scratch")
    np.testing.assert_allclose(found.outcomes["test AUROC after equal seconds"]["scratch"], [1.0, 1.1])
    assert list(found.outcomes["best reward of a search"]) == ["autoad"]  # the other's rewards are of another scale
    np.testing.assert_array_equal(found.outcomes["best reward of a search"]["autoad"], [0.9, 0.8])
    over_children, over_time = found.curves
    np.testing.assert_array_equal(over_children.values["autoad"], [[0.5, 0.9], [0.8, 0.8]])
    assert over_time.x[-1] == 2.0  # what the quickest took
    assert over_time.values["autoad"][:, -1].tolist() == [0.9, 0.8]
    assert found.facts["seconds of a search"] == {"autoad": 2.0, "scratch": 5.0}
    expected = kendalltau([0.1, 0.5, 0.3], [0.2, 0.4, 0.9]).statistic
    assert found.facts["shared against from scratch"]["tau"] == pytest.approx(expected)
    without = search_outcomes(records, [test | {"ranks": []} for test in tests], scratch="scratch")
    assert without.facts["shared against from scratch"] is None


def test_half_of_the_children_stand_against_all_of_random_search():
    rewards = {"autoad": np.array([[1, 4, 2, 9, 5]]), "random": np.array([[3, 0, 1, 7, 2]])}
    found = table_outcomes(rewards, np.arange(10.0)).outcomes[HALF]
    assert {name: values.tolist() for name, values in found.items()} == {"autoad": [4], "random": [7]}
    assert HALF not in table_outcomes({"autoad": rewards["autoad"]}, np.arange(10.0)).outcomes
