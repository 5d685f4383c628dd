"""What masks are worth on every kind of defect: those that a labelled image shows, and those that none does.

The thesis on neural batch sampling shows masks of kinds that no labelled image had (its Figs. 4.6 and 4.7) and of kinds
on which all methods fail (4.8). Which kinds are seen follows from the draw of the labelled images, seed by seed, or
from `few_labels(unseen=...)`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxad.data.protocols.few_masks import LabelledTask
from jaxad.metrics.pixel import pixel_scores

GROUPS = {True: "all seen kinds", False: "all unseen kinds"}


def seen_kinds(task: LabelledTask) -> set[str]:
    """Kinds of defects that labelled images show."""
    return {task.kinds[name] for name in task.labelled.ids.tolist() if name in task.kinds}


def kinds_tested(task: LabelledTask) -> np.ndarray:
    """The kind of defect [m] str of every test image, empty where it has none or its kind is not known."""
    return np.array([task.kinds.get(name, "") for name in task.test.ids.tolist()])


def kind_scores(task: LabelledTask, predicted: np.ndarray) -> list[dict[str, Any]]:
    """Scores of predicted masks [m, H, W] of the test images, for every kind of defect among them, in their order.

    Returns:
      {"kind", "seen", "images", "precision", "recall", "f1", "iou"} each, pixels of all images of a kind pooled; then
      the same of all kinds that are seen, and of all that are not, where there are some of both. Nothing where no kind
      is known. Images without defects belong to no kind.
    """
    kinds, seen = kinds_tested(task), seen_kinds(task)
    groups = {kind: (kind in seen, kinds == kind) for kind in sorted(set(kinds.tolist()) - {""})}
    for is_seen, name in GROUPS.items():
        if {known for known, _ in groups.values()} >= {True, False}:
            groups[name] = (is_seen, np.isin(kinds, [kind for kind in set(kinds) - {""} if (kind in seen) == is_seen]))
    return [
        {"kind": kind, "seen": is_seen, "images": int(where.sum())}
        | pixel_scores(predicted[where], task.test.masks[where])._asdict()
        for kind, (is_seen, where) in groups.items()
    ]


def kinds_over_seeds(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """F1 of every method on every kind, apart for the seeds whose labelled images show the kind and for the others.

    Args:
      records: of trainings, with the `kind_scores` of each as "kinds".

    Returns:
      {"method", "kind", "images": mean number a seed, "seen" and "unseen": {"values", "mean", "sd"} of the seeds, None
      where there are none}.
    """
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for record in records:
        for row in record.get("kinds", ()):
            found.setdefault((record["method"], row["kind"]), []).append(row)
    order = {name: place for place, name in enumerate(GROUPS.values(), start=1)}
    methods = list(dict.fromkeys(method for method, _ in found))
    return [
        {"method": method, "kind": kind, "images": float(np.mean([row["images"] for row in found[method, kind]]))}
        | {name: _spread([row["f1"] for row in found[method, kind] if row["seen"] == seen])
           for name, seen in (("seen", True), ("unseen", False))}
        for method, kind in sorted(found, key=lambda key: (methods.index(key[0]), order.get(key[1], 0), key[1]))
    ]  # fmt: skip


def _spread(values: Sequence[float]) -> dict[str, Any] | None:
    if not values:
        return None
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"values": list(values), "mean": float(np.mean(values)), "sd": sd}
