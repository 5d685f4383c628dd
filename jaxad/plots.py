"""Pictures of a search and of a detector: NumPy in, a matplotlib Figure out.

Figures are made without pyplot: they need no display and leave no global state. Matplotlib is imported
when the first picture is drawn, not when jaxad is. Rewards of failed children are NaN or None: counted,
never drawn as numbers. Labels: 1 = anomalous. Scores: higher = more anomalous; images without a finite one
are left out. Where there is nothing to draw, the figure says so in words.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID = "#1f2933", "#7b8794", "#d9dee4"
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"  # Okabe-Ito, told apart by colour-blind readers
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
LAYER_ACTIONS = ("channels", "kernel", "pool", "pool_kernel", "norm", "activation")
ACTIONS = ("hypothesis", "distance", *LAYER_ACTIONS)


def style(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Give a drawing function the common look, and matplotlib only when it is called."""

    @functools.wraps(draw)
    def wrapped(*args, **kwargs) -> Figure:
        import matplotlib

        with matplotlib.rc_context(RC):
            return draw(*args, **kwargs)

    return wrapped


def _figure(width: float = 4.8, height: float = 3.1, rows: int = 1, columns: int = 1, **kwargs):
    """A new Figure of `width` x `height` inches and its axes, laid out so that nothing overlaps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **kwargs)


def _dots(ax: Axes, x, y, **kwargs) -> None:
    """Small dots, one per child."""
    look = {"ms": 2.8, "mew": 0, "color": MUTED, "alpha": 0.65, "rasterized": len(x) > MANY}
    ax.plot(x, y, "o", **look | kwargs)


def _label_decades(axis) -> None:
    """Label a logarithmic axis 1k, 10k, 100k, or finer where it spans little."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1,) if high > 100 * low else (1, 2, 5)))
    axis.set_major_formatter(EngFormatter(sep=""))
    axis.set_minor_formatter(NullFormatter())


def _note(ax: Axes, text: str) -> None:
    """Say in place of a picture why there is none."""
    ax.set(xticks=[], yticks=[], xlabel="", ylabel="")
    ax.spines[:].set_visible(False)
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color=MUTED)


def _floats(values, name: str, like: Sequence | None = None) -> np.ndarray:
    """A float vector; None and infinities become NaN. `like` is what it must be as long as."""
    vector = np.array([np.nan if v is None else float(v) for v in values], float)
    if like is not None and len(vector) != len(like):
        raise ValueError(f"{name} has {len(vector)} entries where {len(like)} are needed: pass one for each")
    return np.where(np.isfinite(vector), vector, np.nan)


def _two_classes(labels, scores) -> tuple[np.ndarray, np.ndarray]:
    """Labels (bool) and scores of the images whose score is finite."""
    labels = np.asarray(labels).ravel()
    scores = _floats(np.asarray(scores).ravel(), "scores", like=labels)
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("labels hold values other than 0 (normal) and 1 (anomalous): map them to these two")
    keep = np.isfinite(scores)
    return labels[keep].astype(bool), scores[keep]


# --- the search ---


def running_best(rewards, top: int = 1) -> np.ndarray:
    """Mean of the `top` best rewards seen so far (of all, while there are fewer); NaN before the first.

    rewards [n], NaN or None where a child failed. Returns [n].
    """
    best: list[float] = []
    means = []
    for reward in _floats(rewards, "rewards"):
        if np.isfinite(reward):
            best = sorted([*best, reward], reverse=True)[:top]
        means.append(np.mean(best) if best else np.nan)
    return np.array(means)


@style
def best_so_far(rewards, *, seconds=None, top: int = 5, metric: str = "validation AUROC") -> Figure:
    """Best reward and mean of the `top` best so far, against children or against time.

    rewards [n] in order of training; seconds [n] since the search began, or None for children on the x axis.
    """
    rewards = _floats(rewards, "rewards")
    if seconds is None:
        x, unit = np.arange(1, len(rewards) + 1), "children trained"
    else:
        x, unit = _floats(seconds, "seconds", like=rewards), "search time (s)"
        if np.nanmax(x, initial=0) > 300:
            x, unit = x / 60, "search time (min)"
    figure, ax = _figure()
    ax.set(xlabel=unit, ylabel=metric)
    failed = np.isnan(rewards)
    if failed.all():
        _note(ax, "no child has a reward")
        return figure
    _dots(ax, x, rewards, label="one child")
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
    rewards = _floats(rewards, "rewards")
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
    figure, ax = _figure()
    ax.set(xlabel=f"children proposed (windows of {window})", ylabel=metric)
    if not np.isfinite(mean).any():
        _note(ax, "no child has a reward")
        return figure
    ax.fill_between(ends, mean - deviation, mean + deviation, color=BLUE, alpha=0.18, lw=0, label="± 1 sd")
    ax.plot(ends, mean, "o-", ms=4, color=BLUE, label="mean of the window")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(loc="best")
    return figure


