"""Finished tables as Markdown and as a page."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from jaxad.report.html import Section, Table, Text, number, page
from jaxad.report.table_spec import Row, TableSpec

HEADS = ("Task", "Method", "Metric", "Paper", "Ours, mean", "SD", "Seeds", "Remark")


def table_cells(rows: Sequence[Row], others: Sequence[Row] = ()) -> list[tuple[str, ...]]:
    """A line under `HEADS` for every row, task by task; `others` are published figures alone."""
    lines = []
    for row in (*rows, *others):
        figures = (number(value) for value in (row.paper, row.mean, row.sd))
        lines.append((row.task, row.method, row.column, *figures, str(len(row.values)), _remark(row)))
    order = list(dict.fromkeys(line[0] for line in lines))
    return sorted(lines, key=lambda line: order.index(line[0]))


def tables_markdown(tables: Mapping[str, tuple[TableSpec, Sequence[tuple[str, ...]]]], facts: Sequence[str]) -> str:
    """All tables as one Markdown text; keys are only for order, values are (table, lines of `table_cells`)."""
    parts = ["# Tables", *facts]
    for spec, lines in tables.values():
        head = ["| " + " | ".join(HEADS) + " |", "|" + "---|" * len(HEADS)]
        body = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
        parts += [f"## {spec.title}", f"Protocol: {spec.protocol}", "\n".join(head + body)]
    return "\n\n".join(parts) + "\n"


def render_tables(
    tables: Mapping[str, tuple[TableSpec, Sequence[tuple[str, ...]]]], verdict: str, facts: Mapping[str, Any]
) -> str:
    """All tables as a page: self-contained HTML."""
    sections = []
    for spec, lines in tables.values():
        grouped: list[Any] = []
        for task, group in itertools.groupby(lines, key=lambda line: line[0]):
            grouped += [task, *(line[1:] for line in group)]
        sections.append(
            Section(title=spec.title, parts=[Text(text=spec.protocol), Table(columns=HEADS[1:], rows=grouped)])
        )
    about = Table(columns=["", ""], rows=[[name, value] for name, value in facts.items()])
    return page("The papers' tables", verdict, [*sections, Section(title="How this was made", parts=[about])])


def _remark(row: Row) -> str:
    return "; ".join(filter(None, (row.missing, row.doubt and f"published figure doubtful: {row.doubt}")))
