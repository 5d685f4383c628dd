"""How well raw scores rank anomalies: AUROC, AUPR-In/Out, FPR@95TPR, F1-max, and their uncertainty.

Scores are float32 [n], higher = more anomalous, never clamped; labels are [n], 1 = anomalous. All functions
are exact under ties, compiled, and map over a leading axis with `jax.vmap(auroc, (0, None))`. Inside compiled
code nothing can be refused, so NaN scores and a missing class give NaN; `summarise` refuses them.

Scores of more digits than float32 has, such as float64 arrays of NumPy, count by their ranks where the result is a
matter of order. Where a threshold comes in, they are refused if float32 would make different scores equal.
"""

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxad.metrics.order import LEAST, by_order, by_value, number_of, ordered, ranked, single
from jaxad.types import Array, Key

MAX_SCORES = 2**20 - 1  # integer sums below stay within 32 bits
MAX_MANY = 2**29  # of `auroc_of_many`, which sums row by row
TPR_RESOLUTION = 2000  # a true-positive rate is read as a fraction with at most this denominator


class BestF1(NamedTuple):
    """The largest F1 of any threshold, and a threshold that reaches it when `score > threshold` flags."""

    f1: Array
    threshold: Array


class PrecisionRecallF1(NamedTuple):
    """Of the flagged, how many are anomalous; of the anomalous, how many are flagged; harmonic mean."""

    precision: Array
    recall: Array
    f1: Array


class _Counts(NamedTuple):
    """For every score, how many of each class lie below it, and how many below or level; all [n] int32."""

    order: Array  # the scores as `ordered` has them
    anomalous: Array  # [n] bool
    normals_below: Array
    normals_upto: Array
    anomalies_below: Array
    anomalies_upto: Array
    normals: Array  # scalar
    anomalies: Array  # scalar
    valid: Array  # scalar bool: both classes, no NaN


def _check(scores: Array, labels: Array, most: int = MAX_SCORES) -> tuple[Array, Array]:
    scores, labels = jnp.asarray(scores), jnp.asarray(labels)
    chex.assert_rank([scores, labels], 1)
    chex.assert_equal_shape([scores, labels])
    if scores.shape[0] > most:
        raise ValueError(f"{scores.shape[0]} scores are more than {most}: score a random subset")
    return scores, labels > 0


def _count(scores: Array, labels: Array, most: int = MAX_SCORES) -> _Counts:
    scores, anomalous = _check(scores, labels, most)
    order = ordered(scores)

    def below_and_upto(members: Array) -> tuple[Array, Array]:
        # Others sort behind every number: no float but NaN has the largest integer.
        ranked = jnp.sort(jnp.where(members, order, jnp.iinfo(jnp.int32).max))
        return jnp.searchsorted(ranked, order), jnp.searchsorted(ranked, order, side="right")

    anomalies = jnp.sum(anomalous, dtype=jnp.int32)
    normals = scores.shape[0] - anomalies
    valid = (anomalies > 0) & (normals > 0) & ~jnp.any(jnp.isnan(scores))
    counts = (*below_and_upto(~anomalous), *below_and_upto(anomalous))
    return _Counts(order, anomalous, *counts, normals, anomalies, valid)


