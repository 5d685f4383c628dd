"""Pictures of an adversarial detector: how it trained, how its scores and codes are spread, and rows of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxad.report.plots.detection import displayable
from jaxad.report.plots.style import COLOURS, INK, MUTED, canvas, note, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@style
def training_curves(
    steps: Sequence[int], panels: Mapping[str, Mapping[str, Sequence]], *, lines: Mapping[str, tuple[float, str]]
) -> Figure:
    """Small panels of what happened while training, over steps [n].

    Args:
      panels: title -> {name: values [seeds, n]}; thin lines are seeds.
      lines: title -> (height, label) of a dashed line to compare with.
    """
    figure, axes = canvas(9.6, 2.7 * -(-len(panels) // 3), -(-len(panels) // 3), 3, squeeze=False)
    for ax in axes.ravel()[len(panels) :]:
        ax.remove()
    for ax, (title, curves) in zip(axes.ravel(), panels.items()):
        ax.set(title=title, xlabel="training steps")
        for (name, values), colour in zip(curves.items(), COLOURS):
            for seed, curve in enumerate(np.atleast_2d(np.asarray(values, float))):
                ax.plot(steps, curve, color=colour, lw=1.2, label=name if seed == 0 and len(curves) > 1 else None)
        if title in lines:
            height, label = lines[title]
            ax.axhline(height, color=MUTED, ls="--", lw=1.1, label=label)
        if ax.get_legend_handles_labels()[0]:
            ax.legend(loc="best")
    return figure


@style
def densities(
    groups: Mapping[str, Sequence[float]], *, xlabel: str, mean: float | None = None, sd: float | None = None,
    line: tuple[float, str] | None = None, bins: int = 50,
) -> Figure:  # fmt: skip
    """Densities of values of several groups of images, a fitted Gaussian (mean, sd) and a line (x, label) beside them.

    Groups: name -> [n]. Where few far values would squeeze all others together, the outermost bins hold all beyond.
    """
    figure, ax = canvas(6.4, 3.4)
    groups = {name: np.asarray(values, float) for name, values in groups.items()}
    groups = {name: values[np.isfinite(values)] for name, values in groups.items()}
    groups = {name: values for name, values in groups.items() if len(values)}
    ax.set(xlabel=xlabel, ylabel="density")
    if not groups:
        note(ax, "no finite values")
        return figure
    low, high = (f(np.quantile(v, q) for v in groups.values()) for f, q in ((min, 0.005), (max, 0.995)))
    if mean is not None:
        low, high = min(low, mean - 3 * sd), max(high, mean + 3 * sd)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, bins + 1)
    for (name, values), colour in zip(groups.items(), COLOURS):
        counts, _ = np.histogram(np.clip(values, low, high), edges)
        density = counts / counts.sum() / np.diff(edges)
        ax.stairs(density, edges, fill=True, color=colour, alpha=0.2, lw=0)
        ax.stairs(density, edges, color=colour, lw=1.3, label=f"{name} ({len(values):,})")
    if mean is not None:
        x = np.linspace(low, high, 400)
        bell = np.exp(-0.5 * ((x - mean) / sd) ** 2) / (sd * np.sqrt(2 * np.pi))
        ax.plot(x, bell, color=INK, ls="--", lw=1.2, label=f"Gaussian, mean {mean:.3g}, sd {sd:.2g}")
    if line is not None:
        ax.axvline(line[0], color=MUTED, ls=":", lw=1.4, label=line[1])
    ax.legend(loc="best")
    return figure


@style
def image_rows(rows: Sequence[tuple[str, np.ndarray]], *, titles: Sequence[str] | None = None) -> Figure:
    """Rows of images on one grid: (name, [k, H, W, C] in [0, 1]) each, and a title over every column."""
    shown = [(name, np.clip(displayable(images), 0, 1)) for name, images in rows]
    columns = max(len(images) for _, images in shown)
    height, width = shown[0][1].shape[1:3]
    wide = width / height
    figure, ax = canvas(1.3 + 0.8 * columns * (wide + 0.05), 0.3 + 0.85 * len(rows))
    for row, (_, images) in enumerate(shown):
        for column, image in enumerate(images):
            left, bottom = column * (wide + 0.06), -1.06 * row - 1
            extent = (left, left + wide, bottom, bottom + 1)
            ax.imshow(image, extent=extent, cmap="gray", vmin=0, vmax=1, interpolation="none")
    for column, title in enumerate(titles or ()):
        ax.text(column * (wide + 0.06) + wide / 2, 0.06, title, fontsize=8, ha="center", va="bottom")
    ax.set_yticks([-1.06 * row - 0.5 for row in range(len(rows))], [name for name, _ in shown])
    ax.set(xticks=[], xlim=(0, columns * (wide + 0.06)), ylim=(-1.06 * len(rows) + 0.06, 0.05 if not titles else 0.35))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.grid(visible=False)
    return figure
