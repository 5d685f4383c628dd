"""Training that survives being killed: at regular steps everything needed to go on is in one file."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxad.training import checkpoint
from jaxad.training.loop import History, fit_population
from jaxad.types import Array, Detector, Key, State


class Trained(NamedTuple):
    """What `fit_saved` ends with."""

    state: State  # with an axis P in front, not calibrated
    seconds: float  # of all sessions together
    steps: np.ndarray  # [points], the steps that the curves have kept
    curves: dict[str, np.ndarray]  # fields of the detector's info that are numbers: [P, points]


def fit_saved(
    detector: Detector,
    keys: Key,
    images: Array | np.ndarray,
    *,
    path: str | Path,
    names: Sequence[str],
    steps: int,
    saves: int,
    batch_size: int,
    points: int = 200,
    **options: Any,
) -> Trained:
    """As `fit_population`, saved on the way; the same call after a kill ends where an uninterrupted one does.

    Args:
      detector, keys, images: of `fit_population`, the same in every session.
      path: the file. What it holds of other trainings, which have other names, is overwritten.
      names: [P], of the members, for the file and for errors.
      steps: number of the last step; 1 or more.
      saves: how often to save, the end included; at most every step.
      batch_size: images of a step.
      points: of a curve, at most.
      options: others of `fit_population`.

    Raises:
      ValueError: what `fit_population` refuses; a training that diverges; a file that cannot be read or written.
    """
    if min(steps, saves, points) < 1:
        raise ValueError(f"steps is {steps}, saves {saves}, points {points}; the least of each is 1")
    every, names = -(-steps // points), list(names)
    stops = np.unique(np.linspace(0, steps, saves + 1).round().astype(int))[1:].tolist()
    state, start, spent = None, 0, 0.0
    curves: dict[str, np.ndarray] = {}
    if Path(path).exists() and (known := checkpoint.read_metadata(path))["names"] == names:
        example = jax.ShapeDtypeStruct((batch_size, *images.shape[1:]), np.float32)
        state = checkpoint.restore(path, jax.eval_shape(jax.vmap(detector.init, (0, None)), keys, example))
        start, spent = known["steps"], known["seconds"]
        curves = {name: np.array(values) for name, values in known["curves"].items()}
    for stop in (stop for stop in stops if stop > start):
        begun = time.monotonic()
        state, history = fit_population(
            detector, keys, images, steps=stop, batch_size=batch_size, state=state, start_step=start, **options
        )
        if history.diverged.any():
            name = names[int(history.diverged.argmax())]
            raise ValueError(f"{name}: training diverged between steps {start} and {stop}: lower its learning rate")
        spent += time.monotonic() - begun
        kept = np.flatnonzero(np.arange(start, stop) % every == 0)
        found = _numbers(history, kept)
        curves = {name: np.concatenate([curves[name], found[name]], 1) for name in curves} or found
        told = {name: values.tolist() for name, values in curves.items()}
        checkpoint.save(path, state, metadata={"names": names, "steps": stop, "seconds": spent, "curves": told})
        start = stop
    return Trained(state, spent, np.arange(0, steps, every) + 1, curves)


def _numbers(history: History, kept: np.ndarray) -> dict[str, np.ndarray]:
    """The info that is one number for each step, at some of them: [P, k] by field."""
    return {name: values[:, kept] for name, values in history.info._asdict().items() if values.ndim == 2}
