"""Training with an eye on validation: when is a detector at its best?

Detectors do not get better for as long as they train: an autoencoder that has learnt enough reconstructs anomalies,
too. Where labelled validation images exist (AutoAD's reward needs them anyway) they can choose the moment to stop.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import chex
import numpy as np

from jaxad._utils.tree import member, stack
from jaxad.metrics.image import CRITERIA
from jaxad.metrics.pixel_jax import PIXEL_CRITERIA, PixelTruth, pixel_truth
from jaxad.training.calibration import CALIBRATION_IMAGES, calibrate
from jaxad.training.loop import History, OnChunk, fit_population
from jaxad.training.scoring import map_images, score_images
from jaxad.types import Array, Detector, Key, State


class Selection(NamedTuple):
    """Trainings from P seeds and the best moment of each; a pytree, so that it can be saved and continued."""

    state: State  # as trained so far, with an axis P in front
    best: State  # calibrated, as each was at its best evaluation, with an axis P in front
    values: np.ndarray  # [P, evals] float32, the criterion; NaN where scores were of no use, or not evaluated yet
    num_evals: np.int32  # how many evaluations there have been


OnEval = Callable[[Selection, History], None]


def eval_steps(steps: int, first: int = 10) -> tuple[int, ...]:
    """When to evaluate: after `first` steps, twice as many each time, and at the end."""
    doubled = itertools.takewhile(lambda step: step < steps, (first * 2**k for k in itertools.count()))
    return (*doubled, steps)


def spread_evals(steps: int, count: int, first: float | None = None) -> tuple[int, ...]:
    """When to evaluate: `count` times, the last after `steps` steps, and the others evenly.

    Args:
      first: share of the steps before the first of several evaluations; by default all are evenly spread.

    Raises:
      ValueError: more evaluations than steps.
    """
    if not 1 <= count <= steps:
        raise ValueError(f"{count} evaluations do not fit into {steps} steps; give 1 to {steps}")
    if count == 1:
        return (steps,)
    begin = max(1, steps / count if first is None else first * steps)
    return tuple(np.unique(np.linspace(begin, steps, count).round().astype(int)).tolist())


def fit_selected(
    detector: Detector,
    keys: Key,
    train: Array | np.ndarray,
    valid: Array | np.ndarray,
    labels: np.ndarray,
    *,
    evals: Sequence[int],
    batch_size: int,
    on_eval: OnEval = lambda selection, history: None,
    **options: Any,
) -> Selection:
    """Train a detector from P seeds and keep each as it was when validation liked it most; the earlier wins a tie.

    Args:
      keys: [P], consumed, such as `jax.vmap(jax.random.key)(seeds)`.
      train: [N, H, W, C] images to train on; the normal ones also calibrate.
      valid: [M, H, W, C] images to rank, with labels [M], 1 = anomalous; both kinds are needed.
      evals: steps after which to calibrate and evaluate, ascending from 1 upwards, such as `eval_steps(1000)`; the
        last is the length of the training.
      batch_size: images of a step.
      on_eval: called after every evaluation, with the history of the steps since the one before (leading axis P).
      options: others of `selecting`.

    Raises:
      ValueError: an unknown criterion, evals out of order, and whatever `fit` refuses.
    """
    advance = selecting(detector, keys, train, valid, labels, evals=evals, batch_size=batch_size, **options)
    selection = None
    for start, stop in itertools.pairwise((0, *evals)):
        selection, history = advance(selection, start, stop)
        on_eval(selection, history)
    return selection


def selecting(
    detector: Detector,
    keys: Key,
    train: Array | np.ndarray,
    valid: Array | np.ndarray,
    labels: np.ndarray,
    *,
    evals: Sequence[int],
    batch_size: int,
    criterion: str = "auroc",
    on_chunk: OnChunk | None = None,
    calibration_images: int = CALIBRATION_IMAGES,
    valid_masks: np.ndarray | None = None,
    train_labels: np.ndarray | None = None,
    anomalies_per_batch: int | None = None,
    chunk: int = 100,
) -> Callable[[Selection | None, int, int], tuple[Selection, History]]:
    """From one evaluation of `fit_selected` to the next: (selection, start, stop) -> (selection, history).

    Args:
      criterion: a name in `metrics.image.CRITERIA`, for the validation scores, or in
        `metrics.pixel_jax.PIXEL_CRITERIA`, for the validation maps, by the masks.
      on_chunk, chunk: as in `fit_population`.
      calibration_images: at most so many training images, spread evenly, calibrate at every evaluation.
      valid_masks: [M, H, W] of 0 and 1, where the criterion is one of pixels.
      train_labels, anomalies_per_batch: of the training images, as labels in `fit`; all are normal by default.
    """
    chex.assert_rank([keys, labels], [1, 1])
    if criterion not in (*CRITERIA, *PIXEL_CRITERIA):
        raise ValueError(f"criterion is {criterion!r}; choose one of {', '.join((*CRITERIA, *PIXEL_CRITERIA))}")
    truth, measured = labels, score_images
    if criterion in PIXEL_CRITERIA:
        if valid_masks is None:
            raise ValueError(f"criterion is {criterion}, which needs masks of the validation images: give valid_masks")
        truth, measured = pixel_truth(valid_masks), map_images
    evals = tuple(evals)
    if not evals or sorted({0, *evals}) != [0, *evals]:
        raise ValueError(f"evals are {evals}; give ascending numbers of steps from 1 upwards")
    size = keys.shape[0]
    normal = train if train_labels is None else train[np.flatnonzero(np.asarray(train_labels) == 0)]

    def advance(selection: Selection | None, start: int, stop: int) -> tuple[Selection, History]:
        if selection is None:
            selection = Selection(None, None, np.full((size, len(evals)), np.nan, np.float32), np.int32(0))
        state, history = fit_population(
            detector, keys, train, steps=stop, batch_size=batch_size, on_chunk=on_chunk,
            state=selection.state, start_step=start, chunk=chunk,
            labels=train_labels, anomalies_per_batch=anomalies_per_batch,
        )  # fmt: skip
        now = [calibrate(detector, member(state, p), normal, limit=calibration_images) for p in range(size)]
        values, index = selection.values.copy(), evals.index(stop)
        values[:, index] = [value_of(measured(detector, one, valid), truth, criterion) for one in now]
        best = now
        if index > 0:
            improved = np.nan_to_num(values[:, index], nan=-1.0) > best_values(selection.values)
            best = [now[p] if improved[p] else member(selection.best, p) for p in range(size)]
        return Selection(state, stack(best), values, np.int32(index + 1)), history

    return advance


def best_values(values: np.ndarray) -> np.ndarray:
    """The best of [P, evals] for each seed, [P]; -1 where there is none."""
    return np.nan_to_num(values, nan=-1.0).max(axis=1)


def value_of(found: np.ndarray, truth: np.ndarray | PixelTruth, criterion: str) -> float:
    """The criterion of scores [M] or maps [M, H, W], or NaN where they are not finite or all equal."""
    if not np.isfinite(found).all() or found.min() == found.max():
        return float("nan")
    return float((CRITERIA | PIXEL_CRITERIA)[criterion](found, truth))