def _mean(fractions: Array, members: Array) -> Array:
    """Mean of the members' fractions in [0, 1], to 2^-24 whatever n: a float32 sum would drift with n."""
    fixed = jnp.where(members, jnp.round(fractions * 2**24), 0.0).astype(jnp.uint32)
    rows = -(-fixed.shape[0] // MAX_SCORES)  # each of so many numbers that its sums fit
    fixed = jnp.pad(fixed, (0, -fixed.shape[0] % rows)).reshape(rows, -1)
    high, low = jnp.sum(fixed >> 12, 1, dtype=jnp.uint32), jnp.sum(fixed & 0xFFF, 1, dtype=jnp.uint32)
    count = jnp.sum(members, dtype=jnp.uint32)
    return jnp.sum(high / count + low / count / 2**12) / 2**12


def _auroc(c: _Counts) -> Array:
    return jnp.where(c.valid, _mean((c.normals_below + c.normals_upto) / (2 * c.normals), c.anomalous), jnp.nan)


def _aupr_out(c: _Counts) -> Array:
    caught, alarms = c.anomalies - c.anomalies_below, c.normals - c.normals_below
    return jnp.where(c.valid, _mean(caught / (caught + alarms), c.anomalous), jnp.nan)


def _aupr_in(c: _Counts) -> Array:
    fractions = c.normals_upto / (c.normals_upto + c.anomalies_upto)
    return jnp.where(c.valid, _mean(fractions, ~c.anomalous), jnp.nan)


def _fpr_at_tpr(c: _Counts, tpr: float) -> Array:
    # In whole numbers: 0.95 * 20 must be 19, not a little more.
    wanted = Fraction(tpr).limit_denominator(TPR_RESOLUTION)
    enough = (c.anomalies - c.anomalies_below) * wanted.denominator >= c.anomalies * wanted.numerator
    alarms = jnp.min(jnp.where(enough, c.normals - c.normals_below, c.normals), initial=MAX_SCORES)
    return jnp.where(c.valid, alarms / c.normals, jnp.nan)


def _f1_max(c: _Counts) -> BestF1:
    caught, alarms = c.anomalies - c.anomalies_below, c.normals - c.normals_below
    f1 = jnp.where(c.valid, 2 * caught / (caught + alarms + c.anomalies), jnp.nan)
    best = jnp.max(f1, initial=-jnp.inf)
    # Equal F1 at several thresholds: the highest, which flags fewest. Not `==`: XLA may compute `f1` twice
    # and round differently.
    first = jnp.max(jnp.where(f1 >= best * (1 - 5e-7), c.order, LEAST), initial=LEAST)
    second = jnp.max(jnp.where(c.order < first, c.order, LEAST), initial=LEAST)
    upper, lower = (jnp.where(order == LEAST, -jnp.inf, number_of(order)) for order in (first, second))
    middle = lower + (upper - lower) / 2
    below_all = upper - 1e-6 * jnp.maximum(jnp.abs(upper), 1.0)
    threshold = jnp.where((middle < upper) & (middle >= lower), middle, lower)  # neighbours have no middle
    threshold = jnp.where(jnp.isfinite(lower), threshold, below_all)
    return BestF1(best, jnp.where(c.valid, threshold, jnp.nan))


@by_order
@jax.jit
def auroc(scores: Array, labels: Array) -> Array:
    """Probability that an anomaly scores above a normal instance, ties one half: [n], [n] -> scalar."""
    return _auroc(_count(scores, labels))


@by_order
@jax.jit
def auroc_of_many(scores: Array, labels: Array) -> Array:
    """`auroc` of up to 2^29 scores, such as the pixels of many maps."""
    return _auroc(_count(scores, labels, MAX_MANY))


@by_order
@jax.jit
def average_precision(scores: Array, positives: Array) -> Array:
    """Average precision, sum of (R_k - R_k-1) P_k, not interpolated: [n], [n] (1 = positive) -> scalar."""
    return _aupr_out(_count(scores, positives))


@by_order
@jax.jit
def aupr_out(scores: Array, labels: Array) -> Array:
    """AUPR-Out: average precision with anomalies as positives: [n], [n] -> scalar.

    Toolkits that integrate the curve by trapezoids (OpenOOD) differ a little. Chance level: the prevalence.
    """
    return _aupr_out(_count(scores, labels))


@by_order
@jax.jit
def aupr_in(scores: Array, labels: Array) -> Array:
    """AUPR-In: average precision with normal instances as positives, scores negated: [n], [n] -> scalar.

    Chance level is 1 - prevalence: 0.95 for the 5 % anomalies of AutoAD's splits.
    """
    return _aupr_in(_count(scores, labels))


CRITERIA = {"auroc": auroc, "aupr_in": aupr_in, "aupr_out": aupr_out}
"""What a search may reward and a detector be chosen by: (scores [n], labels [n]) -> scalar in [0, 1]."""


@by_order
@partial(jax.jit, static_argnames="tpr")
def fpr_at_tpr(scores: Array, labels: Array, tpr: float = 0.95) -> Array:
    """Fraction of normals flagged at the largest threshold that catches `tpr` of the anomalies: -> scalar.

    Anomalies are the positives. ODIN and others take in-distribution as positive, which is another number:
    `fpr_at_tpr(-scores, 1 - labels)`. Raises ValueError for `tpr` outside (0, 1].
    """
    if not 0 < tpr <= 1:
        raise ValueError(f"tpr={tpr} is outside (0, 1]: give the fraction of anomalies to catch, such as 0.95")
    return _fpr_at_tpr(_count(scores, labels), tpr)


@by_value
@jax.jit
def f1_max(scores: Array, labels: Array) -> BestF1:
    """Largest F1 of the anomalous class over all thresholds: [n], [n] -> (f1, threshold).

    Optimistic, as it is chosen on the labels it is computed from. The threshold lies half-way to the next
    lower score, or just below the lowest score where flagging everything is best.
    """
    return _f1_max(_count(jnp.asarray(scores, jnp.float32), labels))


@by_value
@jax.jit
def precision_recall_f1(scores: Array, labels: Array, threshold: Array) -> PrecisionRecallF1:
    """Precision, recall and F1 of flagging `score > threshold`: [n], [n], scalar -> three scalars.

    Precision is 0 where nothing is flagged; all are NaN with NaN scores or without anomalies.
    """
    scores, anomalous = _check(scores, labels)
    flagged = ordered(scores.astype(jnp.float32)) > ordered(jnp.asarray(threshold, jnp.float32))
    caught = jnp.sum(flagged & anomalous, dtype=jnp.int32)
    alarms, anomalies = jnp.sum(flagged, dtype=jnp.int32), jnp.sum(anomalous, dtype=jnp.int32)
    result = PrecisionRecallF1(
        precision=caught / jnp.maximum(alarms, 1),
        recall=caught / anomalies,
        f1=2 * caught / (alarms + anomalies),
    )
    valid = (anomalies > 0) & ~jnp.any(jnp.isnan(scores)) & ~jnp.isnan(threshold)
    return jax.tree.map(lambda value: jnp.where(valid, value, jnp.nan), result)


@partial(jax.jit, static_argnames=("metric", "resamples"))
def _bootstrap(metric, scores, labels, key, resamples, level):
    n = scores.shape[0]
    by_class = jnp.argsort(labels > 0)  # normals first
    normals = n - jnp.sum(labels > 0, dtype=jnp.int32)
    slots = jnp.arange(n)
    first = jnp.where(slots < normals, 0, normals)
    after = jnp.where(slots < normals, normals, n)

    def one(key: Key) -> Array:
        drawn = by_class[jax.random.randint(key, (n,), first, after)]
        return metric(scores[drawn], labels[drawn])

    # CPUs are faster one by one; elsewhere as many together as keep memory bounded.
    together = None if jax.default_backend() == "cpu" else max(1, min(resamples, 2**20 // max(n, 1)))
    values = jax.lax.map(one, jax.random.split(key, resamples), batch_size=together)
    tail = (1 - level) / 2
    return jnp.quantile(values, tail, axis=0), jnp.quantile(values, 1 - tail, axis=0)


def bootstrap_interval(
    metric: Callable[[Array, Array], Array],
    scores: Array,
    labels: Array,
    *,
    key: Key,
    resamples: int = 1000,
    level: float = 0.95,
) -> tuple[Array, Array]:
    """Percentile bootstrap interval of a metric, resampled within each class: -> (low, high).

    `metric` maps ([n], [n]) to an array of any shape and is compiled once per function object, so pass the
    same function again rather than a new lambda. Resampling by class keeps both classes present and the
    prevalence fixed. Raises ValueError for `resamples` < 1 or `level` outside (0, 1).
    """
    if resamples < 1:
        raise ValueError(f"resamples={resamples} is below 1: 1000 gives a stable 95 % interval")
    if not 0 < level < 1:
        raise ValueError(f"level={level} is outside (0, 1): give a fraction such as 0.95")
    scores, labels = jnp.asarray(single(scores), jnp.float32), jnp.asarray(labels)
    chex.assert_rank([scores, labels], 1)
    chex.assert_equal_shape([scores, labels])
    return _bootstrap(metric, scores, labels, key, resamples, level)


PANEL = ("auroc", "aupr_in", "aupr_out", "fpr95", "f1_max")


@jax.jit
def _panel(scores: Array, labels: Array) -> Array:
    c = _count(scores, labels)
    return jnp.stack([_auroc(c), _aupr_in(c), _aupr_out(c), _fpr_at_tpr(c, 0.95), _f1_max(c).f1])


def summarise(scores: Array, labels: Array, *, key: Key, resamples: int = 1000, level: float = 0.95) -> dict[str, Any]:
    """Every metric with its bootstrap interval, as plain floats ready for JSON.

    Returns {"auroc" | "aupr_in" | "aupr_out" | "fpr95" | "f1_max": {"value", "low", "high"}}, and beside them
    what F1 must be read against: "prevalence" and "f1_all_anomalous", the F1 of flagging everything.
    Raises ValueError for NaN scores, labels other than 0 and 1, a missing class or unequal lengths.
    """
    scores, labels = np.asarray(scores), np.asarray(labels)
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise ValueError(f"scores {scores.shape} and labels {labels.shape} must be vectors of one length")
    if np.isnan(scores).any():
        raise ValueError(f"{np.isnan(scores).sum()} of {len(scores)} scores are NaN: find the model's overflow first")
    labels = labels.astype(np.float32)
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("labels must be 0 (normal) or 1 (anomalous)")
    prevalence = float(labels.mean(dtype=np.float64)) if len(labels) else 0.0
    if not 0 < prevalence < 1:
        counts = f"{int(labels.sum())} of {len(labels)} images are anomalous"
        raise ValueError(f"{counts}: metrics need both normal and anomalous ones")
    scores = ranked(scores)  # all of these are matters of order
    values = _panel(scores, labels)
    low, high = bootstrap_interval(_panel, scores, labels, key=key, resamples=resamples, level=level)
    table = {
        name: {"value": float(values[i]), "low": float(low[i]), "high": float(high[i])} for i, name in enumerate(PANEL)
    }
    return {**table, "prevalence": prevalence, "f1_all_anomalous": 2 * prevalence / (1 + prevalence)}
