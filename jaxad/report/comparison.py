"""The page of a comparison of search strategies, and its table for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxad import files, pages, plots

HEADS = (
    "compared by", "first", "second", "median difference", "95 % interval", "P(improvement)", "p (Holm)", "verdict",
)  # fmt: skip


class Curves(NamedTuple):
    """Best-so-far curves of several methods over one axis."""

    values: Mapping[str, np.ndarray]  # name -> [seeds, n]
    x: np.ndarray  # [n]
    xlabel: str
    caption: str


def comparison_rows(found: Mapping[str, Mapping[tuple[str, str], Any]]) -> list[tuple[str, ...]]:
    """A line under `HEADS` for every comparison: {what they are compared by: {(first, second): Paired}}."""
    return [(what, *pair, *_cells(paired)) for what, by_pair in found.items() for pair, paired in by_pair.items()]


def render_comparison(
    summary: str,
    rows: Sequence[tuple[str, ...]],
    curves: Sequence[Curves],
    facts: Mapping[str, Any],
    config: Any,
) -> str:
    """The page: self-contained HTML."""
    figures = [
        pages.Figure(
            drawing=plots.curves_with_bands(c.values, c.x, xlabel=c.xlabel), alt=c.caption, caption=c.caption, wide=True
        )
        for c in curves
    ]
    sections = [
        pages.Section(title="Comparisons", parts=[pages.Table(columns=HEADS, rows=rows), *figures]),
        pages.Section(title="What was compared", parts=[pages.Facts(items={k: str(v) for k, v in facts.items()})]),
        pages.Section(title="Settings", parts=[pages.Code(text=str(files.to_json(config)))]),
    ]
    return pages.page("Search strategies compared", summary, sections)


def _cells(paired: Any) -> tuple[str, ...]:
    interval = f"[{paired.low:+.4f}, {paired.high:+.4f}]"
    return f"{paired.difference:+.4f}", interval, f"{paired.improvement:.2f}", f"{paired.adjusted:.2g}", paired.verdict
