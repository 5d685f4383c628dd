"""What all runs share: a folder that is opened or gone on with, and an end that leaves everything there.

An experiment reads so:

    def run(config):
        task = config.load_task(config.seed)
        with session(config, "mine", data.table(task), data=task) as folder:
            if folder is None:
                return  # it was finished, which has been said
            keys = named_keys(config.seed, "train", "test")
            ...                                                   # its own few steps
            evaluation = evaluate(detector, state, task, key=keys["test"])
            keep(folder, task, settings, state, evaluation)
            results = task_results(task, evaluation, seed=config.seed, notes=[])
            say_end(config, folder, finish(folder, results, page))
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from jaxad import data
from jaxad._utils import compile as backend
from jaxad._utils import files
from jaxad.data import Task
from jaxad.data.fingerprint import fingerprint
from jaxad.data.protocols.tiled import calibrated_on, held_out_normal_scores
from jaxad.runs import saving, yardstick
from jaxad.runs.cli import MAY_DIFFER, RunConfig, program_of
from jaxad.runs.evaluation import Evaluation, predictions
from jaxad.runs.folder import Run, create_run, environment, open_run
from jaxad.runs.progress import show_metrics
from jaxad.types import Key, State


@contextmanager
def session(
    config: RunConfig,
    name: str,
    *about: str,
    data: Any = None,
    may_differ: Collection[str] = MAY_DIFFER,
    grow: Callable[[Run, Any], None] = lambda run, config: None,
    shared: bool = False,
) -> Iterator[Run | None]:
    """The run folder that a config asks for, locked while it is open; None where the run is finished already.

    With `config.resume` it is that run, otherwise a new one: `config.output`, or runs/NAME-DATE-TIME. Compiled programs
    are kept from then on. What the session is about is said first, then where its folder is.

    Args:
      name: of the kind of run.
      about: lines to print, such as the table of the task.
      data: what `jaxad.data.fingerprint.fingerprint` takes: all that results depend on. A run is continued with data of
        the same content, wherever they are now, or not at all.
      may_differ: settings that a continued run may be given anew.
      grow: has a run, be it finished or not, go on beyond the end that it was begun with, where the config says so.

      shared: whether other sessions that share the run may write it at the same time, see `runs.claims`.

    Raises:
      ValueError: what `grow`, `runs.folder.open_run` and `create_run` refuse.
    """
    known = None if data is None else fingerprint(data)
    if config.resume is not None:
        opened = open_run(config.resume, config, name=name, data=known, may_differ=may_differ, shared=shared)
    else:
        opened = create_run(config.output, config, name=name, data=known)
    with opened as folder:
        if shared:
            folder.share()
        if folder.data is None and known is not None:
            config.say(f"{folder.path} was begun before runs knew their data: give it the data that it was begun with")
        grow(folder, config)
        if is_finished(folder):
            config.say(f"{folder.path} is finished: open {folder.path / 'report.html'}")
            yield None
            return
        config.say(*about, f"run folder: {folder.path}")
        backend.enable_compilation_cache(config.cache_dir)
        yield folder


def is_finished(folder: Run) -> bool:
    """Whether a run has its results; ValueError where they are there and damaged."""
    path = folder.path / "results.json"
    if not path.exists():
        return False
    try:
        files.read_json(path)
    except ValueError as error:
        raise ValueError(f"{error} Remove that file, and the run goes on from where it was saved") from error
    return True


def named_keys(seed: int, *names: str) -> dict[str, Key]:
    """A key for every purpose of a run, each to be consumed once."""
    return dict(zip(names, jax.random.split(jax.random.key(seed), len(names))))


def task_results(
    task: Task, evaluation: Evaluation, *, seed: int, notes: Sequence[str], plain: bool = False, **facts: Any
) -> dict[str, Any]:
    """What results.json says of a task and of a detector's test; `facts` are those of the experiment.

    With `plain` the yardstick is measured beside the "method" of the facts.
    """
    beside, said = yardstick.measure(task, facts["method"], evaluation, seed) if plain else ({}, [])
    facts |= {"yardstick": beside} if beside else {}
    pixels = {} if evaluation.pixels is None else {"segmentation": evaluation.pixels}
    return {
        "task": task_facts(task), **facts, "seed": seed, "threshold": evaluation.threshold._asdict(),
        "test": evaluation.test, **pixels, "notes": [*_made(task), *said, *notes, *_remarks(evaluation)],
    }  # fmt: skip


def _made(task: Task) -> list[str]:
    """The note on a test with anomalies that were made."""
    said = "Anomalies of validation and test were made of good images: figures on them are not figures on real ones."
    return [said] if task.details.get("made") else []


def _remarks(evaluation: Evaluation) -> list[str]:
    """Notes on figures that say less than they seem to."""
    scores = np.concatenate([evaluation.valid_scores, evaluation.test_scores])
    if scores.min() == scores.max():
        return ["All scores are equal: this detector cannot tell these images apart, and flags none."]
    intervals = [metric for metric in evaluation.test.values() if isinstance(metric, Mapping)]
    if not any(metric["low"] == metric["high"] for metric in intervals):
        return []
    return [
        "An interval without width says that all resamples agreed, as they do on perfect ranks: it is no certainty."
    ]


def task_facts(task: Task) -> dict[str, Any]:
    """What results.json says of a task: its details, name, image shape and the counts of its parts."""
    parts = [row._asdict() for row in data.describe(task)]
    return task.details | {"name": task.name, "image_shape": task.train.images.shape[1:], "parts": parts}


def keep(folder: Run, task: Task, config: Any, state: State, evaluation: Evaluation, **details: Any) -> None:
    """Save the detector of the config, with `details` for whoever loads it, and predictions.csv."""
    saving.save(
        folder.best, config, state,
        image_shape=task.train.images.shape[1:], threshold=evaluation.threshold,
        calibration=held_out_normal_scores(task, evaluation.valid_scores),
        details={"task": task.name} | saving.how_read(task.details) | calibrated_on(task) | details,
    )  # fmt: skip
    files.write_predictions(folder.path / "predictions.csv", predictions(task, evaluation))


def few_anomalies(task: Task) -> list[str]:
    """The note on a test with few anomalies, where it is one."""
    count = int(task.test.labels.sum())
    return [f"Only {count} test images are anomalous: mind the intervals."] if count < 30 else []


def finish(
    folder: Run, results: Mapping[str, Any], page: Callable[[dict[str, Any]], str] | None = None
) -> dict[str, Any]:
    """Write the report and, last, results.json with what the results were obtained with; returns these as plain data.

    Args:
      page: from the results as they are written to the report, as HTML.
    """
    plain = files.to_json({**results, **environment()})
    if page is not None:
        files.write_text(folder.path / "report.html", page(plain))
    files.write_json(folder.path / "results.json", plain)  # last: its presence says that the run is finished
    return plain


def made_by(config: RunConfig) -> dict[str, Any]:
    """What a report says of how it was made: "config", plain data, and "program", the start of the command line."""
    return {"config": files.to_json(config) | {"resume": None}, "program": program_of(type(config))}


def say_end(config: RunConfig, folder: Run, results: Mapping[str, Any] | None = None, *, scores: bool = True) -> None:
    """Print the metrics of the results, where the report is and, where there is a detector, what to do with it."""
    if config.quiet:
        return
    show_metrics(results or {})
    config.say(f"report:   {folder.path / 'report.html'}")
    if scores:
        config.say(f"use it:   jaxad detect {folder.path} IMAGES ...")
