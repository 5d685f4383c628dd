"""A grid of cells that are never repeated: what a killed comparison has finished stays finished.

    records = Records(folder.path / "cells.jsonl")
    fill({f"{method}-seed{seed}": (method, seed) for ...}, records, train_and_test, label="trainings")

A cell is one detector of a table, one search of a comparison, one run of an experiment: whatever has a name and ends in
a record of plain data. The record is kept as soon as it is there. Cells are worked on one after another (`fill`), in
fresh processes (`fill` with `jobs`), or several in one program (`fill_groups`). Progress says what is happening now.
"""

import contextlib
import functools
import itertools
import multiprocessing
import threading
import time
from collections import UserDict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import CancelledError, Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeVar

from jaxad._utils.files import append_line, read_lines, to_json
from jaxad.runs.claims import Claims
from jaxad.runs.progress import Progress

TRIES = 3  # of a cell whose worker is lost
WAITS = 1.0  # seconds until it is looked again what others have finished

Cell = TypeVar("Cell")
Group = TypeVar("Group")
Trained = TypeVar("Trained")
Record = Mapping[str, Any]
OnSteps = Callable[[int], None]
OnError = Callable[[str, ValueError], None]
Tell = Callable[[str], None]


class Records(UserDict[str, Record]):
    """The record of every finished cell by its name, as plain data, in the order in which they were finished.

    Each is a line {"cell": name, ...} of a file: to assign one is to append it, and to have it on disk before what
    follows, such as a checkpoint that takes the place of the cell's. A line that a crash has torn is as if it had not
    been written. Of a name that is assigned twice the last counts; to delete one is to have it worked on again.

    Args:
      sync: False for many cells that cost next to nothing: of these the last may be lost with the machine's power.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "cells.jsonl"
    >>> Records(path)["first"] = {"auroc": 0.5}
    >>> Records(path)
    {'first': {'auroc': 0.5}}
    """

    def __init__(self, path: str | Path, *, sync: bool = True) -> None:
        self._path, self._lock, self._sync = Path(path), threading.Lock(), sync
        self.data = self._read()

    def refresh(self) -> None:
        """Take what others have written since."""
        with self._lock:
            self.data |= self._read()

    def _read(self) -> dict[str, Record]:
        lines = (
            line for line in read_lines(self._path) if isinstance(line, dict) and isinstance(line.get("cell"), str)
        )
        return {line.pop("cell"): line for line in lines}

    def __setitem__(self, name: str, record: Record) -> None:
        """Append the record; ValueError where it has a field "cell", holds what is no JSON, or cannot be written."""
        if "cell" in record:
            raise ValueError(f"the record of {name} has a field 'cell', which names the cell itself: name it otherwise")
        plain = to_json(dict(record))
        with self._lock:
            append_line(self._path, {"cell": name} | plain, sync=self._sync)
            self.data[name] = plain


def fill(
    cells: Mapping[str, Cell],
    records: MutableMapping[str, Record],
    work: Callable[[Cell], Record] | Callable[[Cell, Tell], Record],
    *,
    tells: bool = False,
    jobs: int | None = None,
    pool: Executor | None = None,
    claims: Claims | None = None,
    label: str = "cells",
    quiet: bool = False,
    outcome: Callable[[Record], str] = lambda record: "",
    on_error: OnError | None = None,
) -> None:
    """Work on every cell that has no record yet, and keep its record.

    Args:
      cells: by name, in order.
      records: what is known, such as `Records`; records are assigned to it.
      work: ends in the record of a cell.
      tells: whether it takes, after the cell, a function that is told in a few words how far it has come, for the
        progress to show; not of cells in other processes.
      jobs: cells at a time; by default one after another in this process. Each cell then has a fresh process, which has
        compiled nothing and gives back what it holds; `work` must be a function of a module, or a partial of one.
      pool: in place of fresh processes an executor of the standard library, such as `runs.dask_pool.DaskPool`. A cell
        whose worker is lost is given to another, up to three times.
      claims: on the cells, where other clients work on the same ones. Those of others are waited for; `records` must
        then learn of what they finish by `Claims.refresh`.
      label: what the progress counts.
      quiet: show no progress.
      outcome: of a record, in a few words, which the progress shows.
      on_error: told the name of a cell whose work raised ValueError; the others go on. By default it is raised.

    Raises:
      Whatever a cell raised; what was finished by then is kept, what has not begun is left for another call.
    """
    if tells and jobs is not None:
        raise ValueError("cells of other processes tell nothing on their way: give tells or jobs")
    if jobs is not None:
        work = functools.partial(_in_process if pool is None else functools.partial(call_on, pool), work)
    telling = work if tells else lambda cell, tell: work(cell)
    known = sum(name in records for name in cells)
    with Progress(len(cells), label=label, start=known, quiet=quiet) as progress:
        board = _Board(cells, records, telling, claims, progress, outcome, on_error)
        while waiting := board.waiting():
            _each(board.work_on, waiting, jobs)
            if len(board.waiting()) == len(waiting):
                time.sleep(WAITS)  # others work on all that is left


