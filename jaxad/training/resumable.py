"""Training that survives being killed: at regular steps everything needed to go on is in one file.

`train_saved` is the one way to do so. It knows nothing of what is trained: it is handed a function that goes from one
step to another, for as long as that function's result depends on the state and the step numbers alone.
"""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxad.training import checkpoint
from jaxad.training.early_stopping import OnEval, Selection, selecting, spread_evals
from jaxad.training.loop import fit_population
from jaxad.types import Array, Detector, Info, Key, State

Advance = Callable[[State | None, int, int], tuple[State, Mapping[str, np.ndarray]]]
"""(state after step `start` or None at 0, start, stop) -> (state after step `stop`, {name: [P, stop - start]})."""


class Trained(NamedTuple):
    """What `train_saved` ends with."""

    state: State  # as `advance` left it
    seconds: float  # of all sessions together
    steps: np.ndarray  # [points], the steps that the curves have kept, from 1
    curves: dict[str, np.ndarray]  # the numbers that `advance` told of them: [P, points]


class Selected(NamedTuple):
    """What `fit_selected_saved` ends with."""

    selection: Selection
    seconds: float  # as in `Trained`
    steps: np.ndarray
    curves: dict[str, np.ndarray]


def train_saved(
    advance: Advance,
    *,
    path: str | Path | None,
    stops: Sequence[int],
    like: Callable[[], State],
    names: Sequence[str] = (),
    points: int = 200,
    limit: float | None = None,
) -> Trained:
    """Train from stop to stop, saved at each; the same call after a kill ends where an uninterrupted one does.

    Args:
      advance: trains; it raises ValueError where there is no use in going on.
      path: the file. What it holds of other trainings, which have other names, is overwritten. With None nothing is
        saved.
      stops: ascending numbers of steps from 1 upwards; the last is the length of the training.
      like: gives the structure and shapes of the state; called where there is a file.
      names: of what is trained.
      points: of a curve, at most.
      limit: seconds of all sessions after which no stop is to be reached; at the pace of the steps so far, the training
        ends before the first stop that would be. The first stop is always reached.

    Raises:
      ValueError: stops out of order; what `advance` raises; a file that cannot be read or written, or does not fit.
    """
    stops, names = list(stops), list(names)
    if not stops or sorted({0, *stops}) != [0, *stops] or points < 1:
        raise ValueError(f"stops are {stops} and points {points}; give ascending steps from 1 upwards, and a point")
    every = -(-stops[-1] // points)
    state, start, seconds = None, 0, 0.0
    curves: dict[str, np.ndarray] = {}
    if path is not None and Path(path).exists() and (known := _known(path))["names"] == names:
        state = checkpoint.restore(path, like())
        start, seconds = known["steps"], known["seconds"]
        curves = {name: np.array(values, float) for name, values in known["curves"].items()}
    for stop in (stop for stop in stops if stop > start):
        if limit is not None and start and seconds * stop / start > limit:
            break
        begun = time.monotonic()
        state, found = advance(state, start, stop)
        seconds += time.monotonic() - begun
        kept = np.flatnonzero(np.arange(start, stop) % every == 0)
        found = {name: np.asarray(values, float)[:, kept] for name, values in found.items()}
        curves = {name: np.concatenate([curves[name], found[name]], 1) for name in curves} or found
        start = stop
        if path is not None:
            lists = {name: values.tolist() for name, values in curves.items()}
            checkpoint.save(path, state, metadata={"names": names, "steps": stop, "seconds": seconds, "curves": lists})
    return Trained(state, seconds, np.arange(0, start, every) + 1, curves)


def _known(path: str | Path) -> dict[str, Any]:
    try:
        return checkpoint.read_metadata(path)
    except checkpoint.DamagedCheckpoint as error:
        raise ValueError(f"{error}; or remove that file, and its training begins anew") from error


def even_stops(steps: int, checkpoints: int) -> list[int]:
    """Up to `checkpoints` numbers of steps, spread evenly, the last of them `steps`."""
    if min(steps, checkpoints) < 1:
        raise ValueError(f"steps is {steps} and checkpoints {checkpoints}; the least of both is 1")
    return list(spread_evals(steps, min(checkpoints, steps)))


def numbers(info: Info) -> dict[str, np.ndarray]:
    """What a population's info has as one number for each member and step: [P, n] by field; none without fields."""
    return {name: values for name, values in getattr(info, "_asdict", dict)().items() if np.ndim(values) == 2}


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
    """As `fit_population`, saved on the way.

    Args:
      detector, keys, images: of `fit_population`, the same in every session.
      path, points: of `train_saved`.
      names: [P], of the members, for the file and for errors.
      steps: number of the last step; 1 or more.
      checkpoints: how often to save, the end included; at most every step.
      batch_size: images of a step.
      options: others of `fit_population`.

    Returns:
      States with an axis P in front, not calibrated; curves of the fields of the detector's info that are numbers.

    Raises:
      ValueError: what `fit_population` refuses; a training that diverges; a file that cannot be read or written.
    """

    def advance(state: State | None, start: int, stop: int) -> tuple[State, Mapping[str, np.ndarray]]:
        state, history = fit_population(
            detector, keys, images, steps=stop, batch_size=batch_size, state=state, start_step=start, **options
        )
        if history.diverged.any():
            name = names[int(history.diverged.argmax())]
            raise ValueError(f"{name}: training diverged between steps {start} and {stop}: lower its learning rate")
        return state, numbers(history.info)

    stops, example = even_stops(steps, checkpoints), (batch_size, *images.shape[1:])
    like = functools.partial(_form, detector, keys, example)
    return train_saved(advance, path=path, names=names, stops=stops, like=like, points=points)


def fit_selected_saved(
    detector: Detector,
    keys: Key,
    train: Array | np.ndarray,
    valid: Array | np.ndarray,
    labels: np.ndarray,
    *,
    path: str | Path | None,
    evals: Sequence[int],
    batch_size: int,
    points: int = 200,
    limit: float | None = None,
    on_eval: OnEval = lambda selection, history: None,
    **options: Any,
) -> Selected:
    """As `fit_selected`, saved after every evaluation.

    Args:
      detector, keys, train, valid, labels, evals, batch_size: of `fit_selected`, the same in every session.
      path, points, limit: of `train_saved`; a file of another training is refused.
      on_eval: of `fit_selected`. What it raises ends the training, and the evaluation is not saved.
      options: others of `selecting`.

    Raises:
      ValueError: what `fit_selected` refuses; a file of another training, or one that cannot be read or written.
    """
    evals = tuple(evals)
    select = selecting(detector, keys, train, valid, labels, evals=evals, batch_size=batch_size, **options)

    def advance(selection: Selection | None, start: int, stop: int) -> tuple[Selection, Mapping[str, np.ndarray]]:
        selection, history = select(selection, start, stop)
        on_eval(selection, history)
        return selection, numbers(history.info)

    def like() -> Selection:
        state = _form(detector, keys, (batch_size, *train.shape[1:]))
        return Selection(state, state, np.zeros((len(keys), len(evals)), np.float32), np.int32(0))

    return Selected(*train_saved(advance, path=path, stops=evals, like=like, points=points, limit=limit))


def _form(detector: Detector, keys: Key, batch_shape: tuple[int, ...]) -> State:
    """Structure and shapes of the states of a population."""
    return jax.eval_shape(jax.vmap(detector.init, (0, None)), keys, jax.ShapeDtypeStruct(batch_shape, np.float32))
