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

    [[tasks]]
    name = "Fashion-MNIST / MNIST"
    flags = ["--dataset", "fashion_mnist", "--ood", "mnist"]

    [paper."AMA"]                   # published figures, by method, task and column
    "Fashion-MNIST / MNIST" = { AUROC = 0.987 }

A cell is a method, a task and a seed: one run of an experiment. Methods whose command lines are equal share the run.
"""

import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

BUDGETS = ("smoke", "laptop", "paper")


class Method(NamedTuple):
    """How a row of the table comes about."""

    name: str
    script: str
    flags: tuple[str, ...]
    budgets: Mapping[str, tuple[str, ...]]  # flags by budget
    columns: Mapping[str, str]  # path in results.json by column


class Task(NamedTuple):
    """What a method is tried on."""

    name: str
    flags: tuple[str, ...]


class TableSpec(NamedTuple):
    """A table as its file describes it."""

    title: str
    protocol: str
    columns: tuple[str, ...]
    seeds: Mapping[str, int]
    methods: tuple[Method, ...]
    tasks: tuple[Task, ...]
    paper: Mapping[tuple[str, str, str], float]  # by method, task and column; also of methods and tasks we do not have


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

    @property
    def mean(self) -> float | None:
        """Of ours; None without any."""
        return float(np.mean(self.values)) if self.values else None

    @property
    def sd(self) -> float | None:
        """Sample standard deviation of ours; None for fewer than two."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None


# ---- reading -----------------------------------------------------------------------------------------------------


