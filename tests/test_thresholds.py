"""Thresholds against brute force, scikit-learn and the guarantees they claim."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import beta, binom
from sklearn import metrics as sk

from jaxad.metrics.thresholds import Threshold, clopper_pearson, decide, f1, false_positive_rate, fixed, youden


def labelled(rng, n=200, decimals=1):
    labels = (rng.random(n) < 0.3).astype(int)
    return np.round(rng.standard_normal(n) + labels, decimals).astype(np.float32), labels


def test_false_positive_rate_takes_the_conformal_rank():
    scores = np.arange(1, 20)  # n = 19: (n + 1) * 0.95 = 19 exactly, the largest score
    got = false_positive_rate(scores)
    assert (got.value, got.method, got.n) == (19.0, "false_positive_rate", 19)
    assert false_positive_rate(np.arange(1, 100)).value == 95
    assert false_positive_rate(np.arange(1, 101)).value == 96
    assert false_positive_rate(np.arange(1, 100), target=0.1).value == 90
    # Too few images for the target: the largest score, and an honest note.
    few = false_positive_rate(np.arange(1, 6))
    assert few.value == 5
    assert few.details["expected_at_most"] == pytest.approx(1 / 6)


@pytest.mark.parametrize("n", [19, 50, 117])
def test_false_positive_rate_holds_on_new_images(rng, n):
    """Averaged over held-out sets, the true rate stays at or below the target; ties only lower it."""
    for decimals in (8, 1):
        rates = []
        for _ in range(400):
            value = false_positive_rate(np.round(rng.random(n), decimals)).value
            rates.append((np.round(rng.random(500), decimals) > value).mean())
        assert np.mean(rates) < 0.05 + 3 * np.std(rates) / np.sqrt(400)
        if decimals == 8:
            assert np.mean(rates) > 0.025


def test_interval_of_the_rate(rng):
    got = false_positive_rate(rng.standard_normal(200))
    rank = 191
    assert got.details["observed"] == pytest.approx((200 - rank) / 200)
    # The true rate above the rank-th of n scores is Beta(n + 1 - rank, rank): exact upper end.
    exact = beta(200 + 1 - rank, rank)
    assert got.details["high"] == pytest.approx(exact.ppf(0.975))
    assert got.details["low"] <= exact.ppf(0.025)
    assert got.details["low"] < 0.05 < got.details["high"]


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (3, 10), (10, 10), (1, 200)])
def test_clopper_pearson_inverts_the_binomial_tests(successes, n):
    low, high = clopper_pearson(successes, n, level=0.9)
    assert low == 0 if successes == 0 else binom.sf(successes - 1, n, low) == pytest.approx(0.05)
    assert high == 1 if successes == n else binom.cdf(successes, n, high) == pytest.approx(0.05)


def test_f1_equals_brute_force(rng):
    for decimals in (0, 1, 5):
        scores, labels = labelled(rng, decimals=decimals)
        got = f1(scores, labels)
        best = max(sk.f1_score(labels, scores >= cut) for cut in np.unique(scores))
        assert sk.f1_score(labels, decide(scores, got)) == pytest.approx(best)
        assert got.details["f1"] == pytest.approx(best)
        assert got.details["precision"] == pytest.approx(sk.precision_score(labels, decide(scores, got)))
        assert got.details["recall"] == pytest.approx(sk.recall_score(labels, decide(scores, got)))
        assert got.details["f1_all_anomalous"] == pytest.approx(sk.f1_score(labels, np.ones_like(labels)))
        assert (got.method, got.n) == ("f1", 200)


def test_youden_equals_the_roc_curve(rng):
    for decimals in (0, 1, 5):
        scores, labels = labelled(rng, decimals=decimals)
        got = youden(scores, labels)
        fpr, tpr, _ = sk.roc_curve(labels, scores)
        assert got.details["youden"] == pytest.approx((tpr - fpr).max())
        flagged = decide(scores, got)
        assert flagged[labels == 1].mean() == pytest.approx(got.details["tpr"])
        assert flagged[labels == 0].mean() == pytest.approx(got.details["fpr"])


def test_edges_of_the_cut():
    assert f1([1, 2, 5, 9], [0, 0, 1, 1]).value == 3.5  # half-way
    everything = f1([1.0, 1.0, 1.0], [1, 1, 0])  # flagging all is best
    assert decide([1.0], everything).all()
    assert f1([-np.inf, 0, np.inf], [0, 0, 1]).value == 0
    assert f1([-np.inf, 3.0], [0, 1]).value == -np.inf
    a = np.float64(1.0)
    b = np.nextafter(a, 2)  # neighbours have no middle
    assert decide([a, b], youden([a, b], [0, 1])).tolist() == [False, True]


def test_a_threshold_that_is_no_number_is_refused():
    for threshold in (np.nan, Threshold(float("nan"), "fixed", 0, {})):
        with pytest.raises(ValueError, match="threshold is NaN"):
            decide([0.0, 1.0], threshold)


def test_decide_is_strict_and_keeps_the_shape():
    assert decide([0.9, 1.0, 1.1], fixed(1)).tolist() == [False, False, True]
    assert decide(jnp.array([[0.5, 2.0]]), 1.0).tolist() == [[False, True]]
    assert fixed(1) == Threshold(1.0, "fixed", 0, {})
    # The n-th score itself is not flagged, in float32 as in float64.
    scores = np.random.default_rng(3).standard_normal(50).astype(np.float32)
    assert decide(scores, false_positive_rate(scores)).sum() == 1


@pytest.mark.parametrize("method", [f1, youden])
def test_missing_classes_and_bad_labels_are_refused(method):
    with pytest.raises(ValueError, match="no anomalous one"):
        method([1.0, 2.0], [0, 0])
    with pytest.raises(ValueError, match="no normal one"):
        method([1.0, 2.0], [1, 1])
    with pytest.raises(ValueError, match="labels must be 0"):
        method([1.0, 2.0], [0, 2])
    with pytest.raises(ValueError, match="one length"):
        method([1.0, 2.0], [0, 1, 1])
    with pytest.raises(ValueError, match="NaN"):
        method([1.0, np.nan], [0, 1])


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="target"):
        false_positive_rate([1.0, 2.0], target=0)
    with pytest.raises(ValueError, match="level"):
        false_positive_rate([1.0, 2.0], level=1)
    with pytest.raises(ValueError, match="at least one"):
        false_positive_rate([])
    with pytest.raises(ValueError, match="1 of 2 normal scores are NaN"):
        false_positive_rate([1.0, np.nan])
    with pytest.raises(ValueError, match="NaN"):
        fixed(float("nan"))
    with pytest.raises(ValueError, match="NaN"):
        decide([1.0, np.nan], 0.0)
