"""Pictures of a search: what was tried, what it cost and how it was rewarded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxad.nn.actions import known_actions
from jaxad.report.plots.style import (
    BLUE,
    GREEN,
    GRID,
    INK,
    MUTED,
    ORANGE,
    REWARD_COLOURS,
    canvas,
    dots,
    floats,
    label_decades,
    note,
    panels,
    style,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def running_best(rewards, top: int = 1) -> np.ndarray:
    """Mean of the `top` best rewards seen so far (of all, while there are fewer); NaN before the first.

    rewards [..., n], the children in the last axis, NaN or None where one failed. Returns [..., n].
    """
    rewards = np.asarray(rewards, float)
    rewards = np.where(np.isfinite(rewards), rewards, np.nan)
    best, means = rewards[..., :0], np.empty_like(rewards)
    for child in range(rewards.shape[-1]):
        best = np.concatenate([best, rewards[..., child, None]], axis=-1)
        best = -np.sort(-best, axis=-1)[..., :top]  # NaN is sorted to the end
        counted = np.isfinite(best).sum(-1)
        means[..., child] = np.nansum(best, -1) / np.where(counted, counted, np.nan)
    return means


@style
def best_so_far(rewards, *, seconds=None, top: int = 5, metric: str = "validation AUROC") -> Figure:
    """Best reward and mean of the `top` best so far, against children or against time.

    rewards [n] in order of training; seconds [n] since the search began, or None for children on the x axis.
    """
    rewards = floats(rewards, "rewards")
    if seconds is None:
        x, unit = np.arange(1, len(rewards) + 1), "children trained"
    else:
        x, unit = floats(seconds, "seconds", like=rewards), "search time (s)"
        if np.nanmax(x, initial=0) > 300:
            x, unit = x / 60, "search time (min)"
    figure, ax = canvas()
    ax.set(xlabel=unit, ylabel=metric)
    failed = np.isnan(rewards)
    if failed.all():
        note(ax, "no child has a reward")
        return figure
    dots(ax, x, rewards, label="one child")
    if failed.any():
        rug = {"color": ORANGE, "transform": ax.get_xaxis_transform(), "label": "failed child"}
        ax.plot(x[failed], np.full(failed.sum(), 0.02), "|", ms=6, **rug)
    if top > 1:
        ax.step(x, running_best(rewards, top), where="post", color=GREEN, lw=1.4, label=f"mean of best {top}")
    ax.step(x, running_best(rewards), where="post", color=BLUE, label="best so far")
    if seconds is None:
        ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(loc="lower right")
    return figure


def windows(rewards, window: int = 20) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """End, mean and population standard deviation of the rewards in each window; the last may be shorter.

    Failed children are left out; a window of failures only is NaN. Each output is [ceil(n / window)].
    """
    if window < 1:
        raise ValueError(f"window = {window} holds no child: choose at least 1")
    rewards = floats(rewards, "rewards")
    pieces = [rewards[start : start + window] for start in range(0, len(rewards), window)]
    ends = np.cumsum([len(piece) for piece in pieces])
    finite = [piece[np.isfinite(piece)] for piece in pieces]
    mean = np.array([piece.mean() if len(piece) else np.nan for piece in finite])
    deviation = np.array([piece.std() if len(piece) else np.nan for piece in finite])
    return ends, mean, deviation


@style
def window_mean(rewards, *, window: int = 20, metric: str = "validation AUROC") -> Figure:
    """Mean and standard deviation of rewards per window of children (AutoAD, Fig. 3b and 3c in one)."""
    ends, mean, deviation = windows(rewards, window)
    figure, ax = canvas()
    ax.set(xlabel=f"children proposed (windows of {window})", ylabel=metric)
    if not np.isfinite(mean).any():
        note(ax, "no child has a reward")
        return figure
    ax.fill_between(ends, mean - deviation, mean + deviation, color=BLUE, alpha=0.18, lw=0, label="± 1 sd")
    ax.plot(ends, mean, "o-", ms=4, color=BLUE, label="mean of the window")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(loc="best")
    return figure


def action_columns(architectures: Sequence[Mapping]) -> dict[tuple[str, int], list]:
    """What was chosen at each position: (action, layer) -> a value per architecture, None where absent.

    Layers count from 1; what a child decides as a whole, such as hypothesis and distance, belongs to layer 0. An action
    beyond the paper's has columns where any architecture mentions it; one that does not has its default. The number of
    layers, "depth", has a column where it differs.
    """
    depths = [len(a["layers"]) for a in architectures]
    layers = max(depths, default=0)
    columns = {(name, 0): [a.get(name, default) for a in architectures] for name, default in _shown(architectures)}
    if len(set(depths)) > 1:
        columns["depth", 0] = depths
    per_layer = _shown([layer for a in architectures for layer in a["layers"]], "layer")
    for layer in range(layers):
        for name, default in per_layer:
            columns[name, layer + 1] = [
                a["layers"][layer].get(name, default) if layer < len(a["layers"]) else None for a in architectures
            ]
    return columns


def _shown(owners: Sequence[Mapping], scope: str = "child") -> list[tuple[str, str | None]]:
    """(name, default) of the actions of a scope: the paper's, then what else is mentioned, known here or not."""
    known = known_actions(scope)
    paper = [name for name, action in known.items() if action.default is None]
    others = sorted({name for owner in owners for name in owner} - {*paper, "layers"})
    return [(name, None) for name in paper] + [
        (name, known[name].default if name in known else None) for name in others
    ]


