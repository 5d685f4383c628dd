"""Tables of methods x tasks x seeds from a declarative file, filled by experiments, beside published figures.

A file (TOML) says what a table is made of:

    title = "AMA, Table 1"
    protocol = "How ours differs from the paper's."
    seeds = { smoke = 1, laptop = 3, paper = 3 }
    script = "ama_ood.py"           # in the folder of the experiments, or beside the file

    [budgets]                       # flags of every run
    smoke = ["--preset", "smoke"]
    laptop = ["--ama.steps", "300"]
    paper = ["--preset", "paper"]

    [columns]                       # name of a metric -> where results.json has it
    AUROC = "test.auroc"

    [[methods]]                     # with script, budgets and columns of its own where it differs
    name = "AMA"
    flags = ["--compare"]

    tasks = ["Fashion-MNIST"]       # if it is not for all: how the names of its tasks begin

    [[tasks]]
    name = "Fashion-MNIST / MNIST"
    flags = ["--dataset", "fashion_mnist", "--ood", "mnist"]
    scripts."train_detector.py" = ["--dataset", "fashion_mnist"]    # in place of these, for the methods of a script
    budgets.paper = ["--limit", "10000"]                            # of this task alone

    [paper."AMA"]                   # published figures, by method, task and column; also of methods that have no runs
    "Fashion-MNIST / MNIST" = { AUROC = 0.987 }

    [not_run]                       # why a method that is implemented has no runs; others are "not implemented"
    "Deep SAD" = "It takes one class a run."

    [doubtful."AMA"]                # why a figure may not be what was printed
    "Fashion-MNIST / MNIST" = "Two columns of the print run into each other."

A cell is a method, a task and a seed: one run of an experiment. Its command line has the flags of the task, the method,
the method's budget and the task's budget. A flag that comes again takes the place of the earlier one; of lists of
NAME=VALUE, such as those of --settings, both count. Methods whose command lines are equal share the run, and a name may
stand for several methods with tasks of their own.

`jaxad.report.table_files` reads these files.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

BUDGETS = ("smoke", "laptop", "paper")
NOT_IMPLEMENTED = "not implemented"
NOT_RUN = "published, not run here"


class Method(NamedTuple):
    """How a row of the table comes about."""

    name: str
    script: str
    flags: tuple[str, ...]
    budgets: Mapping[str, tuple[str, ...]]  # flags by budget
    columns: Mapping[str, str]  # path in results.json by column
    tasks: tuple[str, ...] = ()  # how the names of its tasks begin; (): all

    def takes(self, task: "Task") -> bool:
        """Whether the table tries it on a task."""
        return not self.tasks or task.name.startswith(self.tasks)


class Task(NamedTuple):
    """What a method is tried on."""

    name: str
    flags: tuple[str, ...]
    scripts: Mapping[str, tuple[str, ...]] = {}  # flags by script, where they are others
    budgets: Mapping[str, tuple[str, ...]] = {}  # further flags by budget


class TableSpec(NamedTuple):
    """A table as its file describes it."""

    title: str
    protocol: str
    columns: tuple[str, ...]
    seeds: Mapping[str, int]
    methods: tuple[Method, ...]
    tasks: tuple[Task, ...]
    paper: Mapping[tuple[str, str, str], float]  # by method, task and column; also of methods and tasks we do not have
    doubtful: Mapping[tuple[str, str], str] = {}  # by method and task: why published figures may be wrong
    not_run: Mapping[str, str] = {}  # by method that has no runs though it could: why


class Cell(NamedTuple):
    """One run of an experiment."""

    script: str
    flags: tuple[str, ...]
    seed: int


class Row(NamedTuple):
    """A line of the finished table."""

    task: str
    method: str
    column: str
    values: tuple[float, ...]  # ours, one for every seed that is there
    paper: float | None
    missing: str  # why there are fewer than wanted; empty where there are not
    doubt: str = ""  # why the published figure may be wrong

    @property
    def mean(self) -> float | None:
        """Of ours; None without any."""
        return float(np.mean(self.values)) if self.values else None

    @property
    def sd(self) -> float | None:
        """Sample standard deviation of ours; None for fewer than two."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None


def selected(spec: TableSpec, *, methods: Sequence[str] = (), tasks: Sequence[str] = ()) -> TableSpec:
    """The table with the named methods and tasks alone; none named are all. ValueError where it has none of them."""
    parts: dict[str, Any] = {}
    for what, wanted in (("methods", methods), ("tasks", tasks)):
        have = getattr(spec, what)
        parts[what] = tuple(entry for entry in have if not wanted or entry.name in wanted)
        if not parts[what]:
            names = ", ".join(entry.name for entry in have)
            raise ValueError(f"--{what} {' '.join(wanted)}: {spec.title} has none of them; it has {names}")
    kept = {task.name for task in parts["tasks"]}
    paper = {place: value for place, value in spec.paper.items() if not tasks or place[1] in kept}
    chosen = spec._replace(**parts, paper=paper)
    if not pairs_of(chosen):
        raise ValueError(f"--methods {' '.join(methods)} are not tried on --tasks {' '.join(tasks)} in {spec.title}")
    return chosen