def read_table(path: str | Path) -> TableSpec:
    """The table that a file describes.

    Raises:
      ValueError: no such file, not TOML, a key that is missing, unknown or of the wrong type, names that occur twice.
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); give the file of a table") from error
    except ValueError as error:  # of its characters or of its grammar
        raise ValueError(f"{path} is not TOML: {error}") from error
    known = {"title": str, "protocol": str, "seeds": dict, "columns": dict, "methods": list, "tasks": list}
    _check(content, known, {"paper": dict, "script": str, "budgets": dict}, str(path))
    columns = _paths(content["columns"], f"{path}: columns")
    if unknown := set(content["seeds"]) - set(BUDGETS):
        raise ValueError(f"{path}: seeds has {sorted(unknown)}; give numbers for {', '.join(BUDGETS)}")
    for name in BUDGETS:
        seeds = content["seeds"].get(name)
        if not isinstance(seeds, int) or isinstance(seeds, bool) or seeds < 1:
            raise ValueError(f"{path}: seeds.{name} is {seeds!r}; give a number from 1 upwards")
    shared = {name: content[name] for name in ("script", "budgets", "columns") if name in content}
    methods = tuple(_method(entry, shared, f"{path}: methods") for entry in content["methods"])
    tasks = tuple(_task(entry, f"{path}: tasks") for entry in content["tasks"])
    for what, entries in (("methods", methods), ("tasks", tasks)):
        names = [entry.name for entry in entries]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"{path}: {what} are {names}; give at least one, each with a name of its own")
    paper = _paper(content.get("paper", {}), columns, f"{path}: paper")
    seeds = {name: content["seeds"][name] for name in BUDGETS}
    return TableSpec(content["title"], content["protocol"], tuple(columns), seeds, methods, tasks, paper)


def _check(entry: Any, needed: Mapping[str, type], optional: Mapping[str, type], where: str) -> None:
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: {entry!r} is no table of keys and values")
    for name in entry:
        if name not in needed and name not in optional:
            raise ValueError(f"{where}: unknown key {name!r}; known are {', '.join((*needed, *optional))}")
    for name in needed:
        if name not in entry:
            raise ValueError(f"{where}: key {name!r} is missing")
    for name, kind in (*needed.items(), *optional.items()):
        if name in entry and not isinstance(entry[name], kind):
            raise ValueError(f"{where}: {name} is {entry[name]!r}; give a {kind.__name__}")


def _strings(values: Sequence[Any], where: str) -> tuple[str, ...]:
    if not all(isinstance(value, str) for value in values):
        raise ValueError(f"{where} is {values!r}; give strings")
    return tuple(values)


def _paths(columns: Mapping[str, Any], where: str) -> dict[str, str]:
    if not columns or not all(isinstance(path, str) for path in columns.values()):
        raise ValueError(f"{where} are {columns!r}; give each the place of its value, such as test.auroc")
    return dict(columns)


def _method(entry: Any, shared: Mapping[str, Any], where: str) -> Method:
    _check(entry, {"name": str}, {"flags": list, "script": str, "budgets": dict, "columns": dict}, where)
    where = f"{where}: {entry['name']}"
    budgets, script = ({**shared, **entry}.get(name) for name in ("budgets", "script"))
    if script is None:
        raise ValueError(f"{where}: key 'script' is missing, here and in the table")
    if set(budgets or ()) != set(BUDGETS) or not all(isinstance(flags, list) for flags in budgets.values()):
        raise ValueError(f"{where}: budgets are {budgets!r}; give lists for {', '.join(BUDGETS)}")
    columns = {**shared["columns"], **entry.get("columns", {})}
    if unknown := set(columns) - set(shared["columns"]):
        raise ValueError(f"{where}: columns {sorted(unknown)} are not among those of the table")
    flags = {name: _strings(values, f"{where}: budgets.{name}") for name, values in budgets.items()}
    own = _strings(entry.get("flags", []), f"{where}: flags")
    return Method(entry["name"], script, own, flags, _paths(columns, f"{where}: columns"))


def _paper(found: Mapping[str, Any], columns: Mapping[str, str], where: str) -> dict[tuple[str, str, str], float]:
    """Published figures: tables of methods, within these of tasks, within these a number for a column."""
    paper = {}
    for method, by_task in found.items():
        if not isinstance(by_task, dict):
            raise ValueError(f"{where}.{method} is {by_task!r}; give a table of tasks")
        for task, by_column in by_task.items():
            if not isinstance(by_column, dict):
                raise ValueError(f"{where}.{method}.{task} is {by_column!r}; give a table of columns and numbers")
            for column, value in by_column.items():
                if column not in columns or not isinstance(value, int | float) or isinstance(value, bool):
                    raise ValueError(f"{where}.{method}.{task}.{column} is {value!r}; give a number of a column")
                paper[method, task, column] = float(value)
    return paper


def _task(entry: Any, where: str) -> Task:
    _check(entry, {"name": str, "flags": list}, {}, where)
    return Task(entry["name"], _strings(entry["flags"], f"{where}: flags"))


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
    return spec._replace(**parts, paper=paper)


# ---- filling -----------------------------------------------------------------------------------------------------


def cell_of(method: Method, task: Task, budget: str, seed: int) -> Cell:
    """The run that gives a method's figures on a task."""
    return Cell(method.script, (*task.flags, *method.flags, *method.budgets[budget]), seed)


def cells_of(spec: TableSpec, budget: str, seeds: int | None = None) -> list[Cell]:
    """All runs that a table needs, each once, those of the first seed first."""
    seeds = spec.seeds[budget] if seeds is None else seeds
    pairs = [(method, task) for task in spec.tasks for method in spec.methods]
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
    for task in spec.tasks:
        for method in spec.methods:
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
                rows.append(Row(task.name, method.name, column, tuple(values), paper, "; ".join(unique(missing))))
    return rows


def others_of(spec: TableSpec) -> list[Row]:
    """Published figures of methods and tasks that the table has no runs for."""
    have = {(method.name, task.name) for method in spec.methods for task in spec.tasks}
    return [
        Row(task, method, column, (), value, "")
        for (method, task, column), value in spec.paper.items()
        if (method, task) not in have
    ]


def unique(items: Iterable[str]) -> list[str]:
    """Without repetitions, in order."""
    return list(dict.fromkeys(items))
