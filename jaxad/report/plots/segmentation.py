"""Pictures of a segmentation: how the reconstruction loss of pixels develops."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from jaxad.report.plots.style import COLOURS, canvas, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@style
def profile_bands(groups: Mapping[str, np.ndarray]) -> Figure:
    """Median and quartiles of loss profiles [n, L] of several kinds of pixels, the newest loss on the right."""
    figure, ax = canvas()
    for (name, profiles), colour in zip(groups.items(), COLOURS):
        low, middle, high = np.quantile(profiles, (0.25, 0.5, 0.75), axis=0)
        place = np.arange(1 - len(middle), 1)
        ax.fill_between(place, low, high, color=colour, alpha=0.2, lw=0)
        ax.plot(place, middle, "o-", ms=3, color=colour, label=f"{name} ({len(profiles):,})")
    ax.set(xlabel="autoencoder, steps before the best", ylabel="loss / mean loss of its image")
    ax.legend(loc="best")
    return figure
