"""Metrics against scikit-learn and plain NumPy, with heavy ties and in any order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sk

from jaxad.metrics.image import (
    aupr_in,
    aupr_out,
    auroc,
    average_precision,
    bootstrap_interval,
    f1_max,
    fpr_at_tpr,
    precision_recall_f1,
    summarise,
)
from jaxad.metrics.order import number_of, ordered


def oracle_fpr(scores, labels, tpr):
    fpr, recall, _ = sk.roc_curve(labels, scores, drop_intermediate=False)
    return fpr[recall >= tpr - 1e-12].min()


def oracle_f1(scores, labels):
    return max(sk.f1_score(labels, scores >= t) for t in np.unique(scores))


def sample(rng, kind, n=301, prevalence=0.2):
    labels = (rng.random(n) < prevalence).astype(np.int32)
    labels[:2] = 0, 1
    scores = rng.standard_normal(n) + labels
    scores = {
        "continuous": scores,
        "ties": np.round(scores * 2) / 2,
        "two values": (scores > 0.5).astype(float),
        "all equal": np.full(n, 3.5),
        "perfect": labels * 2.0 - rng.random(n),
        "inverted": -labels * 2.0 - rng.random(n),
        "infinite": np.where(scores > 1, np.inf, np.where(scores < -1, -np.inf, np.round(scores))),
        "huge and tiny": np.sign(scores) * 10.0 ** (12 * scores).clip(-30, 30),
        "signed zeros": np.where(scores > 1, 1.0, np.where(scores > 0, 0.0, -0.0)),
        "subnormal": np.round(scores, 1) * 1e-40,
    }[kind]
    return scores.astype(np.float32), labels


KINDS = "continuous, ties, two values, all equal, perfect, inverted, infinite, huge and tiny, signed zeros, subnormal"


@pytest.mark.parametrize("kind", KINDS.split(", "))
def test_metrics_equal_scikit_learn(rng, kind):
    scores, labels = sample(rng, kind)
    # scikit-learn refuses infinities; dense ranks have the same order and ties.
    ranks = np.unique(scores, return_inverse=True)[1]
    expected = {
        auroc: sk.roc_auc_score(labels, ranks),
        average_precision: sk.average_precision_score(labels, ranks),
        aupr_out: sk.average_precision_score(labels, ranks),
        aupr_in: sk.average_precision_score(1 - labels, -ranks),
        fpr_at_tpr: oracle_fpr(ranks, labels, 0.95),
    }
    for metric, value in expected.items():
        got = metric(scores, labels)
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, value, atol=1e-6, err_msg=str(metric))

    best = f1_max(scores, labels)
    np.testing.assert_allclose(best.f1, oracle_f1(ranks, labels), atol=1e-6)
    # The threshold reaches the promised F1 under the rule "strictly greater".
    flagged = scores > float(best.threshold)
    np.testing.assert_allclose(sk.f1_score(labels, flagged), best.f1, atol=1e-6)
    np.testing.assert_allclose(precision_recall_f1(scores, labels, best.threshold).f1, best.f1, atol=1e-6)


def test_scores_keep_the_digits_that_they_have_or_are_refused(rng):
    """Ten digits before what matters: float64 numbers, and whole ones, that float32 would make all but equal."""
    scores, labels = sample(rng, "ties")
    expected = summarise(scores, labels, key=jax.random.key(0), resamples=20)
    refusing = (
        f1_max,
        lambda scores, labels: precision_recall_f1(scores, labels, 0.0),
        lambda scores, labels: bootstrap_interval(auroc, scores, labels, key=jax.random.key(0)),
    )
    for moved in (scores.astype(np.float64) + 1e9, (2 * scores).astype(np.int64) + 2**40):
        assert summarise(moved, labels, key=jax.random.key(0), resamples=20) == expected
        for metric in (auroc, aupr_in, aupr_out, average_precision, fpr_at_tpr):
            assert float(metric(moved, labels)) == float(metric(scores, labels))
        for refused in refusing:
            with pytest.raises(ValueError, match="values, of which float32 leaves"):
                refused(moved, labels)
    exact = scores.astype(np.float64)
    assert f1_max(exact, labels) == f1_max(scores, labels)
    assert precision_recall_f1(exact, labels, 0.5) == precision_recall_f1(scores, labels, 0.5)
    assert np.isnan(auroc(np.where(exact > 1, np.nan, exact), labels))


def test_numbers_are_integers_in_their_order():
    numbers = np.array([-np.inf, -1.0, -1e-40, -0.0, 0.0, 1e-45, 1e-40, 1.0, np.inf], np.float32)
    integers = np.asarray(jax.jit(ordered)(numbers))
    np.testing.assert_array_equal(np.diff(integers) > 0, np.diff(numbers) > 0)
    np.testing.assert_array_equal(np.asarray(jax.jit(number_of)(integers)), numbers)


@pytest.mark.parametrize(("prevalence", "decimals"), [(0.05, 1), (0.5, 6), (0.95, 2)])
def test_precision_holds_at_twenty_thousand_scores(rng, prevalence, decimals):
    scores, labels = sample(rng, "continuous", n=20_000, prevalence=prevalence)
    scores = np.round(scores, decimals).astype(np.float32)
    np.testing.assert_allclose(auroc(scores, labels), sk.roc_auc_score(labels, scores), atol=1e-6)
    np.testing.assert_allclose(aupr_out(scores, labels), sk.average_precision_score(labels, scores), atol=1e-6)
    np.testing.assert_allclose(aupr_in(scores, labels), sk.average_precision_score(1 - labels, -scores), atol=1e-6)
    np.testing.assert_allclose(fpr_at_tpr(scores, labels), oracle_fpr(scores, labels, 0.95), atol=1e-6)


def test_exact_values_by_hand():
    scores, labels = np.array([0.1, 0.4, 0.35, 0.8], np.float32), np.array([0, 0, 1, 1])
    assert float(auroc(scores, labels)) == 0.75
    np.testing.assert_allclose(aupr_out(scores, labels), 0.5 + 0.5 * 2 / 3, rtol=1e-6)
    assert float(fpr_at_tpr(scores, labels)) == 0.5
    np.testing.assert_allclose(f1_max(scores, labels), (0.8, 0.225), rtol=1e-6)
    # Perfect scores are exactly 1 and not nearly 1.
    labels = (np.arange(301) >= 200).astype(np.int32)
    scores = np.arange(301, dtype=np.float32)
    assert float(auroc(scores, labels)) == 1.0
    assert float(aupr_in(scores, labels)) == float(aupr_out(scores, labels)) == 1.0
    assert float(fpr_at_tpr(scores, labels)) == 0.0


@pytest.mark.parametrize("tpr", [0.8, 0.9, 1.0])
def test_fpr_counts_anomalies_in_whole_numbers(rng, tpr):
    # 20 and 100 anomalies: tpr * n is a whole number, where floating point may ask for one anomaly too many.
    for anomalies in (20, 100):
        labels = np.arange(200) < anomalies
        scores = np.round(rng.standard_normal(200) + labels, 1).astype(np.float32)
        np.testing.assert_allclose(fpr_at_tpr(scores, labels, tpr), oracle_fpr(scores, labels, tpr), atol=1e-6)


def test_precision_recall_f1_equal_scikit_learn(rng):
    scores, labels = sample(rng, "ties")
    for threshold in (-10.0, 0.0, 0.5, 10.0):
        got = precision_recall_f1(scores, labels, threshold)
        expected = sk.precision_recall_fscore_support(labels, scores > threshold, average="binary", zero_division=0.0)
        np.testing.assert_allclose(got, expected[:3], atol=1e-6)


def test_order_scale_and_complement(rng):
    scores, labels = sample(rng, "ties")
    order = rng.permutation(len(scores))
    for metric in (auroc, aupr_in, aupr_out, fpr_at_tpr):
        value = float(metric(scores, labels))
        assert float(metric(scores[order], labels[order])) == value
        assert float(metric(8 * scores, labels)) == value
        assert float(metric(scores, labels.astype(bool))) == value
    np.testing.assert_allclose(auroc(-scores, labels), 1 - auroc(scores, labels), atol=1e-6)
    np.testing.assert_allclose(aupr_in(scores, labels), average_precision(-scores, 1 - labels), atol=1e-6)


def test_vmap_equals_loop(rng):
    pairs = [sample(rng, kind) for kind in ("continuous", "ties", "perfect")]
    scores, labels = np.stack([s for s, _ in pairs]), pairs[0][1]

    def everything(scores, labels):
        return (
            auroc(scores, labels),
            aupr_in(scores, labels),
            fpr_at_tpr(scores, labels),
            f1_max(scores, labels),
        )

    batched = jax.jit(jax.vmap(everything, (0, None)))(scores, labels)
    for i, row in enumerate(scores):
        for got, expected in zip(jax.tree.leaves(batched), jax.tree.leaves(everything(row, labels))):
            np.testing.assert_allclose(got[i], expected, rtol=1e-6)


def test_undefined_is_nan(rng):
    scores, labels = sample(rng, "continuous")
    broken = scores.copy()
    broken[5] = np.nan
    for metric in (auroc, aupr_in, aupr_out, fpr_at_tpr, lambda s, y: f1_max(s, y).f1):
        assert np.isnan(metric(broken, labels))
        assert np.isnan(metric(scores, np.zeros_like(labels)))
        assert np.isnan(metric(scores, np.ones_like(labels)))
    assert np.isnan(f1_max(broken, labels).threshold)
    assert np.isnan(precision_recall_f1(broken, labels, 0.0)).all()
    assert np.isnan(precision_recall_f1(scores, np.zeros_like(labels), 0.0)).all()


def class_counts(scores, labels):
    """A metric that exposes the resample: anomalies, normals, and the mean score."""
    return jnp.stack([jnp.sum(labels), jnp.sum(1 - labels), jnp.mean(scores)])


def test_bootstrap_resamples_within_classes(rng):
    labels = (np.arange(60) < 7).astype(np.int32)
    scores = (labels * 1000 + rng.random(60)).astype(np.float32)
    low, high = bootstrap_interval(class_counts, scores, labels, key=jax.random.key(0), resamples=50)
    np.testing.assert_array_equal(low[:2], [7, 53])
    np.testing.assert_array_equal(high[:2], [7, 53])
    # Labels stay with their scores: every resample holds exactly seven scores above 1000.
    assert 7000 / 60 < low[2] < high[2] < 7060 / 60


def test_bootstrap_interval_equals_numpy_and_covers(rng):
    scores, labels = sample(rng, "ties", prevalence=0.3)
    low, high = bootstrap_interval(auroc, scores, labels, key=jax.random.key(1), resamples=1000)
    normal, anomalous = scores[labels == 0], scores[labels == 1]
    values = []
    for _ in range(1000):
        a, b = rng.choice(normal, len(normal)), rng.choice(anomalous, len(anomalous))
        values.append(np.mean((b[:, None] > a[None]) + 0.5 * (b[:, None] == a[None])))
    np.testing.assert_allclose([low, high], np.quantile(values, [0.025, 0.975]), atol=0.015)
    assert low < auroc(scores, labels) < high
    again = bootstrap_interval(auroc, scores, labels, key=jax.random.key(1), resamples=1000)
    assert (float(again[0]), float(again[1])) == (float(low), float(high))
    narrow = bootstrap_interval(auroc, scores, labels, key=jax.random.key(1), resamples=1000, level=0.5)
    assert low < narrow[0] < narrow[1] < high


def test_summary_is_plain_and_complete(rng):
    scores, labels = sample(rng, "ties")
    table = summarise(scores, labels, key=jax.random.key(0), resamples=200)
    assert set(table) == {"auroc", "aupr_in", "aupr_out", "fpr95", "f1_max", "prevalence", "f1_all_anomalous"}
    singles = {"auroc": auroc, "aupr_in": aupr_in, "aupr_out": aupr_out, "fpr95": fpr_at_tpr}
    for name, metric in singles.items():
        assert table[name]["value"] == pytest.approx(float(metric(scores, labels)), abs=1e-6)
    assert table["f1_max"]["value"] == pytest.approx(float(f1_max(scores, labels).f1), abs=1e-6)
    for name in (*singles, "f1_max"):
        entry = table[name]
        assert all(type(value) is float for value in entry.values())
        assert 0 <= entry["low"] < entry["high"] <= 1
    assert table["prevalence"] == pytest.approx(labels.mean())
    assert table["f1_all_anomalous"] == pytest.approx(sk.f1_score(labels, np.ones_like(labels)))


def test_bad_input_is_refused(rng):
    scores, labels = sample(rng, "continuous", n=20)
    key = jax.random.key(0)
    for bad_scores, bad_labels, message in [
        (scores, np.zeros(20), "0 of 20 images are anomalous"),
        (scores, np.ones(20), "20 of 20 images are anomalous"),
        (scores, labels * 2, "labels must be 0"),
        (scores * np.nan, labels, "20 of 20 scores are NaN"),
        (scores[:5], labels, "one length"),
    ]:
        with pytest.raises(ValueError, match=message):
            summarise(bad_scores, bad_labels, key=key)
    with pytest.raises(ValueError, match="tpr"):
        fpr_at_tpr(scores, labels, 0.0)
    with pytest.raises(ValueError, match="resamples"):
        bootstrap_interval(auroc, scores, labels, key=key, resamples=0)
    with pytest.raises(ValueError, match="level"):
        bootstrap_interval(auroc, scores, labels, key=key, level=95)
    with pytest.raises(AssertionError):
        auroc(scores[:, None], labels[:, None])
    with pytest.raises(AssertionError):
        auroc(scores[:5], labels)
    with pytest.raises(ValueError, match="subset"):
        jax.eval_shape(auroc, jnp.zeros(2**20), jnp.zeros(2**20))