def _levels(values: Sequence) -> list:
    """The distinct values in their natural order: numbers first and by size."""
    return sorted({v for v in values if v is not None}, key=lambda v: (isinstance(v, str), v))


@style
def parallel_coordinates(
    architectures: Sequence[Mapping],
    rewards,
    *,
    top: int = 5,
    most: int = 300,
    metric: str = "validation AUROC",
) -> Figure:
    """Every architecture as a line through its choices; colour = reward, the `top` best drawn last and thick.

    Within a choice, lines are stacked by rank of reward, so that a choice shared by many stays readable.
    Of more than `most` children, the best and every so-manieth other are drawn, and the title says so.
    architectures [n] dicts of hypothesis, distance, layers; rewards [n].
    """
    from matplotlib.collections import LineCollection
    from matplotlib.colors import LinearSegmentedColormap

    rewards = floats(rewards, "rewards", like=architectures)
    keep = np.flatnonzero(np.isfinite(rewards))
    keep = keep[np.argsort(rewards[keep], kind="stable")]
    rewards = rewards[keep]
    columns = action_columns([architectures[i] for i in keep])
    levels = [_levels(values) for values in columns.values()]
    room = [0.28 + 0.065 * max((len(str(v)) for v in level), default=0) for level in levels]
    x = np.concatenate([[0], np.cumsum(room)])
    figure, ax = canvas(max(5.0, 0.9 + x[-1]), 3.9)
    if not len(keep):
        note(ax, "no child has a reward")
        return figure
    rank = 0.62 * ((np.arange(len(keep)) + 0.5) / len(keep) - 0.5)
    heights = np.full((len(keep), len(columns)), np.nan)
    bands = []
    plate = {"boxstyle": "round,pad=0.12", "fc": "white", "ec": "none", "alpha": 0.75}
    for j, (values, level) in enumerate(zip(columns.values(), levels)):
        for i, value in enumerate(values):
            if value is not None:
                heights[i, j] = (level.index(value) + 0.5 + rank[i]) / len(level)
        for y, value in zip((np.arange(len(level)) + 0.5) / len(level), level):
            bands.append([(x[j], y - 0.32 / len(level)), (x[j], y + 0.32 / len(level))])
            ax.text(x[j] + 0.07, y, str(value), fontsize=7, va="center", zorder=6, bbox=plate)
    ax.add_collection(LineCollection(bands, color=GRID, lw=4, zorder=0))
    lines = np.stack([np.broadcast_to(x[:-1], heights.shape), heights], -1)
    colours = LinearSegmentedColormap.from_list("reward", REWARD_COLOURS)
    limits = (rewards[0], max(rewards[-1], rewards[0] + 1e-6))
    split = max(len(keep) - top, 0)
    every = max(-(-split // max(most - top, 1)), 1)
    if every > 1:
        ax.set_title(f"best {top}, and one in {every} of the other {split:,} children", fontsize=8)
    for part, width, alpha in ((slice(0, split, every), 0.7, 0.4), (slice(split, None), 1.8, 1.0)):
        drawn = LineCollection(list(lines[part]), lw=width, alpha=alpha, array=rewards[part], cmap=colours)
        drawn.set_clim(limits)
        ax.add_collection(drawn)
    figure.colorbar(drawn, ax=ax, label=metric, pad=0.01, aspect=30).outline.set_visible(False)
    first = next((name for name, layer in columns if layer), None)
    for (name, layer), start in zip(columns, x):
        if name == first:
            ax.text(start, 1.02, f"layer {layer}", fontsize=8, weight="bold", color=MUTED)
            ax.axvline(start - 0.13, color=MUTED, lw=0.8, zorder=0)
    names = [name.replace("_", " ") for name, _ in columns]
    ax.set_xticks(x[:-1], names, rotation=40, ha="right", rotation_mode="anchor")
    ax.set(xlim=(-0.1, x[-1] + 0.05), ylim=(0, 1.07), yticks=[])
    ax.spines["left"].set_visible(False)
    ax.grid(visible=False)
    return figure


@style
def reward_by_action(architectures: Sequence[Mapping], rewards, *, metric: str = "validation AUROC") -> Figure:
    """How rewards spread for each value of each action: points, quartile box, median.

    A child counts once for each layer that took the value. Named values are sorted by their median.
    architectures [n] dicts of hypothesis, distance, layers; rewards [n].
    """
    rewards = floats(rewards, "rewards", like=architectures)
    columns = action_columns(architectures)
    names = list(dict.fromkeys(name for name, _ in columns))
    figure, axes = panels(len(names), sharey=True)
    jitter = np.random.default_rng(0)
    thin = {"color": INK, "lw": 0.8}
    box = {"widths": 0.62, "showfliers": False, "whis": (5, 95), "manage_ticks": False, "boxprops": thin}
    box |= {"whiskerprops": thin, "capprops": {"lw": 0}, "medianprops": {"color": BLUE, "lw": 2}}
    for ax, name in zip(axes, names):
        ax.set_title(name.replace("_", " "))
        ax.grid(axis="x", visible=False)
        values = [v for (action, _), column in columns.items() if action == name for v in column]
        repeated = np.tile(rewards, len(values) // max(len(rewards), 1))
        by_value = {level: repeated[[v == level for v in values]] for level in _levels(values)}
        by_value = {level: r[np.isfinite(r)] for level, r in by_value.items() if np.isfinite(r).any()}
        if any(isinstance(level, str) for level in by_value):
            by_value = dict(sorted(by_value.items(), key=lambda item: np.median(item[1])))
        for x, r in enumerate(by_value.values()):
            shift = jitter.uniform(-0.24, 0.24, len(r))
            dots(ax, x + shift, r, ms=1.8, alpha=0.5, rasterized=len(values) > 60)
        if by_value:
            ax.boxplot(list(by_value.values()), positions=range(len(by_value)), **box)
        slanted = sum(len(str(level)) for level in by_value) > 17
        slant = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
        ax.set_xticks(range(len(by_value)), [str(level) for level in by_value], fontsize=8, **slant)
    figure.supylabel(metric, fontsize=9)
    return figure


def pareto_front(cost, rewards) -> np.ndarray:
    """Indices, by rising cost, of the children whose reward no cheaper or equally cheap child reaches."""
    order = np.lexsort((-np.asarray(rewards, float), np.asarray(cost, float)))
    front, best = [], -np.inf
    for i in order:
        if rewards[i] > best:
            front.append(i)
            best = rewards[i]
    return np.array(front, int)


@style
def reward_by_cost(cost, rewards, *, unit: str = "parameters", metric: str = "validation AUROC") -> Figure:
    """Reward against parameters or FLOPs (logarithmic) with the Pareto front. cost [n] > 0, rewards [n]."""
    rewards = floats(rewards, "rewards")
    cost = floats(cost, "cost", like=rewards)
    keep = np.isfinite(rewards) & (cost > 0)
    figure, ax = canvas()
    ax.set(xlabel=unit, ylabel=metric)
    if not keep.any():
        note(ax, f"no child has a reward and a number of {unit}")
        return figure
    cost, rewards = cost[keep], rewards[keep]
    front = pareto_front(cost, rewards)
    dots(ax, cost, rewards, label="one child")
    line = {"ms": 4, "lw": 1.2, "color": BLUE, "label": "best at this cost"}
    ax.step(cost[front], rewards[front], "o-", where="post", **line)
    ax.set_xscale("log")
    label_decades(ax.xaxis)
    ax.legend(loc="lower right")
    return figure


@style
def child_seconds(seconds) -> Figure:
    """Wall-clock seconds of each child, logarithmic where they differ twentyfold.

    seconds [n], None or 0 = not timed.
    """
    seconds = floats(seconds, "seconds")
    timed = seconds > 0
    figure, ax = canvas()
    ax.set(xlabel="child", ylabel="wall-clock time (s)")
    if not timed.any():
        note(ax, "no child was timed")
        return figure
    x, seconds = np.flatnonzero(timed) + 1, seconds[timed]
    dots(ax, x, seconds, color=BLUE, alpha=0.7)
    if seconds.max() > 20 * seconds.min():
        ax.set_yscale("log")
        label_decades(ax.yaxis)
    else:
        ax.set_ylim(0, 1.15 * seconds.max())
    median = np.median(seconds)
    ax.axhline(median, color=ORANGE, lw=1.2, ls="--", label=f"median {median:.2g} s")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(loc="upper right")
    return figure
