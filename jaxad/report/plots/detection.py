"""Pictures of a detector: ROC curve, scores, reconstructions and error maps."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxad.report.plots.style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    canvas,
    floats,
    label_decades,
    note,
    style,
    two_classes,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@style
def retraining(candidates: Sequence[tuple[str, Sequence[int], Sequence]], *, metric: str = "validation") -> Figure:
    """Validation against training steps: (name, evals [L], curves [seeds][L], None or NaN where unusable) of each."""
    figure, ax = canvas()
    ax.set(xlabel="training steps", ylabel=metric, xscale="log")
    for (name, evals, curves), colour in zip(candidates, itertools.cycle((BLUE, ORANGE, GREEN, MUTED, INK))):
        for seed, curve in enumerate(curves):
            label = name if seed == 0 else None
            ax.plot(evals, floats(curve, name, like=evals), "o-", ms=3.5, color=colour, label=label)
    if candidates:
        ax.legend(loc="best")
        label_decades(ax.xaxis)
    else:
        note(ax, "nothing was retrained")
    return figure


def roc_points(labels, scores, weights=None) -> tuple[np.ndarray, np.ndarray]:
    """False- and true-positive rate at every distinct threshold, from (0, 0) to (1, 1).

    labels [n], scores [n], weights [n] >= 0 or None for ones. Tied scores move together.
    """
    labels, scores = np.asarray(labels, bool), np.asarray(scores, float)
    weights = np.ones(len(scores)) if weights is None else np.asarray(weights, float)
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)  # the last image of each group of ties
    true = np.append(0, np.cumsum((weights * labels)[order])[last])
    false = np.append(0, np.cumsum((weights * ~labels)[order])[last])
    return false / false[-1], true / true[-1]


def area(x, y) -> float:
    """Area under the line through the points; of ROC points it is the AUROC, ties counted half."""
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1])) / 2)


def _bootstrap_band(labels, scores, grid, *, resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """2.5 and 97.5 % quantiles of the true-positive rate on `grid`; images drawn again within each class."""
    rng = np.random.default_rng(seed)
    curves = np.empty((resamples, len(grid)))
    weights = np.empty(len(scores))
    for curve in curves:
        for part in (labels, ~labels):
            weights[part] = rng.multinomial(part.sum(), np.full(part.sum(), 1 / part.sum()))
        curve[:] = np.interp(grid, *roc_points(labels, scores, weights))
    low, high = np.quantile(curves, (0.025, 0.975), axis=0)
    return low, high


@style
def roc_curve(
    labels,
    scores,
    *,
    interval: tuple[float, float, float] | None = None,
    validation: tuple | None = None,
    resamples: int = 200,
    seed: int = 0,
) -> Figure:
    """ROC curve with a 95 % bootstrap band; the legend names the AUROC.

    labels [n], scores [n]; interval = (value, low, high) of the AUROC where it was computed elsewhere;
    validation = (labels, scores) of a second, thinner curve.
    """
    labels, scores = two_classes(labels, scores)
    figure, ax = canvas(4.2, 3.9)
    ax.set_xlabel("false-positive rate (normal images flagged)")
    ax.set_ylabel("true-positive rate (anomalies found)")
    if labels.all() or not labels.any():
        note(ax, "a ROC curve needs normal and anomalous images")
        return figure
    false, true = roc_points(labels, scores)
    value = f"{area(false, true):.3f}" if interval is None else "{:.3f} [{:.3f}, {:.3f}]".format(*interval)
    grid = np.linspace(0, 1, 101)
    low, high = _bootstrap_band(labels, scores, grid, resamples=resamples, seed=seed)
    ax.fill_between(grid, low, high, color=BLUE, alpha=0.18, lw=0, label="95 % band (bootstrap)")
    ax.plot(false, true, color=BLUE, label=f"test, AUROC {value}")
    if validation is not None:
        other_labels, other_scores = two_classes(*validation)
        if other_labels.any() and not other_labels.all():
            false, true = roc_points(other_labels, other_scores)
            ax.plot(false, true, color=GREEN, lw=1.1, label=f"validation, AUROC {area(false, true):.3f}")
    ax.plot([0, 1], [0, 1], ":", color=MUTED, lw=1.1, label="chance")
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    ax.legend(loc="lower right")
    return figure


@style
def score_histogram(labels, scores, *, threshold: float | None = None, bins: int = 40) -> Figure:
    """Scores of normal and anomalous images, each class as shares of its own size, with the threshold.

    labels [n], scores [n]. Where few far scores would squeeze all others together, the outermost bins hold
    everything beyond, and the axis says so.
    """
    labels, scores = two_classes(labels, scores)
    figure, ax = canvas(4.8, 3.9)
    ax.set(xlabel="anomaly score", ylabel="share of the class (%)")
    if not len(scores):
        note(ax, "no image has a finite score")
        return figure
    classes = [part for part in (scores[~labels], scores[labels]) if len(part)]
    low = min(np.quantile(part, 0.01) for part in classes)
    high = max(np.quantile(part, 0.99) for part in classes)
    if np.ptp(scores) > 2 * (high - low) > 0:
        ax.set_xlabel("anomaly score (outermost bins: and beyond)")
    else:
        low, high = scores.min(), scores.max()
    if high - low <= 1e-6 * max(abs(low), abs(high)):  # constant scores: one bar needs some width
        room = max(1e-3 * abs(low), 1e-6)
        low, high = low - room, high + room
    edges = np.linspace(low, high, bins + 1)
    for part, colour, name in ((~labels, BLUE, "normal"), (labels, ORANGE, "anomalous")):
        if part.any():
            counts, _ = np.histogram(np.clip(scores[part], low, high), edges)
            share = 100 * counts / part.sum()
            ax.stairs(share, edges, fill=True, color=colour, alpha=0.3, lw=0)
            ax.stairs(share, edges, color=colour, lw=1.4, label=f"{name} ({part.sum():,})")
    if threshold is not None and np.isfinite(threshold):
        at = np.clip(threshold, low, high)
        ax.axvline(at, color=INK, lw=1.2, ls="--", label=f"threshold {threshold:.4g}")
    ax.set_ylim(bottom=0)
    ax.legend(loc="best")
    return figure


def displayable(images, longest: int = 128) -> np.ndarray:
    """Images [k, H, W, C] as a screen shows them: [k, h, w] grey or [k, h, w, 3] colour, values kept.

    One or two channels are averaged; of three and more the first three are shown. Sides of more than
    `longest` pixels are reduced by block means; pixels that are not finite become 0.
    """
    images = np.nan_to_num(np.asarray(images, np.float32), posinf=0, neginf=0)
    step = -(-max(images.shape[1:3]) // longest)
    if step > 1:
        height, width = (n - n % step or n for n in images.shape[1:3])
        images = np.add.reduceat(images[:, :height, :width], np.arange(0, height, step), 1)
        images = np.add.reduceat(images, np.arange(0, width, step), 2)
        images = images / (min(step, height) * min(step, width))
    return images[..., :3] if images.shape[-1] >= 3 else images.mean(-1)


@style
def reconstructions(
    inputs, labels, *, reconstructed=None, error_maps=None, scores=None, masks=None, flagged=None
) -> Figure:
    """Rows of inputs, masks, reconstructions, error maps and what they flag; normal columns, then anomalous.

    inputs and reconstructed [k, H, W, C] in [0, 1], error_maps [k, H, W], masks and flagged [k, H, W] of 0 and 1,
    labels [k], scores [k]. The row of what is None is left out. All errors have one colour scale, which ends at the
    99.5 % quantile of all maps together.
    """
    inputs, labels = np.asarray(inputs), np.asarray(labels).astype(bool).ravel()
    if inputs.ndim != 4 or len(inputs) != len(labels):
        raise ValueError(f"inputs have shape {inputs.shape}: pass [k, H, W, C] with k = {len(labels)} labels")
    if not len(labels):
        figure, ax = canvas()
        note(ax, "no example images")
        return figure
    grey = {"cmap": "gray", "vmin": 0, "vmax": 1, "interpolation": "none"}
    rows = [("input", np.clip(displayable(inputs), 0, 1), grey)]
    if masks is not None:
        rows.append(("mask", displayable(np.asarray(masks)[..., None]), grey))
    if reconstructed is not None:
        rows.append(("reconstruction", np.clip(displayable(reconstructed), 0, 1), grey))
    if error_maps is not None:
        maps = displayable(np.asarray(error_maps)[..., None])
        low, high = min(0.0, float(maps.min())), float(np.quantile(maps, 0.995))
        scale = {"cmap": "inferno", "vmin": low, "vmax": high if high > low else low + 1}
        rows.append(("error", maps, scale | {"interpolation": "none"}))
    if flagged is not None:
        rows.append(("flagged", displayable(np.asarray(flagged)[..., None]), grey))
    wide = inputs.shape[2] / inputs.shape[1]
    # All pictures share one axes, in units of the height of an image, with a wider gap between the classes.
    order = np.argsort(labels, kind="stable")
    left = np.arange(len(order)) * (wide + 0.07) + 0.18 * (labels[order] & ~labels.all())
    figure, ax = canvas(1.15 + 0.95 * (left[-1] + wide), 0.4 + 1.02 * len(rows))
    errors = None
    for row, (name, images, look) in enumerate(rows):
        for x, i in zip(left, order):
            bottom = -1.07 * row
            drawn = ax.imshow(images[i], extent=(x, x + wide, bottom - 1, bottom), **look)
            errors = drawn if name == "error" else errors
    for x, i in zip(left, order):
        title = "anomalous" if labels[i] else "normal"
        title += "" if scores is None else f"\n{scores[i]:.3g}"
        colour = ORANGE if labels[i] else BLUE
        ax.text(x + wide / 2, 0.06, title, fontsize=8, ha="center", va="bottom", color=colour)
    if error_maps is not None:
        extend = "max" if maps.max() > errors.norm.vmax else "neither"
        bar = figure.colorbar(errors, ax=ax, pad=0.01, aspect=8 * len(rows), label="error", extend=extend)
        bar.outline.set_visible(False)
    middles = [-1.07 * row - 0.5 for row in range(len(rows))]
    ax.set_yticks(middles, [name for name, *_ in rows], rotation=90, va="center")
    ax.set(xticks=[], xlim=(0, left[-1] + wide), ylim=(-1.07 * len(rows) + 0.07, 0.05 if scores is None else 0.4))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.grid(visible=False)
    return figure