# ---- filling -----------------------------------------------------------------------------------------------------


def pairs_of(spec: TableSpec) -> list[tuple[Method, Task]]:
    """The methods and tasks that a table has rows of, task by task."""
    return [(method, task) for task in spec.tasks for method in spec.methods if method.takes(task)]


def cell_of(method: Method, task: Task, budget: str, seed: int) -> Cell:
    """The run that gives a method's figures on a task."""
    own = task.scripts.get(method.script, task.flags)
    return Cell(method.script, joined(own, method.flags, method.budgets[budget], task.budgets.get(budget, ())), seed)


def joined(*parts: Sequence[str]) -> tuple[str, ...]:
    """Parts of a command line as one: flags of later parts take the place of earlier ones.

    Lists of NAME=VALUE become one, in which later values of a name count. What comes before the first flag of a part
    stays.
    """
    line: dict[str, list[str]] = {}
    for part in parts:
        for flag, given in _by_flag(part).items():
            before = line.get(flag, [])
            if not flag:
                line[flag] = before + given
            elif before[1:] and given[1:] and all(_NAMED.match(value) for value in (*before[1:], *given[1:])):
                line[flag] = [flag, *({value.partition("=")[0]: value for value in (*before[1:], *given[1:])}.values())]
            else:
                line[flag] = given
    return tuple(word for words in line.values() for word in words)


_NAMED = re.compile(r"[A-Za-z_][\w.]*=")  # how a value NAME=VALUE begins


def _by_flag(words: Sequence[str]) -> dict[str, list[str]]:
    """The words of a part of a command line by the flag that they belong to, which is the first of them."""
    found: dict[str, list[str]] = {}
    flag = ""
    for word in words:
        if word.startswith("--"):
            flag = word.partition("=")[0]
        found.setdefault(flag, []).append(word)
    return found


def cells_of(spec: TableSpec, budget: str, seeds: int | None = None) -> list[Cell]:
    """All runs that a table needs, each once, those of the first seed first."""
    seeds = spec.seeds[budget] if seeds is None else seeds
    pairs = pairs_of(spec)
    return list(dict.fromkeys(cell_of(*pair, budget, seed) for seed in range(seeds) for pair in pairs))


def value_at(results: Mapping[str, Any], path: str) -> float:
    """The number at a path such as "test.auroc" or "groups.0.mean": of a {"value": ...} its value, of a list the mean.

    Raises:
      ValueError: nothing there, or no number.
    """
    found: Any = results
    for name in path.split("."):
        if isinstance(found, list) and name.isdigit() and int(name) < len(found):
            found = found[int(name)]
        elif isinstance(found, Mapping) and name in found:
            found = found[name]
        else:
            raise ValueError(f"results have no {path}: {name!r} is missing")
    if isinstance(found, Mapping):
        found = found.get("value")
    if isinstance(found, list):
        found = float(np.mean(found)) if found else math.nan
    if not isinstance(found, int | float) or not math.isfinite(found):
        raise ValueError(f"{path} of the results is {found!r}, not a number")
    return float(found)


def rows_of(
    spec: TableSpec, budget: str, seeds: int, results: Mapping[Cell, Mapping[str, Any]], reasons: Mapping[Cell, str]
) -> list[Row]:
    """The lines of a table, task by task.

    Args:
      results: what the runs that are finished have found.
      reasons: why others have not.
    """
    rows = []
    for method, task in pairs_of(spec):
        cells = [cell_of(method, task, budget, seed) for seed in range(seeds)]
        for column in spec.columns:
            values, missing = [], []
            for cell in cells:
                try:
                    if cell in results:
                        values.append(value_at(results[cell], method.columns[column]))
                    else:
                        missing.append(reasons.get(cell, "not run yet"))
                except ValueError as error:
                    missing.append(str(error))
            paper = spec.paper.get((method.name, task.name, column))
            doubt = spec.doubtful.get((method.name, task.name), "")
            rows.append(Row(task.name, method.name, column, tuple(values), paper, "; ".join(unique(missing)), doubt))
    return rows


def others_of(spec: TableSpec) -> list[Row]:
    """Published figures of methods and tasks that the table has no runs for; `missing` says which of them it is."""
    return list(_others_of(spec))


def _others_of(spec: TableSpec) -> Iterator[Row]:
    reasons = {name: f"{NOT_RUN}: {why}" for name, why in spec.not_run.items()}
    reasons |= {method.name: NOT_RUN for method in spec.methods}
    have = {(method.name, task.name) for method, task in pairs_of(spec)}
    for (method, task, column), value in spec.paper.items():
        if (method, task) not in have:
            why = reasons.get(method, NOT_IMPLEMENTED)
            yield Row(task, method, column, (), value, why, spec.doubtful.get((method, task), ""))


def unique(items: Iterable[str]) -> list[str]:
    """Without repetitions, in order."""
    return list(dict.fromkeys(items))
