"""What the pages of all runs have: the figures to see first, the task, and how the run was made."""

from collections.abc import Mapping
from typing import Any

from jaxad.report.format import METRICS, brackets, command, facts, interval, plain
from jaxad.report.html import Code, Details, Table, number

ROW = ("part", "images", "normal", "anomalous", "fraction")


def metric_tiles(test: Mapping) -> list[tuple[str, str, str]]:
    """The metrics of results["test"], each with its interval."""
    names = [name for name in METRICS if name in test]
    return [(number(interval(test[n])[0]), METRICS[n][0], brackets(test[n])) for n in names]


def made_parts(config: Mapping, results: Mapping, program: str = "jaxad search") -> list[Any]:
    """The command line, device and versions, and all settings."""
    made = {"device": results.get("device"), "seed": results.get("seed"), **(results.get("versions") or {})}
    parts: list[Any] = [facts(made)]
    if config:
        settings = Table(columns=["Setting", "Value"], rows=[[k, plain(v)] for k, v in config.items()])
        parts.insert(0, Code(text=results.get("command") or command(config, program)))
        parts.append(Details(summary="All settings", parts=[settings]))
    return parts


def task_parts(task: Mapping[str, Any]) -> list[Any]:
    """The table of parts and everything else the task says about itself."""
    parts = task.get("parts") or []
    if isinstance(parts, Mapping):
        parts = [{"part": k, **(v if isinstance(v, Mapping) else {"images": v})} for k, v in parts.items()]
    # Rows without names, as JSON leaves those of a NamedTuple, are those of `data.tasks.describe`.
    parts = [row if isinstance(row, Mapping) else dict(zip(ROW, row)) for row in parts]
    rest = {k: v for k, v in task.items() if k != "parts"}
    if "image_shape" in rest:
        rest["image_shape"] = " × ".join(str(n) for n in rest["image_shape"])
    out: list[Any] = [facts(rest)]
    if parts:
        columns = list(dict.fromkeys(key for row in parts for key in row))
        rows = [[plain(v) if isinstance(v := row.get(c), (list, dict)) else v for c in columns] for row in parts]
        out.append(Table(columns=[c.replace("_", " ") for c in columns], rows=rows))
    return out
