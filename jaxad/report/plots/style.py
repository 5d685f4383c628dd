"""The common look of all pictures, and what every drawing function needs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID = "#1f2933", "#7b8794", "#d9dee4"
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"  # Okabe-Ito, told apart by colour-blind readers
COLOURS = (BLUE, ORANGE, GREEN, "#cc79a7", "#56b4e9", "#e69f00", INK, MUTED)  # of as many curves, in this order
REWARD_COLOURS = ("#aab4c0", "#7aa6d8", "#6d5fc7", "#b8268f", "#d55e00")  # weak recedes, strong stands out

# One look for every figure. Math parsing is off because a "$" in somebody's action name is only a dollar.
RC = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.facecolor": "white",
    "legend.edgecolor": "none",
    "legend.framealpha": 0.8,
    "legend.fontsize": 8,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "white",
    "image.composite_image": False,
}
MANY = 400  # from so many marks on, a layer is drawn as pixels inside the vector picture


def style(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Give a drawing function the common look, and matplotlib only when it is called."""

    @functools.wraps(draw)
    def wrapped(*args, **kwargs) -> Figure:
        import matplotlib

        with matplotlib.rc_context(RC):
            return draw(*args, **kwargs)

    return wrapped


def canvas(width: float = 4.8, height: float = 3.1, rows: int = 1, columns: int = 1, **kwargs):
    """A new Figure of `width` x `height` inches and its axes, laid out so that nothing overlaps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **kwargs)


def panels(count: int, **kwargs):
    """A wide figure of that many axes, four in a row, and the axes."""
    rows = max(-(-count // 4), 1)
    figure, axes = canvas(9.6, 2.45 * rows, rows, 4, squeeze=False, **kwargs)
    for ax in axes.flat[count:]:
        ax.set_visible(False)
    return figure, axes.flat[:count]


def dots(ax: Axes, x, y, **kwargs) -> None:
    """Small dots, one per child."""
    look = {"ms": 2.8, "mew": 0, "color": MUTED, "alpha": 0.65, "rasterized": len(x) > MANY}
    ax.plot(x, y, "o", **look | kwargs)


def label_decades(axis) -> None:
    """Label a logarithmic axis 1k, 10k, 100k, or finer where it spans little; below 1 in digits."""
    from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1,) if high > 100 * low else (1, 2, 5)))
    axis.set_major_formatter(EngFormatter(sep="") if low >= 0.5 else FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def note(ax: Axes, text: str) -> None:
    """Say in place of a picture why there is none."""
    ax.set(xticks=[], yticks=[], xlabel="", ylabel="")
    ax.spines[:].set_visible(False)
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color=MUTED)


def floats(values, name: str, like: Sequence | None = None) -> np.ndarray:
    """A float vector; None and infinities become NaN. `like` is what it must be as long as."""
    vector = np.array([np.nan if v is None else float(v) for v in values], float)
    if like is not None and len(vector) != len(like):
        raise ValueError(f"{name} has {len(vector)} entries where {len(like)} are needed: pass one for each")
    return np.where(np.isfinite(vector), vector, np.nan)


def two_classes(labels, scores) -> tuple[np.ndarray, np.ndarray]:
    """Labels (bool) and scores of the images whose score is finite."""
    labels = np.asarray(labels).ravel()
    scores = floats(np.asarray(scores).ravel(), "scores", like=labels)
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("labels hold values other than 0 (normal) and 1 (anomalous): map them to these two")
    keep = np.isfinite(scores)
    return labels[keep].astype(bool), scores[keep]
