"""Box plots of scores, class by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxad.report.plots.style import COLOURS, canvas, note, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def tukey(values: Sequence[float]) -> tuple[float, float, float]:
    """The three quartiles of [n] values."""
    low, middle, high = np.percentile(np.asarray(values, float), (25, 50, 75))
    return low, middle, high


def within_fences(values: Sequence[float]) -> np.ndarray:
    """The values inside Tukey's fences, [Q1 - 1.5 IQR, Q3 + 1.5 IQR]."""
    values = np.asarray(values, float)
    low, _, high = tukey(values)
    reach = 1.5 * (high - low)
    return values[(values >= low - reach) & (values <= high + reach)]


@style
def class_boxes(
    groups: Mapping[str, Mapping[str, Sequence[float]]], *, normal: Sequence[str] = (), ylabel: str = "anomaly score"
) -> Figure:
    """A box of scores for every class and model: {model: {class: [n]}}; normal classes are marked.

    Boxes are quartiles with the median, whiskers reach the last values inside Tukey's fences; values beyond are not
    drawn, as in AGAD's Fig. 4, and the axis says how many there are. Scores that are not finite are left out.
    """
    classes = list(dict.fromkeys(name for scores in groups.values() for name in scores))
    figure, ax = canvas(max(4.8, 1.2 + 0.75 * len(classes)), 3.4)
    width, beyond, total = 0.8 / max(len(groups), 1), 0, 0
    for number, (model, scores) in enumerate(groups.items()):
        colour = COLOURS[number % len(COLOURS)]
        shift = (number - (len(groups) - 1) / 2) * width
        for place, name in enumerate(classes):
            values = np.asarray(scores.get(name, ()), float)
            values = values[np.isfinite(values)]
            if not len(values):
                continue
            inside = within_fences(values)
            beyond, total = beyond + len(values) - len(inside), total + len(values)
            low, middle, high = tukey(values)
            at, half = place + shift, 0.4 * width
            ax.vlines(at, inside.min(), inside.max(), color=colour, lw=1)
            ax.bar(at, high - low, 2 * half, low, color=colour, alpha=0.35, edgecolor=colour, lw=1)
            ax.hlines(middle, at - half, at + half, color=colour, lw=1.6)
        ax.plot([], [], color=colour, lw=4, alpha=0.6, label=model)
    if not total:
        note(ax, "no finite scores")
        return figure
    labels = [f"{name}\n(normal)" if name in normal else name for name in classes]
    ax.set_xticks(range(len(classes)), labels, rotation=30 if max(map(len, classes)) > 6 else 0)
    ax.set(ylabel=ylabel, xlabel=f"{beyond:,} of {total:,} scores lie beyond the fences and are not drawn")
    if len(groups) > 1:
        ax.legend(loc="best")
    return figure
