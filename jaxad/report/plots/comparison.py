"""Pictures of several ways to search, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxad.report.plots.style import COLOURS, canvas, label_decades, panels, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@style
def compared_curves(
    curves: Mapping[str, np.ndarray], x: np.ndarray, *, xlabel: str, ylabel: str = "best reward so far"
) -> Figure:
    """Median over seeds of several methods, and quartiles of the first: name -> [seeds, n] over x [n].

    NaN is not drawn.
    """
    figure, ax = canvas(9.6, 4.4)
    ax.set(xlabel=xlabel, ylabel=ylabel, xscale="log")
    for number, (name, values) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        low, median, high = np.percentile(values, (25, 50, 75), axis=0)
        ax.plot(x, median, color=colour, label=name, ls="-" if number < len(COLOURS) else "--")
        if number == 0:  # of all of them, bands hide each other
            ax.fill_between(x, low, high, color=colour, alpha=0.12, lw=0)
    ax.margins(x=0.02)
    label_decades(ax.xaxis)
    figure.legend(loc="outside right upper")
    return figure


@style
def compared_panels(parts: Sequence[tuple[str, Mapping[str, np.ndarray], np.ndarray]], *, xlabel: str) -> Figure:
    """Median and quartiles over seeds of a few methods: (title, name -> [seeds, n], x [n]) of every panel."""
    figure, axes = panels(len(parts))
    for ax, (title, curves, x) in zip(axes, parts):
        ax.set(title=title, xlabel=xlabel)
        for (name, values), colour in zip(curves.items(), COLOURS):
            low, median, high = np.percentile(values, (25, 50, 75), axis=0)
            ax.plot(x, median, color=colour, label=name, marker="o" if len(x) < 20 else None, ms=3)
            ax.fill_between(x, low, high, color=colour, alpha=0.18, lw=0)
        ax.xaxis.get_major_locator().set_params(integer=True)
    axes[0].legend(loc="best")
    return figure
