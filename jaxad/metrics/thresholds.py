"""From scores to decisions: a threshold is chosen after training, on held-out images, and says how.

Runs on the host with NumPy. A score strictly greater than the threshold is called anomalous.
"""

from typing import Any, NamedTuple

import numpy as np


class Threshold(NamedTuple):
    """Where to cut, how that was chosen and from how many images."""

    value: float
    method: str
    n: int  # images used; 0 if the value was given
    details: dict[str, Any]  # plain floats, ready for JSON


def _scores(scores: Any, what: str) -> np.ndarray:
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 1 or scores.size == 0:
        raise ValueError(f"{what} of shape {scores.shape} must be a vector with at least one score")
    if np.isnan(scores).any():
        raise ValueError(f"{np.isnan(scores).sum()} of {scores.size} {what} are NaN: find the model's overflow first")
    return scores


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval for a proportion of which `successes` of `n` were seen: -> (low, high) in [0, 1]."""
    from scipy.stats import beta  # takes longer to import than all else that scoring with a saved detector needs

    tail = (1 - level) / 2
    low = beta.ppf(tail, successes, n - successes + 1) if successes > 0 else 0.0
    high = beta.ppf(1 - tail, successes + 1, n - successes) if successes < n else 1.0
    return float(low), float(high)


def false_positive_rate(normal_scores: Any, target: float = 0.05, *, level: float = 0.95) -> Threshold:
    """The threshold that flags at most `target` of further normal images; needs no anomalies.

    normal_scores: [n], held-out normal images, higher = more anomalous. Takes the score of rank
    ceil((n + 1)(1 - target)) from below, the split-conformal choice: averaged over held-out sets, an
    exchangeable new normal image is flagged with probability `target` or less. With n < 1 / target - 1 no
    score can promise that; then the largest is taken, and `details["expected_at_most"]` = 1 / (n + 1) says
    what it is worth.
    details: "target", "observed" rate, "expected_at_most", and "low", "high": Clopper-Pearson interval of the
    true rate, whose upper end is exact for an order statistic and whose lower end is conservative.
    Raises ValueError for an empty vector, NaN or `target` outside (0, 1).
    """
    if not 0 < target < 1:
        raise ValueError(
            f"target={target} is outside (0, 1): give the tolerated fraction of false alarms, such as 0.05"
        )
    if not 0 < level < 1:
        raise ValueError(f"level={level} is outside (0, 1): give a fraction such as 0.95")
    ranked = np.sort(_scores(normal_scores, "normal scores"))
    n = len(ranked)
    # Rounding guards against 0.95 * 20 being a little more than 19.
    rank = min(int(np.ceil(np.round((n + 1) * (1 - target), 9))), n)
    value = ranked[rank - 1]
    flagged = int((ranked > value).sum())
    low, high = clopper_pearson(flagged, n, level)
    details = {
        "target": target,
        "observed": flagged / n,
        "expected_at_most": (n + 1 - rank) / (n + 1),
        "level": level,
        "low": low,
        "high": high,
    }
    return Threshold(float(value), "false_positive_rate", n, details)


def _candidates(scores: Any, labels: Any, method: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, int]:
    """Cuts from high to low, with the anomalies and normals above each: (cuts, caught, alarms, P, N)."""
    scores, labels = _scores(scores, "scores"), np.asarray(labels)
    if labels.shape != scores.shape:
        raise ValueError(f"scores {scores.shape} and labels {labels.shape} must have one length: one of each per image")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("labels must be 0 (normal) or 1 (anomalous)")
    anomalous = labels.astype(bool)
    anomalies, normals = int(anomalous.sum()), int((~anomalous).sum())
    if anomalies == 0 or normals == 0:
        missing = "anomalous" if anomalies == 0 else "normal"
        raise ValueError(
            f"the {method} threshold needs normal and anomalous images and there is no {missing} one: "
            "use false_positive_rate or fixed"
        )
    distinct, group = np.unique(scores, return_inverse=True)
    caught = np.cumsum(np.bincount(group, weights=anomalous)[::-1])
    alarms = np.cumsum(np.bincount(group, weights=~anomalous)[::-1])
    upper = distinct[::-1]
    below_all = upper[-1] - 1e-6 * max(abs(upper[-1]), 1.0)
    lower = np.append(upper[1:], below_all)
    # Half-way to the next lower score, where new scores have most room; infinities leave only the lower one.
    with np.errstate(invalid="ignore"):
        middle = lower + (upper - lower) / 2
    cuts = np.where((middle < upper) & np.isfinite(middle), middle, lower)
    return cuts, caught, alarms, anomalies, normals


def f1(scores: Any, labels: Any) -> Threshold:
    """The threshold with the largest F1 of the anomalous class on labelled images, the highest among equals.

    scores, labels: [n], 1 = anomalous. details: "f1", "precision", "recall" there, "prevalence" and
    "f1_all_anomalous", the F1 of flagging everything. Raises ValueError if a class is missing.
    """
    cuts, caught, alarms, anomalies, normals = _candidates(scores, labels, "f1")
    values = 2 * caught / (caught + alarms + anomalies)
    best = int(np.argmax(values))
    prevalence = anomalies / (anomalies + normals)
    details = {
        "f1": float(values[best]),
        "precision": float(caught[best] / (caught[best] + alarms[best])),
        "recall": float(caught[best] / anomalies),
        "prevalence": prevalence,
        "f1_all_anomalous": 2 * prevalence / (1 + prevalence),
    }
    return Threshold(float(cuts[best]), "f1", anomalies + normals, details)


def youden(scores: Any, labels: Any) -> Threshold:
    """The threshold with the largest J = TPR - FPR (Youden 1950), whatever the prevalence.

    scores, labels: [n], 1 = anomalous; the highest threshold among equals. details: "youden", "tpr", "fpr".
    Raises ValueError if a class is missing.
    """
    cuts, caught, alarms, anomalies, normals = _candidates(scores, labels, "youden")
    # Whole numbers, so that equal J are seen as equal.
    best = int(np.argmax(caught * normals - alarms * anomalies))
    tpr, fpr = float(caught[best] / anomalies), float(alarms[best] / normals)
    details = {"youden": tpr - fpr, "tpr": tpr, "fpr": fpr}
    return Threshold(float(cuts[best]), "youden", anomalies + normals, details)


def fixed(value: float) -> Threshold:
    """A threshold chosen elsewhere. Raises ValueError for NaN."""
    if np.isnan(value):
        raise ValueError("threshold is NaN: give a number on the scale of the scores")
    return Threshold(float(value), "fixed", 0, {})


def decide(scores: Any, threshold: Threshold | float) -> np.ndarray:
    """True where the score is strictly greater than the threshold: [...] -> bool [...].

    Raises ValueError for NaN, as a score or as the threshold, by which all would otherwise pass as normal.
    """
    value = fixed(threshold.value if isinstance(threshold, Threshold) else float(threshold)).value
    scores = np.asarray(scores, np.float64)
    if np.isnan(scores).any():
        raise ValueError(f"{np.isnan(scores).sum()} of {scores.size} scores are NaN: they are neither normal nor not")
    return scores > value
