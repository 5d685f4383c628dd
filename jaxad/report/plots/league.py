"""Picture of a league: what detectors come to, and how long each takes to get there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxad.report.plots.style import BLUE, INK, MUTED, canvas, floats, label_decades, note, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEIGHT = 3.4  # inches
LINE = 0.06  # of the picture's height that a label needs for itself


@style
def value_by_seconds(
    labels: Sequence[str], seconds, values, marked: Sequence[bool], *, metric: str = "validation AUROC"
) -> Figure:
    """A labelled point for each detector: its value against the seconds to fit it, logarithmic.

    labels, seconds > 0, values, marked [n]. Detectors without a value or seconds are left out.
    """
    seconds, values = floats(seconds, "seconds", like=labels), floats(values, "values", like=labels)
    keep = np.flatnonzero(np.isfinite(values) & (seconds > 0))
    figure, ax = canvas(9.6, HEIGHT)
    if not keep.size:
        note(ax, f"no detector has a {metric} and seconds")
        return figure
    keep = keep[np.argsort(values[keep], kind="stable")]
    x, y = seconds[keep], values[keep]
    reach = max(y.max() - y.min(), 0.02)
    low, high = y.min() - 0.12 * reach, y.max() + 0.12 * reach
    # On the right there is room for the label of the slowest.
    ax.set(xscale="log", xlim=(x.min() / 1.3, x.max() * (x.max() / x.min()) ** 0.3 * 1.6), ylim=(low, high))
    ax.set(xlabel="seconds to fit", ylabel=metric)
    heights = spread((y - low) / (high - low), LINE)
    for place, index in enumerate(keep):
        chosen = bool(marked[index])
        colour = BLUE if chosen else MUTED
        ax.annotate(
            labels[index], (x[place], y[place]), (x[place] * 1.09, low + heights[place] * (high - low)),
            fontsize=8, va="center", color=INK, weight="bold" if chosen else "normal",
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.7, "shrinkA": 0, "shrinkB": 0, "relpos": (0, 0.5)},
        )  # fmt: skip
        ax.plot(x[place], y[place], "D" if chosen else "o", ms=6 if chosen else 4.5, color=colour)
    label_decades(ax.xaxis)
    return figure


def spread(places: np.ndarray, gap: float) -> np.ndarray:
    """Ascending places [n] moved as little as it takes to be `gap` apart; clusters keep their middle."""
    clusters: list[tuple[float, int]] = []  # middle, members
    for place in places:
        middle, members = float(place), 1
        while clusters and middle - clusters[-1][0] < gap * (members + clusters[-1][1]) / 2:
            before, others = clusters.pop()
            middle = (middle * members + before * others) / (members + others)
            members += others
        clusters.append((middle, members))
    return np.concatenate([middle + gap * (np.arange(n) - (n - 1) / 2) for middle, n in clusters])
