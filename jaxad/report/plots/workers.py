"""Picture of who trained what: the workers of a search, and their children, along its time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxad.report.plots.style import BLUE, canvas, note, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMED = 24  # workers whose names there is room for


@style
def worker_timeline(labels: Sequence[str], spans: Sequence[Sequence[Sequence[float]]]) -> Figure:
    """A row for each worker, with a bar for every child that it trained.

    labels [n]; spans [n][children][2], when each child began and ended, in seconds of the search.
    """
    figure, ax = canvas(9.6, 1.2 + 0.28 * min(len(labels), NAMED))
    if not any(len(own) for own in spans):
        note(ax, "no worker has trained a child")
        return figure
    unit, seconds = ("min", 60.0) if max(end for own in spans for _, end in own) > 300 else ("s", 1.0)
    for row, own in enumerate(spans):
        began, ended = np.asarray(own, float).reshape(-1, 2).T / seconds
        ax.broken_barh(list(zip(began, ended - began)), (row - 0.36, 0.72), facecolor=BLUE, edgecolor="white", lw=0.6)
    ax.set(xlabel=f"search time ({unit})", ylim=(len(labels) - 0.5, -0.5), xlim=(0, None))
    if len(labels) <= NAMED:
        ax.set_yticks(range(len(labels)), labels)
    else:
        ax.set(ylabel=f"{len(labels)} workers", yticks=[])
    return figure
