"""Comparisons against SciPy, by hand, and by simulation."""

import itertools

import numpy as np
import pytest
from scipy import stats

from jaxad.metrics.paired_tests import compare, holm, rank_correlation


def test_holm_by_hand_and_in_any_order():
    p = [0.01, 0.04, 0.03, 0.005]
    np.testing.assert_allclose(holm(p), [0.03, 0.06, 0.06, 0.02])  # Holm 1979, worked through
    for order in itertools.permutations(range(4)):
        np.testing.assert_allclose(holm([p[i] for i in order]), holm(p)[list(order)])
    np.testing.assert_allclose(holm([0.6, 0.7]), [1.0, 1.0])


def test_a_comparison_equals_scipy(rng):
    a, b = rng.normal(0.1, 1, 40), rng.normal(0, 1, 40)
    found = compare({"a": a, "b": b}, [("a", "b")])["a", "b"]
    assert found.p_value == pytest.approx(stats.wilcoxon(a, b).pvalue)
    assert found.adjusted == found.p_value
    assert found.difference == pytest.approx(np.median(a - b))
    assert found.improvement == pytest.approx(stats.mannwhitneyu(a, b).statistic / 40**2)
    assert found.low < found.difference < found.high


def test_verdicts():
    rng = np.random.default_rng(1)
    base = rng.random(30)
    results = {"base": base, "better": base + 0.1 + 0.01 * rng.random(30), "same": base.copy()}
    found = compare(results, [("better", "base"), ("base", "better"), ("same", "base")])
    assert [found[pair].verdict for pair in found] == ["better", "worse", "no evidence"]
    assert found["same", "base"].improvement == 0.5
    assert found["same", "base"].p_value == 1.0


def test_the_verdict_has_the_right_direction_where_most_seeds_tie():
    gains = np.concatenate([np.zeros(21), np.linspace(0.1, 0.2, 19)])
    results = {"sometimes better": 1 + gains, "base": np.ones(40)}
    found = compare(results, [("sometimes better", "base"), ("base", "sometimes better")])
    assert [paired.difference for paired in found.values()] == [0, 0]
    assert [paired.verdict for paired in found.values()] == ["better", "worse"]


def test_intervals_cover_the_true_median():
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        a = rng.normal(0.3, 1, 25)
        found = compare({"a": a, "b": np.zeros(25)}, [("a", "b")], resamples=500)["a", "b"]
        covered += found.low <= 0.3 <= found.high
    assert covered / 200 > 0.88


def test_rank_correlation_leaves_failures_out():
    found = rank_correlation([1, 2, np.nan, 3, 4], [2, 1, 5, 3, 4])
    assert found["children"] == 4
    assert found["tau"] == pytest.approx(stats.kendalltau([1, 2, 3, 4], [2, 1, 3, 4]).statistic)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([1.0], [1.0], r"a has \(1,\) values and b \(1,\); give the same seeds"),
        ([1.0, 2.0], [1.0, 2.0, 3.0], "the same seeds of both"),
        ([1.0, np.nan], [1.0, 2.0], "not finite"),
    ],
)
def test_nonsense_is_refused(a, b, message):
    with pytest.raises(ValueError, match=message):
        compare({"a": np.array(a), "b": np.array(b)}, [("a", "b")])
