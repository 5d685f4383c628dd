"""Means over classes and training seeds, as tables of one-class detection give them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxad.metrics import image as metrics


def mean_interval(
    cells: Sequence[Sequence[Mapping[str, float]]], *, seed: int = 0, resamples: int = 2000
) -> dict[str, float]:
    """Mean of a metric over classes and seeds, with a 95 % bootstrap interval over both.

    Args:
      cells: {"value", "low", "high"} by class and seed, equally many seeds for each class. Of a single one its own
        interval, which is over test images, is returned.
      seed: of the resamples, which draw classes, and seeds for each.

    Returns:
      {"value", "low", "high"}.
    """
    values = np.array([[cell["value"] for cell in part] for part in cells])
    if values.size == 1:
        return dict(cells[0][0])
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, values.shape[0], (resamples, values.shape[0], 1))
    columns = rng.integers(0, values.shape[1], (resamples, *values.shape))
    low, high = np.quantile(values[rows, columns].mean((1, 2)), (0.025, 0.975))
    return {"value": float(values.mean()), "low": float(low), "high": float(high)}


def group_cells(cells: Sequence[Mapping[str, Any]], classes: Sequence[str], *, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of a table, one for every variant and gamma, in the order of their first cells.

    Args:
      cells: {"variant", "gamma", "class", "seed", "test": see `metrics.summarise`, perhaps "auroc_by_statistics"}.
      classes: the order of the columns; of each there are equally many cells.
      seed: of the bootstrap.

    Returns:
      {"variant", "gamma", "auroc": {class: a value for each seed}, "mean", "sd": the population's over classes, as in
      AGAD's tables, "test": means with intervals, perhaps "auroc_by_statistics": means}.
    """
    return [
        _group([cell for cell in cells if (cell["variant"], cell["gamma"]) == key], classes, seed)
        for key in dict.fromkeys((cell["variant"], cell["gamma"]) for cell in cells)
    ]


def _group(rows: Sequence[Mapping[str, Any]], classes: Sequence[str], seed: int) -> dict[str, Any]:
    by_class = {name: [row["test"] for row in rows if row["class"] == name] for name in classes}
    auroc = {name: [test["auroc"]["value"] for test in tests] for name, tests in by_class.items()}
    means = [float(np.mean(values)) for values in auroc.values()]
    test = {
        name: mean_interval([[test[name] for test in tests] for tests in by_class.values()], seed=seed)
        for name in metrics.PANEL
    }
    test |= {name: float(np.mean([row["test"][name] for row in rows])) for name in ("prevalence", "f1_all_anomalous")}
    group = {"variant": rows[0]["variant"], "gamma": rows[0]["gamma"], "auroc": auroc, "test": test}
    group |= {"mean": float(np.mean(means)), "sd": float(np.std(means))}
    if found := [row["auroc_by_statistics"] for row in rows if "auroc_by_statistics" in row]:
        group["auroc_by_statistics"] = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
    return group
