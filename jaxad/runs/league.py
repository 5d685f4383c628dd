"""The league of a search: the best child beside its rivals, and what validation makes of them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxad.data import Task
from jaxad.metrics.image import auroc
from jaxad.metrics.pixel import pixel_auroc
from jaxad.runs.progress import table
from jaxad.runs.retraining import Winner
from jaxad.runs.rivals import Entrant, best_of, megabytes, milliseconds, validated
from jaxad.training.scoring import map_images, score_images

CHILD = "best child of the search"


class Standing(NamedTuple):
    """One line of the league table. Metrics are of images; of pixels where there are masks and maps."""

    detector: str
    valid: float | None  # the reward's metric
    test_auroc: float
    test_pixel_auroc: float | None
    fit_seconds: float
    score_milliseconds: float  # one image alone, wall-clock
    megabytes: float  # of what scoring needs
    returned: bool
    valid_pixel_auroc: float | None = None  # where the choice is by the mean of both


def entrant_of(winner: Winner, task: Task, criterion: str, by_pixels: bool, seconds: float) -> Entrant:
    """The best child as one among the others; `seconds` are those of searching and retraining."""
    valid = validated(winner.detector, winner.state, task, criterion, by_pixels)
    return Entrant(CHILD, winner.config, winner.detector, winner.state, seconds=seconds, **valid._asdict())


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
                valid_pixel_auroc=None if detector.score_map is None else entrant.pixels,
            )
        )
    order = {e.label: (float(e is returned), np.nan_to_num(e.merit, nan=-1.0), e.margin) for e in entrants}
    return sorted(lines, key=lambda line: order[line.detector], reverse=True)


def verdict(entrants: Sequence[Entrant], criterion: str) -> str:
    """Whether searching was worth it, in a sentence."""
    rivals = [entrant for entrant in entrants if entrant.label != CHILD]
    (child,) = (entrant for entrant in entrants if entrant.label == CHILD)
    best, rival = best_of(entrants), best_of(rivals)
    if rival is None:
        return "No rival took part: what the search found is returned."
    metric = criterion if child.pixels is None else f"mean of {criterion} and pixel AUROC"
    found = f"validation {metric} {child.merit:.3f} of its best child in {child.seconds:.0f} s"
    beside = f"{rival.merit:.3f} of {rival.label} in {rival.seconds:.0f} s"
    if best is child:
        return f"Searching was worth it on this task: {found}, against {beside}, the best of the rivals."
    return f"Searching was not worth it on this task: {found}, against {beside}, which is returned."


def show(lines: Sequence[Standing], criterion: str, *, quiet: bool = False) -> None:
    """Print the league table, unless quiet."""
    if quiet:
        return

    def cell(value: float | None) -> Any:
        return "" if value is None else round(value, 3)

    by_pixels = any(line.valid_pixel_auroc is not None for line in lines)
    rows = [
        (
            f"{'* ' if line.returned else '  '}{line.detector}", cell(line.valid),
            *([cell(line.valid_pixel_auroc)] if by_pixels else []), cell(line.test_auroc),
            cell(line.test_pixel_auroc), round(line.fit_seconds, 1), round(line.score_milliseconds, 1),
            round(line.megabytes, 1),
        )
        for line in lines
    ]  # fmt: skip
    heads = ("detector", f"valid {criterion}", *(["pixels"] if by_pixels else []), "test auroc", "test pixels")
    way = "the mean of both validation metrics" if by_pixels else "validation alone"
    table(f"league (* returned: chosen by {way})", (*heads, "fit s", "score ms", "MB"), rows)