def fill_groups(
    groups: Iterable[tuple[Sequence[str], Group]],
    records: MutableMapping[str, Record],
    train: Callable[[Group, OnSteps], Trained],
    finish: Callable[[Group, Trained, int], Record],
    *,
    names: Collection[str],
    steps: int = 1,
    label: str = "cells",
    quiet: bool = False,
    outcome: Callable[[Record], str] = lambda record: "",
    on_error: OnError | None = None,
) -> None:
    """Work on groups of cells that share a program, unless all cells of a group have their records.

    Args:
      groups: names of the cells and whatever `train` takes; made when their turn comes.
      records, label, quiet, outcome, on_error: as in `fill`.
      train: of a group; it may tell how many steps its cells have taken together.
      finish: of a group, what `train` has returned, and the number of a cell in the group: the record of that cell.
        Called for those cells alone that have none.
      names: of the cells in all groups.
      steps: of one cell, which the progress counts.
    """
    done = sum(name in records for name in names)
    with Progress(len(names) * steps, label=label, start=done * steps, quiet=quiet) as progress:
        for own, group in groups:
            waiting = [index for index, name in enumerate(own) if name not in records]
            if not waiting:
                continue
            about = own[0] if len(own) == 1 else f"{own[0]} and {len(own) - 1} more"
            share = len(waiting) / len(own)  # others of the group have been counted already

            def on_steps(taken: int, before: int = done * steps, share: float = share, about: str = about) -> None:
                progress.update(before + int(taken * share), note=about)

            on_steps(0)
            try:
                trained = train(group, on_steps)
                for index in waiting:
                    records[own[index]] = finish(group, trained, index)
                    said = outcome(records[own[index]])
            except ValueError as error:
                if on_error is None:
                    raise
                said = str(error)
                for index in waiting:
                    if own[index] not in records:
                        on_error(own[index], error)
            done += len(waiting)
            progress.update(done * steps, note=f"{about}{said and ': '}{said}")


def together(items: Iterable[Cell], key: Callable[[Cell], Hashable], most: int) -> Iterator[tuple[Cell, ...]]:
    """Items in order, as groups of at most `most` neighbours whose keys are equal; made when their turn comes.

    >>> list(together("aaabba", key=str, most=2))
    [('a', 'a'), ('a',), ('b', 'b'), ('a',)]
    """
    for _, equal in itertools.groupby(items, key):
        while group := tuple(itertools.islice(equal, most)):
            yield group


def call_on(pool: Executor, function: Callable[[Cell], Any], argument: Cell) -> Any:
    """What a function returns or raises on a worker; one whose worker is lost is called on another.

    Raises:
      ValueError: `TRIES` workers were lost, or there are none any more.
    """
    lost: BaseException | None = None
    for _ in range(TRIES):
        try:
            future = pool.submit(_answer, function, argument)
        except RuntimeError as error:
            raise ValueError(f"there are no workers any more ({error}): start others, and go on") from error
        try:
            done, value = future.result()
        except (Exception, CancelledError) as error:  # of the worker: the function's own are values
            lost = error
            continue
        if done:
            return value
        raise value
    raise ValueError(f"given to workers {TRIES} times, and lost: {type(lost).__name__}: {lost}")


def _answer(function: Callable[[Cell], Any], argument: Cell) -> tuple[bool, Any]:
    try:
        return True, function(argument)
    except Exception as error:
        return False, error


class _Board:
    """The cells of a call of `fill`: which wait, which are worked on, and what is said of it."""

    def __init__(
        self,
        cells: Mapping[str, Cell],
        records: MutableMapping[str, Record],
        work: Callable[[Cell, Tell], Record],
        claims: Claims | None,
        progress: Progress,
        outcome: Callable[[Record], str],
        on_error: OnError | None,
    ) -> None:
        self._cells, self._records, self._work, self._outcome, self._on_error = cells, records, work, outcome, on_error
        self._claim = (lambda name: contextlib.nullcontext(True)) if claims is None else claims.claim
        self._progress, self._lock = progress, threading.Lock()
        self._running: list[str] = []
        self._failed: set[str] = set()

    def waiting(self) -> list[str]:
        """Cells that have neither a record nor an error."""
        return [name for name in self._cells if name not in self._records and name not in self._failed]

    def work_on(self, name: str) -> None:
        """Work on a cell, unless another client does or has."""
        with self._claim(name) as mine:
            if not mine or name in self._records:
                return
            with self._lock:
                self._running.append(name)
                self._say(", ".join(self._running))
            try:
                self._records[name] = record = self._work(self._cells[name], lambda text: self._say(f"{name}: {text}"))
                said = self._outcome(record)
            except ValueError as error:
                if self._on_error is None:
                    raise
                said = str(error)
                self._failed.add(name)
                self._on_error(name, error)
            finally:
                with self._lock:
                    self._running.remove(name)
        with self._lock:
            self._say(f"{name}{said and ': '}{said}")

    def _say(self, note: str) -> None:
        self._progress.update(len(self._cells) - len(self.waiting()), note=note)


def _each(function: Callable[[str], None], names: Sequence[str], jobs: int | None) -> None:
    """Call a function with every name, so many at a time; the first error ends it."""
    if jobs is None:
        for name in names:
            function(name)
        return
    with ThreadPoolExecutor(jobs) as threads:
        futures = [threads.submit(function, name) for name in names]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise


def _in_process(work: Callable[[Cell], Record], cell: Cell) -> Record:
    # Spawned: a fork of a process with threads, as JAX has them, may hang.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, cell).result()
