"""Does one way to search beat another? Paired seeds, and statistics that may answer "no evidence"."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

LEVEL = 0.95


class Paired(NamedTuple):
    """What paired results of two methods say: positive differences favour the first."""

    seeds: int
    difference: float  # median of the paired differences
    low: float  # its bootstrap interval
    high: float
    improvement: float  # probability that the first is better on a random pair of seeds; ties count half
    p_value: float  # Wilcoxon signed-rank, two-sided; 1 where all pairs tie
    adjusted: float  # after Holm, over all comparisons that were made together

    @property
    def verdict(self) -> str:
        """better, worse, or no evidence, at 5 % after Holm."""
        if not self.adjusted < 1 - LEVEL:
            return "no evidence"
        direction = self.difference or self.improvement - 0.5  # a median of many ties may be 0
        return "better" if direction > 0 else "worse"


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's step-down adjustment of p-values [m]: each times its rank from above, made monotone, at most 1."""
    p_values = np.asarray(p_values, float)
    order = np.argsort(p_values, kind="stable")
    scaled = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted


def compare(
    results: Mapping[str, np.ndarray], pairs: Sequence[tuple[str, str]], *, resamples: int = 10_000, seed: int = 0
) -> dict[tuple[str, str], Paired]:
    """Compare methods pair by pair.

    Args:
      results: one value for each seed, in the same order of seeds for all methods; higher is better.
      pairs: (first, second), all compared together by Holm.
      resamples: of the bootstrap over seeds.

    Raises:
      ValueError: fewer than two seeds, unequal numbers of them, values that are not finite.
    """
    from scipy.stats import wilcoxon

    found, rng = [], np.random.default_rng(seed)
    for first, second in pairs:
        a, b = (np.asarray(results[name], float) for name in (first, second))
        if a.shape != b.shape or a.ndim != 1 or len(a) < 2:
            raise ValueError(
                f"{first} has {a.shape} values and {second} {b.shape}; give the same seeds of both, 2 or more"
            )
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            raise ValueError(f"{first} or {second} has values that are not finite; leave such seeds out of both")
        differences = a - b
        drawn = np.median(differences[rng.integers(0, len(a), (resamples, len(a)))], axis=1)
        low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        p_value = float(wilcoxon(differences).pvalue) if np.any(differences) else 1.0
        better = np.mean((a[:, None] > b[None]) + 0.5 * (a[:, None] == b[None]))
        found.append((len(a), float(np.median(differences)), float(low), float(high), float(better), p_value))
    adjusted = holm([row[-1] for row in found])
    return {pair: Paired(*row, float(p)) for pair, row, p in zip(pairs, found, adjusted)}


def verdicts(
    outcomes: Mapping[str, Mapping[str, np.ndarray]], pairs: Sequence[tuple[str, str]]
) -> dict[str, dict[tuple[str, str], Paired]]:
    """Compare methods by each outcome ({outcome: {method: [seeds]}}), in the pairs that have it."""
    return {
        what: compare(results, [pair for pair in pairs if set(pair) <= set(results)])
        for what, results in outcomes.items()
    }


def as_json(
    outcomes: Mapping[str, Mapping[str, np.ndarray]], found: Mapping[str, Mapping[tuple[str, str], Paired]]
) -> dict[str, Any]:
    """Quartiles of every method and all that was compared, as plain data for results.json."""
    return {
        "outcomes": {
            what: {
                name: dict(zip(("p25", "p50", "p75"), np.percentile(v, (25, 50, 75)))) for name, v in results.items()
            }
            for what, results in outcomes.items()
        },
        "comparisons": [
            {"by": what, "first": a, "second": b, **paired._asdict(), "verdict": paired.verdict}
            for what, by_pair in found.items()
            for (a, b), paired in by_pair.items()
        ],
    }


def sentence(found: Mapping[str, Mapping[tuple[str, str], Paired]], first: str, others: Sequence[str]) -> str:
    """What to remember, by the first outcome."""
    what, by_pair = next(iter(found.items()))
    said = ", ".join(f"{by_pair[first, name].verdict} against {name}" for name in others)
    return f"By the {what}, {first} is: {said}."


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> dict[str, Any]:
    """Kendall's tau-b between two ways to judge the same children, with its p-value and their number."""
    from scipy.stats import kendalltau

    first, second = np.asarray(first, float), np.asarray(second, float)
    keep = np.isfinite(first) & np.isfinite(second)
    result = kendalltau(first[keep], second[keep])
    return {"tau": float(result.statistic), "p_value": float(result.pvalue), "children": int(keep.sum())}
