"""What searches of several strategies from several seeds are compared by, and the curves that show it.

An outcome is {strategy: a value for each seed [seeds]}, higher is better.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxad.metrics.paired_tests import rank_correlation
from jaxad.nas.analysis.benchmark import SearchRecord, best_at, fair_seconds
from jaxad.report.comparison import Curves
from jaxad.report.plots import running_best

WINDOW, TOP = 20, 5  # children, as in Fig. 3 of AutoAD
CHANCE = "random"
PAIR = ("autoad", CHANCE)  # whom it compares
HALF = "best reward after half of the children, of random search after all"


class Outcomes(NamedTuple):
    """All that a comparison knows of its searches."""

    outcomes: dict[str, dict[str, np.ndarray]]  # {what they are compared by: {strategy: [seeds]}}
    curves: list[Curves]
    facts: dict[str, Any]  # for a reader, beside
    progress: list[Curves]  # of a `PAIR`, see `progress_of`


def table_outcomes(rewards: Mapping[str, np.ndarray], table: np.ndarray) -> Outcomes:
    """Of searches that looked rewards up in a table.

    Args:
      rewards: {strategy: [seeds, children]} in the order of evaluation.
      table: [sequences], the rewards of all.
    """
    best = {name: running_best(values) for name, values in rewards.items()}
    outcomes = {
        "best reward of a search": {name: values[:, -1] for name, values in best.items()},
        "mean reward of a search": {name: values.mean(1) for name, values in rewards.items()},
    }
    half = {name: values[:, (values.shape[1] + 1) // 2 - 1] for name, values in best.items()}
    if CHANCE in best:
        outcomes[HALF] = half | {CHANCE: best[CHANCE][:, -1]}
    seeds, children = next(iter(rewards.values())).shape
    about, count = f"{seeds} seeds; the median, and the quartiles of the first.", np.arange(1, children + 1)
    curves = [Curves(best, count, "children", "best reward so far", f"Best reward so far of {about}")]
    if children >= 2 * WINDOW:
        means = {
            name: np.lib.stride_tricks.sliding_window_view(values, WINDOW, axis=1).mean(-1)
            for name, values in rewards.items()
        }
        caption = f"Mean reward of the last {WINDOW} children of {about}"
        curves.append(Curves(means, count[WINDOW - 1 :], "children", f"mean of the last {WINDOW}", caption))
    quantiles = dict(zip(("p10", "p50", "p90", "best"), np.percentile(table, (10, 50, 90, 100))))
    return Outcomes(outcomes, curves, {"table": quantiles} | last_of(rewards), progress_of(rewards))


def progress_of(rewards: Mapping[str, np.ndarray]) -> list[Curves]:
    """What Fig. 3 of AutoAD shows of the `PAIR`; nothing where one of the two is missing.

    Best reward so far and mean of the best five so far, after every child; mean and standard deviation of the rewards
    of every twenty children, at the last of them, where there are forty at least.

    Args:
      rewards: {strategy: [seeds, children]} in the order of evaluation.
    """
    pair = {name: np.asarray(rewards[name]) for name in PAIR if name in rewards}
    if len(pair) < len(PAIR):
        return []
    children = next(iter(pair.values())).shape[1]
    count, ends = np.arange(1, children + 1), np.arange(WINDOW, children + 1, WINDOW)
    of_all = {"best so far": 1, f"mean of the best {TOP} so far": TOP}
    panels = [
        Curves({name: running_best(values, top) for name, values in pair.items()}, count, "children", "reward", title)
        for title, top in of_all.items()
    ]
    if children >= 2 * WINDOW:
        blocks = {name: v[:, : ends[-1]].reshape(len(v), -1, WINDOW) for name, v in pair.items()}
        panels += [
            Curves({name: getattr(own, what)(-1) for name, own in blocks.items()}, ends, "children", "reward", title)
            for what, title in (("mean", f"mean of every {WINDOW}"), ("std", f"sd of every {WINDOW}"))
        ]
    return panels


def last_of(rewards: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Where the curves of Fig. 3 end, of every strategy: medians over seeds of rewards [seeds, children]."""
    ends = {f"mean of the best {TOP}": lambda values: running_best(values, TOP)[:, -1]}
    ends[f"mean of the last {WINDOW}"] = lambda values: values[:, -WINDOW:].mean(1)
    ends[f"sd of the last {WINDOW}"] = lambda values: values[:, -WINDOW:].std(1)
    return {
        what: {name: float(np.median(end(np.asarray(values)))) for name, values in rewards.items()}
        for what, end in ends.items()
    }


def search_outcomes(
    records: Mapping[str, Sequence[SearchRecord]], tests: Sequence[Mapping[str, Any]], *, scratch: str
) -> Outcomes:
    """Of real searches, and the tests of their favourites.

    Args:
      records: {strategy: one for each seed}.
      tests: from `evaluate_favourites`, one for each seed.
      scratch: the strategy whose rewards are on another scale, as its children share no weights.
    """
    sharing = {name: own for name, own in records.items() if name != scratch}
    rewards = {name: np.array([record.rewards for record in own]) for name, own in sharing.items()}
    outcomes = {
        f"test AUROC after equal {what}": {
            name: np.array([test["auroc"][f"{name} {what}"] for test in tests]) for name in records
        }
        for what in ("children", "seconds")
    } | {"best reward of a search": {name: values.max(1) for name, values in rewards.items()}}
    quickest = max(fair_seconds(own[seed] for own in records.values()) for seed in range(len(tests)))
    seconds = np.linspace(0, quickest, 100)[1:]
    count = np.arange(1, next(iter(rewards.values())).shape[1] + 1)
    about = "best reward so far", f"Best reward so far on shared weights of {len(tests)} seeds; the median."
    over_time = {name: np.array([best_at(record, seconds) for record in own]) for name, own in sharing.items()}
    curves = [
        Curves({name: running_best(values) for name, values in rewards.items()}, count, "children", *about),
        Curves(over_time, seconds, "seconds, compilation and strategy included", *about),
    ]
    ranks = [pair for test in tests for pair in test["ranks"]]
    facts = {
        "seconds of a search": {
            name: float(np.median([record.elapsed[-1] for record in own])) for name, own in records.items()
        },
        "shared against from scratch": rank_correlation(*zip(*ranks)) if ranks else None,
    }
    return Outcomes(outcomes, curves, facts | last_of(rewards), progress_of(rewards))