def action_columns(architectures: Sequence[Mapping]) -> dict[tuple[str, int], list]:
    """What was chosen at each position: (action, layer) -> a value per architecture, None where absent.

    Layers count from 1; hypothesis and distance belong to layer 0.
    """
    columns = {(name, 0): [a.get(name) for a in architectures] for name in ("hypothesis", "distance")}
    for layer in range(max((len(a["layers"]) for a in architectures), default=0)):
        for name in LAYER_ACTIONS:
            columns[name, layer + 1] = [
                a["layers"][layer].get(name) if layer < len(a["layers"]) else None for a in architectures
            ]
    return columns


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

    rewards = _floats(rewards, "rewards", like=architectures)
    keep = np.flatnonzero(np.isfinite(rewards))
    keep = keep[np.argsort(rewards[keep], kind="stable")]
    rewards = rewards[keep]
    columns = action_columns([architectures[i] for i in keep])
    levels = [_levels(values) for values in columns.values()]
    room = [0.28 + 0.065 * max((len(str(v)) for v in level), default=0) for level in levels]
    x = np.concatenate([[0], np.cumsum(room)])
    figure, ax = _figure(max(5.0, 0.9 + x[-1]), 3.9)
    if not len(keep):
        _note(ax, "no child has a reward")
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
    for (name, layer), start in zip(columns, x):
        if name == LAYER_ACTIONS[0]:
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
    """How rewards spread for each value of each of the eight actions: points, quartile box, median.

    A child counts once for each layer that took the value. Named values are sorted by their median.
    architectures [n] dicts of hypothesis, distance, layers; rewards [n].
    """
    rewards = _floats(rewards, "rewards", like=architectures)
    columns = action_columns(architectures)
    figure, axes = _figure(9.6, 4.9, 2, 4, sharey=True)
    jitter = np.random.default_rng(0)
    thin = {"color": INK, "lw": 0.8}
    box = {"widths": 0.62, "showfliers": False, "whis": (5, 95), "manage_ticks": False, "boxprops": thin}
    box |= {"whiskerprops": thin, "capprops": {"lw": 0}, "medianprops": {"color": BLUE, "lw": 2}}
    for ax, name in zip(axes.flat, ACTIONS):
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
            _dots(ax, x + shift, r, ms=1.8, alpha=0.5, rasterized=len(values) > 60)
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
    rewards = _floats(rewards, "rewards")
    cost = _floats(cost, "cost", like=rewards)
    keep = np.isfinite(rewards) & (cost > 0)
    figure, ax = _figure()
    ax.set(xlabel=unit, ylabel=metric)
    if not keep.any():
        _note(ax, f"no child has a reward and a number of {unit}")
        return figure
    cost, rewards = cost[keep], rewards[keep]
    front = pareto_front(cost, rewards)
    _dots(ax, cost, rewards, label="one child")
    line = {"ms": 4, "lw": 1.2, "color": BLUE, "label": "best at this cost"}
    ax.step(cost[front], rewards[front], "o-", where="post", **line)
    ax.set_xscale("log")
    _label_decades(ax.xaxis)
    ax.legend(loc="lower right")
    return figure


@style
def child_seconds(seconds) -> Figure:
    """Wall-clock seconds of each child, logarithmic where they differ twentyfold.

    seconds [n], None or 0 = not timed.
    """
    seconds = _floats(seconds, "seconds")
    timed = seconds > 0
    figure, ax = _figure()
    ax.set(xlabel="child", ylabel="wall-clock time (s)")
    if not timed.any():
        _note(ax, "no child was timed")
        return figure
    x, seconds = np.flatnonzero(timed) + 1, seconds[timed]
    _dots(ax, x, seconds, color=BLUE, alpha=0.7)
    if seconds.max() > 20 * seconds.min():
        ax.set_yscale("log")
        _label_decades(ax.yaxis)
    else:
        ax.set_ylim(0, 1.15 * seconds.max())
    median = np.median(seconds)
    ax.axhline(median, color=ORANGE, lw=1.2, ls="--", label=f"median {median:.2g} s")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(loc="upper right")
    return figure


