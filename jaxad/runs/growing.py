"""More children for a search that has ended, or that was killed: as if they had been asked for from the beginning."""

from contextlib import suppress
from typing import Any

from jaxad._utils.files import read_json, write_json
from jaxad._utils.validate import spelled
from jaxad.runs.folder import Run
from jaxad.training.checkpoint import DamagedCheckpoint, read_metadata


def grow(run: Run, config: Any) -> None:
    """Have a run go on to `config.children`, where these are more than it was begun with.

    The last population of a search is cut where children end, and teaches nothing. So the search goes back to where its
    last population began. Results that are there keep their name with the number of children in it,
    results-30.json. Every state in between is one from which the run goes on, to the old or to the new end.

    Raises:
      ValueError: fewer children than the run was begun with.
    """
    before, now = run.config["children"], config.children
    if now < before:
        raise ValueError(f"{spelled(config, 'children')} is {now}, and {run.path} has {before}: they can only grow")
    if now == before:
        return
    with suppress(FileNotFoundError):
        (run.path / "results.json").rename(run.path / f"results-{before}.json")
    steps = run.checkpoints.steps()
    if steps and (steps[-1] >= before or _has_stopped(run, steps[-1])):
        run.checkpoints.path(steps[-1]).unlink()
    stored = read_json(run.path / "config.json")
    stored["config"]["children"] = run.config["children"] = now
    write_json(run.path / "config.json", stored)


def _has_stopped(run: Run, step: int) -> bool:
    """Whether a search ended here before its last child, by its time budget."""
    try:
        return read_metadata(run.checkpoints.path(step)).get("stopped") is not None
    except DamagedCheckpoint:
        return True
