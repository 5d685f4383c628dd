"""The page of a comparison of search strategies, and its table for the terminal."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxad.report import format as words
from jaxad.report import html as pages
from jaxad.report import plots

HEADS = (
    "compared by", "first", "second", "median difference", "95 % interval", "P(improvement)", "p (Holm)", "verdict",
)  # fmt: skip


class Curves(NamedTuple):
    """A curve of several methods over one axis."""

    values: Mapping[str, np.ndarray]  # name -> [seeds, n]
    x: np.ndarray  # [n]
    xlabel: str
    ylabel: str
    caption: str


def comparison_rows(found: Mapping[str, Mapping[tuple[str, str], Any]]) -> list[tuple[str, ...]]:
    """A line under `HEADS` for every comparison: {what they are compared by: {(first, second): Paired}}."""
    return [(what, *pair, *_cells(paired)) for what, by_pair in found.items() for pair, paired in by_pair.items()]


def render_comparison(
    summary: str,
    rows: Sequence[tuple[str, ...]],
    curves: Sequence[Curves],
    facts: Mapping[str, Any],
    *,
    progress: Sequence[Curves] = (),
    config: Mapping[str, Any],
    program: str,
) -> str:
    """The page: self-contained HTML.

    Args:
      summary: what to remember, in a sentence.
      rows: from `comparison_rows`.
      facts: names and values, or names and dicts of values, of what was compared.
      progress: what Fig. 3 of AutoAD shows, a panel each with its caption as title; none where there is no such pair.
      config: settings as plain data.
      program: the start of the command line.
    """
    table: list[Any] = []
    for what, group in itertools.groupby(rows, key=lambda row: row[0]):
        table += [what, *(row[1:] for row in group)]
    figures = [
        pages.Figure(
            drawing=plots.compared_curves(c.values, c.x, xlabel=c.xlabel, ylabel=c.ylabel), alt=c.caption,
            caption=c.caption, wide=True,
        )
        for c in curves
    ]  # fmt: skip
    if progress:
        caption = f"{' against '.join(progress[0].values)}, as in Fig. 3 of AutoAD: medians and quartiles over seeds."
        drawn = plots.compared_panels([(c.caption, c.values, c.x) for c in progress], xlabel=progress[0].xlabel)
        figures.insert(0, pages.Figure(drawing=drawn, alt=caption, caption=caption, wide=True))
    single = {name: value for name, value in facts.items() if not isinstance(value, Mapping)}
    groups = {name: value for name, value in facts.items() if isinstance(value, Mapping)}
    about = [words.facts(single)]
    for name, values in groups.items():
        about += [pages.Text(text=f"{name}:"), words.facts(values)]
    settings = pages.Table(columns=["Setting", "Value"], rows=[[k, words.plain(v)] for k, v in config.items()])
    sections = [
        pages.Section(title="Comparisons", parts=[pages.Table(columns=HEADS[1:], rows=table), *figures]),
        pages.Section(title="What was compared", parts=about),
        pages.Section(
            title="Settings",
            parts=[pages.Code(text=words.command(config, program)), settings],
        ),
    ]
    return pages.page("Search strategies compared", summary, sections)


def _cells(paired: Any) -> tuple[str, ...]:
    interval = f"[{paired.low:+.4f}, {paired.high:+.4f}]"
    return f"{paired.difference:+.4f}", interval, f"{paired.improvement:.2f}", f"{paired.adjusted:.2g}", paired.verdict
