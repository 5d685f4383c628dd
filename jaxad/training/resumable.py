"""Training that survives being killed: at regular steps everything needed to go on is in one file."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxad.training import checkpoint
from jaxad.training.early_stopping import Selection, fit_selected
from jaxad.training.loop import History, fit_population
from jaxad.types import Array, Detector, Key, State


class Trained(NamedTuple):
    """What `fit_saved` ends with."""

    state: State  # with an axis P in front, not calibrated
    seconds: float  # of all sessions together
    steps: np.ndarray  # [points], the steps that the curves have kept, from 1
    curves: dict[str, np.ndarray]  # fields of the detector's info that are numbers: [P, points]


class Selected(NamedTuple):
    """What `fit_selected_saved` ends with."""

    selection: Selection
    seconds: float  # as in `Trained`
    steps: np.ndarray
    curves: dict[str, np.ndarray]


def fit_saved(
    detector: Detector,
    keys: Key,
    images: Array | np.ndarray,
    *,
    path: str | Path,
    names: Sequence[str],
    steps: int,
    checkpoints: int,
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
      checkpoints: how often to save, the end included; at most every step.
      batch_size: images of a step.
      points: of a curve, at most.
      options: others of `fit_population`.

    Raises:
      ValueError: what `fit_population` refuses; a training that diverges; a file that cannot be read or written.
    """
    if min(steps, checkpoints, points) < 1:
        raise ValueError(f"steps is {steps}, checkpoints {checkpoints}, points {points}; the least of each is 1")
    every, names = -(-steps // points), list(names)
    stops = np.unique(np.linspace(0, steps, checkpoints + 1).round().astype(int))[1:].tolist()
    state, start, curves = None, 0, _NO_CURVES
    if Path(path).exists() and (known := checkpoint.read_metadata(path))["names"] == names:
        example = jax.ShapeDtypeStruct((batch_size, *images.shape[1:]), np.float32)
        state = checkpoint.restore(path, _form(detector, keys, example))
        start, curves = known["steps"], _known_curves(known)
    for stop in (stop for stop in stops if stop > start):
        begun = time.monotonic()
        state, history = fit_population(
            detector, keys, images, steps=stop, batch_size=batch_size, state=state, start_step=start, **options
        )
        if history.diverged.any():
            name = names[int(history.diverged.argmax())]
            raise ValueError(f"{name}: training diverged between steps {start} and {stop}: lower its learning rate")
        curves = _extended(curves, history, start, stop, every, time.monotonic() - begun)
        checkpoint.save(path, state, metadata={"names": names, "steps": stop} | _as_json(curves))
        start = stop
    return Trained(state, *curves)


def fit_selected_saved(
    detector: Detector,
    keys: Key,
    train: Array | np.ndarray,
    valid: Array | np.ndarray,
    labels: np.ndarray,
    *,
    path: str | Path,
    evals: Sequence[int],
    batch_size: int,
    points: int = 200,
    on_eval: Callable[[Selection, History], None] = lambda selection, history: None,
    **options: Any,
) -> Selected:
    """As `fit_selected`, saved after every evaluation; the same call after a kill ends where an uninterrupted one does.

    Args:
      detector, keys, train, valid, labels, evals, batch_size, on_eval: of `fit_selected`, the same in every session.
      path: the file; what another training has left there is refused.
      points: of a curve, at most.
      options: others of `fit_selected`.

    Raises:
      ValueError: what `fit_selected` refuses; a file of another training, or one that cannot be read or written.
    """
    evals, selection, curves = tuple(evals), None, _NO_CURVES
    if Path(path).exists():
        state = _form(detector, keys, jax.ShapeDtypeStruct((batch_size, *train.shape[1:]), np.float32))
        values = np.zeros((len(keys), len(evals)), np.float32)
        selection = checkpoint.restore(path, Selection(state, state, values, np.int32(0)))
        curves = _known_curves(checkpoint.read_metadata(path))
    every, begun = -(-max(evals, default=1) // points), time.monotonic()

    def evaluated(selection: Selection, history: History) -> None:
        nonlocal begun, curves
        on_eval(selection, history)
        count, now = int(selection.num_evals), time.monotonic()
        start = evals[count - 2] if count > 1 else 0
        curves = _extended(curves, history, start, evals[count - 1], every, now - begun)
        checkpoint.save(path, selection, metadata=_as_json(curves))
        begun = now

    selection = fit_selected(
        detector, keys, train, valid, labels, evals=evals, batch_size=batch_size, selection=selection,
        on_eval=evaluated, **options,
    )  # fmt: skip
    return Selected(selection, *curves)


class _Curves(NamedTuple):
    """What a training told on its way, as in `Trained`."""

    seconds: float
    steps: np.ndarray
    values: dict[str, np.ndarray]


_NO_CURVES = _Curves(0.0, np.zeros(0, int), {})


def _form(detector: Detector, keys: Key, example: jax.ShapeDtypeStruct) -> State:
    """Shapes and types of the states of a population."""
    return jax.eval_shape(jax.vmap(detector.init, (0, None)), keys, example)


def _extended(curves: _Curves, history: History, start: int, stop: int, every: int, seconds: float) -> _Curves:
    """The curves, and what was told from step `start` to `stop`, one step of `every`."""
    kept = np.flatnonzero(np.arange(start, stop) % every == 0)
    found = {name: values[:, kept] for name, values in history.info._asdict().items() if values.ndim == 2}
    values = {name: np.concatenate([curves.values[name], found[name]], 1) for name in curves.values} or found
    return _Curves(curves.seconds + seconds, np.concatenate([curves.steps, start + kept + 1]), values)


def _as_json(curves: _Curves) -> dict[str, Any]:
    values = {name: values.tolist() for name, values in curves.values.items()}
    return {"seconds": curves.seconds, "curve_steps": curves.steps.tolist(), "curves": values}


def _known_curves(metadata: dict[str, Any]) -> _Curves:
    values = {name: np.array(values) for name, values in metadata["curves"].items()}
    return _Curves(metadata["seconds"], np.array(metadata["curve_steps"], int), values)