# --- a detector ---


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
    labels, scores = _two_classes(labels, scores)
    figure, ax = _figure(4.2, 3.9)
    ax.set_xlabel("false-positive rate (normal images flagged)")
    ax.set_ylabel("true-positive rate (anomalies found)")
    if labels.all() or not labels.any():
        _note(ax, "a ROC curve needs normal and anomalous images")
        return figure
    false, true = roc_points(labels, scores)
    value = f"{area(false, true):.3f}" if interval is None else "{:.3f} [{:.3f}, {:.3f}]".format(*interval)
    grid = np.linspace(0, 1, 101)
    low, high = _bootstrap_band(labels, scores, grid, resamples=resamples, seed=seed)
    ax.fill_between(grid, low, high, color=BLUE, alpha=0.18, lw=0, label="95 % band (bootstrap)")
    ax.plot(false, true, color=BLUE, label=f"test, AUROC {value}")
    if validation is not None:
        other_labels, other_scores = _two_classes(*validation)
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
    labels, scores = _two_classes(labels, scores)
    figure, ax = _figure(4.8, 3.9)
    ax.set(xlabel="anomaly score", ylabel="share of the class (%)")
    if not len(scores):
        _note(ax, "no image has a finite score")
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
def reconstructions(inputs, labels, *, reconstructed=None, error_maps=None, scores=None) -> Figure:
    """Rows of inputs, reconstructions and error maps; normal columns, then anomalous; one colour scale.

    inputs and reconstructed [k, H, W, C] in [0, 1], error_maps [k, H, W], labels [k], scores [k]. The row of
    what is None is left out. Colours end at the 99.5 % quantile of all maps together.
    """
    inputs, labels = np.asarray(inputs), np.asarray(labels).astype(bool).ravel()
    if inputs.ndim != 4 or len(inputs) != len(labels):
        raise ValueError(f"inputs have shape {inputs.shape}: pass [k, H, W, C] with k = {len(labels)} labels")
    if not len(labels):
        figure, ax = _figure()
        _note(ax, "no example images")
        return figure
    grey = {"cmap": "gray", "vmin": 0, "vmax": 1, "interpolation": "none"}
    rows = [("input", np.clip(displayable(inputs), 0, 1), grey)]
    if reconstructed is not None:
        rows.append(("reconstruction", np.clip(displayable(reconstructed), 0, 1), grey))
    if error_maps is not None:
        maps = displayable(np.asarray(error_maps)[..., None])
        low, high = min(0.0, float(maps.min())), float(np.quantile(maps, 0.995))
        scale = {"cmap": "inferno", "vmin": low, "vmax": high if high > low else low + 1}
        rows.append(("error", maps, scale | {"interpolation": "none"}))
    wide = inputs.shape[2] / inputs.shape[1]
    # All pictures share one axes, in units of the height of an image, with a wider gap between the classes.
    order = np.argsort(labels, kind="stable")
    left = np.arange(len(order)) * (wide + 0.07) + 0.18 * (labels[order] & ~labels.all())
    figure, ax = _figure(1.15 + 0.95 * (left[-1] + wide), 0.4 + 1.02 * len(rows))
    for row, (_, images, look) in enumerate(rows):
        for x, i in zip(left, order):
            bottom = -1.07 * row
            drawn = ax.imshow(images[i], extent=(x, x + wide, bottom - 1, bottom), **look)
    for x, i in zip(left, order):
        title = "anomalous" if labels[i] else "normal"
        title += "" if scores is None else f"\n{scores[i]:.3g}"
        colour = ORANGE if labels[i] else BLUE
        ax.text(x + wide / 2, 0.06, title, fontsize=8, ha="center", va="bottom", color=colour)
    if error_maps is not None:
        extend = "max" if maps.max() > drawn.norm.vmax else "neither"
        bar = figure.colorbar(drawn, ax=ax, pad=0.01, aspect=8 * len(rows), label="error", extend=extend)
        bar.outline.set_visible(False)
    middles = [-1.07 * row - 0.5 for row in range(len(rows))]
    ax.set_yticks(middles, [name for name, *_ in rows], rotation=90, va="center")
    ax.set(xticks=[], xlim=(0, left[-1] + wide), ylim=(-1.07 * len(rows) + 0.07, 0.05 if scores is None else 0.4))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.grid(visible=False)
    return figure
