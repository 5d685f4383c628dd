"""A picture of an architecture: its feature maps in a row, and between them what its layers do (AutoAD, Fig. 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxad.report.plots.style import BLUE, GREEN, INK, MUTED, ORANGE, canvas, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KNOWN = ("channels", "kernel", "pool", "pool_kernel", "norm", "activation")


@style
def architecture(chosen: Mapping, sizes: Sequence[Sequence[int]]) -> Figure:
    """From the image over the latent map to the reconstruction: taller maps have more pixels, wider ones more channels.

    chosen dict of hypothesis, distance, layers; sizes [layers + 1] of (height, width, channels), the image first.
    ValueError where these do not belong together.
    """
    from matplotlib.patches import Rectangle

    layers = chosen["layers"]
    if len(sizes) != len(layers) + 1:
        raise ValueError(f"there are {len(sizes)} sizes for {len(layers)} layers; give one more than layers")
    maps = [*sizes, *sizes[-2::-1]]
    tallest = max(max(height, width) for height, width, _ in maps)
    figure, ax = canvas(9.6, 2.2)
    ax.set_axis_off()
    ax.set(xlim=(-0.6, len(maps) - 0.4), ylim=(-1.25, 1.35))
    for place, (height, width, channels) in enumerate(maps):
        tall = 0.2 + 0.8 * np.sqrt(max(height, width) / tallest)
        wide = min(0.08 + 0.05 * np.log2(1 + channels), 0.7)
        colour = GREEN if place == len(layers) else BLUE if place < len(layers) else ORANGE
        ax.add_patch(
            Rectangle((place - wide / 2, -tall / 2), wide, tall, facecolor=colour, edgecolor=INK, lw=0.7, alpha=0.6)
        )
        ax.text(place, -0.62, f"{height}×{width}×{channels}", ha="center", va="top", fontsize=7, color=MUTED)
    for place, layer in enumerate([*layers, *reversed(layers)]):
        ax.annotate(
            "", (place + 0.72, 0), (place + 0.28, 0), arrowprops={"arrowstyle": "->", "color": MUTED, "lw": 0.8}
        )
        said = _said(layer, decoding=place >= len(layers))
        ax.text(place + 0.5, 0.6, said, ha="center", va="bottom", fontsize=7, linespacing=1.2)
    for place, name in ((0, "input"), (len(layers), "hypothesis"), (len(maps) - 1, "distance")):
        shown = str(chosen.get(name, "pixels")).replace("_", " ")
        ax.text(place, -0.95, shown, ha="center", va="top", fontsize=8, fontweight="bold")
    return figure


def _said(layer: Mapping, *, decoding: bool) -> str:
    """What a layer does, a line each, in the order in which it does it."""
    size = layer["pool_kernel"]
    resized = [] if size == 1 else [f"{'upsample' if decoding else layer['pool']} {size}×{size}"]
    finish = [layer[name].replace("_", " ") for name in ("norm", "activation") if layer[name] not in ("none", "linear")]
    beyond = [f"{name}: {choice}".replace("_", " ") for name, choice in layer.items() if name not in KNOWN]
    steps = [*finish, *resized] if decoding else [*resized, *finish]
    return "\n".join([f"conv {layer['kernel']}×{layer['kernel']}", *steps, *beyond])
