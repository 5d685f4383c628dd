"""Pictures of a segmentation: how the reconstruction loss of pixels develops."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from jaxad.report.plots.style import BLUE, COLOURS, INK, ORANGE, canvas, label_decades, style

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


@style
def life_profiles(lives: Mapping[str, np.ndarray]) -> Figure:
    """Losses by the age of an autoencoder, of all its re-initialisations: {"normal", "anomalous"}: [lives, K].

    Left medians and quartiles over lives, on a logarithmic axis; right anomalous by normal of every life, early ones
    pale and late ones dark, with the median. What is not finite is left out.
    """
    figure, (left, right) = canvas(9.6, 3.1, 1, 2)
    normal, anomalous = (np.asarray(lives[name], float) for name in ("normal", "anomalous"))
    age = np.arange(1, normal.shape[1] + 1)
    for name, values, colour in (("normal", normal, BLUE), ("anomalous", anomalous, ORANGE)):
        low, middle, high = np.nanquantile(values, (0.25, 0.5, 0.75), axis=0)
        left.fill_between(age, low, high, color=colour, alpha=0.2, lw=0)
        left.plot(age, middle, "o-", ms=3, color=colour, label=f"{name} pixels, {len(values)} lives")
    left.set(xlabel="steps since the autoencoder began", ylabel="mean loss", yscale="log")
    label_decades(left.yaxis)
    left.legend(loc="best")
    ratios = anomalous / normal
    for number, ratio in enumerate(ratios):
        right.plot(age, ratio, color=BLUE, lw=0.8, alpha=0.15 + 0.55 * number / max(len(ratios) - 1, 1))
    right.plot(age, np.nanmedian(ratios, 0), color=INK, label="median")
    right.set(xlabel="steps since the autoencoder began", ylabel="loss of anomalous / normal pixels")
    right.legend(loc="best")
    return figure
