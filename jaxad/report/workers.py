"""Who trained the children of a search, where others than its own process did."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxad.report import plots
from jaxad.report.html import Figure, Table


def worker_parts(workers: Sequence[Mapping[str, Any]]) -> list[Any]:
    """A table of the workers and their timeline; nothing for a search that trained all children itself.

    Args:
      workers: {worker, children, busy_seconds, children_per_minute, sent_megabytes, received_megabytes, spans} of each;
        spans are when each of its children began and ended, in seconds of the search.
    """
    if not workers:
        return []
    columns = ["Worker", "Children", "Seconds", "Children a minute", "MB sent to it", "MB received"]
    keys = ["children", "busy_seconds", "children_per_minute", "sent_megabytes", "received_megabytes"]
    rows = [[row["worker"], *(row.get(key) for key in keys)] for row in workers]
    said = "Children that trained once more are counted; seconds are those of training, scoring and compiling."
    drawing = plots.worker_timeline([row["worker"] for row in workers], [row.get("spans", ()) for row in workers])
    caption = "A bar for every child, in the row of the worker that trained it; gaps are waiting."
    told = ", ".join(f"{row['worker']} {row['children']}" for row in workers[:8])
    figure = Figure(drawing=drawing, alt=f"{caption} Children: {told}.", caption=caption, wide=True)
    return [Table(columns=columns, rows=rows, caption=said), figure]
