"""Files of tables (TOML), read and checked; `jaxad.report.table_spec` says what is in one."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxad.report.table_spec import BUDGETS, Method, TableSpec, Task


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
    optional = {"paper": dict, "doubtful": dict, "not_run": dict, "script": str, "budgets": dict}
    _check(content, known, optional, str(path))
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
    pairs = [(method.name, task.name) for method in methods for task in tasks if method.takes(task)]
    for what, names in (("tasks", [task.name for task in tasks]), ("methods", pairs)):
        if not names or len(set(names)) < len(names):
            shown = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"{path}: {what} are {shown or 'none'}; give at least one, each with a name of its own")
    paper = _paper(content.get("paper", {}), columns, f"{path}: paper")
    seeds = {name: content["seeds"][name] for name in BUDGETS}
    doubtful = _doubtful(content.get("doubtful", {}), paper, f"{path}: doubtful")
    not_run, known = content.get("not_run", {}), {method for method, *_ in paper} - {method.name for method in methods}
    if wrong := [name for name, why in not_run.items() if name not in known or not isinstance(why, str)]:
        raise ValueError(f"{path}: not_run has {wrong}; give sentences on methods of paper that have no runs")
    form = content["title"], content["protocol"], tuple(columns), seeds
    return TableSpec(*form, methods, tasks, paper, doubtful, not_run)


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
    optional = {"flags": list, "script": str, "budgets": dict, "columns": dict, "tasks": list}
    _check(entry, {"name": str}, optional, where)
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
    tried_on = _strings(entry.get("tasks", []), f"{where}: tasks")
    return Method(entry["name"], script, own, flags, _paths(columns, f"{where}: columns"), tried_on)


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


def _doubtful(found: Mapping[str, Any], paper: Mapping[tuple[str, str, str], float], where: str) -> dict:
    """Why some published figures may be wrong: tables of methods, within these a sentence for a task."""
    doubtful, known = {}, {(method, task) for method, task, _ in paper}
    for method, by_task in found.items():
        for task, why in by_task.items() if isinstance(by_task, dict) else [("", by_task)]:
            if (method, task) not in known or not isinstance(why, str):
                raise ValueError(f"{where}.{method}.{task} is {why!r}; give a sentence on a figure that paper has")
            doubtful[method, task] = why
    return doubtful


def _task(entry: Any, where: str) -> Task:
    _check(entry, {"name": str, "flags": list}, {"scripts": dict, "budgets": dict}, where)
    where, lists = f"{where}: {entry['name']}", {}
    for what, known in (("scripts", None), ("budgets", BUDGETS)):
        given = entry.get(what, {})
        if not all(isinstance(flags, list) and (known is None or name in known) for name, flags in given.items()):
            raise ValueError(f"{where}: {what} are {given!r}; give lists of flags{f' for {known}' if known else ''}")
        lists[what] = {name: _strings(flags, f"{where}: {what}.{name}") for name, flags in given.items()}
    return Task(entry["name"], _strings(entry["flags"], f"{where}: flags"), **lists)
