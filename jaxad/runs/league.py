"""The league of a search: the best child beside its rivals, and what validation makes of them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxad.data import Task
from jaxad.metrics.image import auroc
from jaxad.metrics.pixel import pixel_auroc
from jaxad.runs.progress import table
from jaxad.runs.retraining import Winner
from jaxad.runs.rivals import Entrant, best_of, margin_of, megabytes, milliseconds
from jaxad.training.scoring import map_images, score_images

CHILD = "best child of the search"


class Standing(NamedTuple):
    """One line of the league table. Metrics are of images; of pixels where there are masks and maps."""

    detector: str
    valid: float | None  # what all were ranked by
    test_auroc: float
    test_pixel_auroc: float | None
    fit_seconds: float
    score_milliseconds: float  # one image alone, wall-clock
    megabytes: float  # of what scoring needs
    returned: bool


def entrant_of(winner: Winner, task: Task, seconds: float) -> Entrant:
    """The best child as one among the others; `seconds` are those of searching and retraining."""
    margin = margin_of(winner.valid_scores, task.valid.labels)
    return Entrant(
        CHILD, winner.config, winner.detector, winner.state, winner.value, margin, winner.valid_scores, seconds
    )  # fmt: skip


def standings(entrants: Sequence[Entrant], task: Task) -> list[Standing]:
    """The league table, best by validation first. Test figures are shown, and choose nothing."""
    returned = best_of(entrants)
    lines = []
    for entrant in entrants:
        detector, state = entrant.detector, entrant.state
        pixels = None
        if detector.score_map is not None and task.test.masks is not None and task.test.masks.any():
            pixels = float(pixel_auroc(map_images(detector, state, task.test.images), task.test.masks))
        lines.append(
            Standing(
                detector=entrant.label,
                valid=float(entrant.value) if np.isfinite(entrant.value) else None,
                test_auroc=float(auroc(score_images(detector, state, task.test.images), task.test.labels)),
                test_pixel_auroc=pixels,
                fit_seconds=round(entrant.seconds, 2),
                score_milliseconds=round(milliseconds(detector, state, task.valid.images), 2),
                megabytes=round(megabytes(detector, state), 3),
                returned=entrant is returned,
            )
        )
    order = {e.label: (float(e is returned), np.nan_to_num(e.value, nan=-1.0), e.margin) for e in entrants}
    return sorted(lines, key=lambda line: order[line.detector], reverse=True)


def verdict(entrants: Sequence[Entrant], criterion: str) -> str:
    """Whether searching was worth it, in a sentence."""
    rivals = [entrant for entrant in entrants if entrant.label != CHILD]
    (child,) = (entrant for entrant in entrants if entrant.label == CHILD)
    best, rival = best_of(entrants), best_of(rivals)
    if rival is None:
        return "No rival took part: what the search found is returned."
    found = f"validation {criterion} {child.value:.3f} of its best child in {child.seconds:.0f} s"
    beside = f"{rival.value:.3f} of {rival.label} in {rival.seconds:.0f} s"
    if best is child:
        return f"Searching was worth it on this task: {found}, against {beside}, the best of the rivals."
    return f"Searching was not worth it on this task: {found}, against {beside}, which is returned."


def show(lines: Sequence[Standing], criterion: str, *, quiet: bool = False) -> None:
    """Print the league table, unless quiet."""
    if quiet:
        return

    def cell(value: float | None) -> Any:
        return "" if value is None else round(value, 3)

    rows = [
        (
            f"{'* ' if line.returned else '  '}{line.detector}", cell(line.valid), cell(line.test_auroc),
            cell(line.test_pixel_auroc), round(line.fit_seconds, 1), round(line.score_milliseconds, 1),
            round(line.megabytes, 1),
        )
        for line in lines
    ]  # fmt: skip
    heads = ("detector", f"valid {criterion}", "test auroc", "test pixels", "fit s", "score ms", "MB")
    table("league (* returned: chosen by validation alone)", heads, rows)
