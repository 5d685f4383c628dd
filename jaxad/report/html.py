"""Self-contained HTML pages from generic pieces: open offline, on a phone, in light and dark.

A page is a title, a verdict and sections; a section is a list of parts (`Text`, `Table`, `Figure` ...).
`page` renders them, whatever the method they tell of. Parts that are None and sections without parts are left
out. Every string is escaped.
"""

from __future__ import annotations

import functools
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from jaxad.report.plots import style

if TYPE_CHECKING:
    import matplotlib.figure


@dataclass(frozen=True, kw_only=True)
class Text:
    """A paragraph; `tone` is "" or "quiet"."""

    kind: ClassVar[str] = "text"
    text: str
    tone: str = ""


@dataclass(frozen=True, kw_only=True)
class Bullets:
    """A list of remarks."""

    kind: ClassVar[str] = "bullets"
    items: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Code:
    """Text to copy, in a fixed-width font."""

    kind: ClassVar[str] = "code"
    text: str


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """The few numbers to see first: (value, what it is, a remark)."""

    kind: ClassVar[str] = "tiles"
    items: Sequence[tuple[str, str, str]]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Names and values."""

    kind: ClassVar[str] = "facts"
    items: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of cells; a row that is one string is a heading across. Numbers and None may be cells."""

    kind: ClassVar[str] = "table"
    columns: Sequence[str]
    rows: Sequence[Sequence[Any] | str]
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A matplotlib figure, drawn into the page as SVG; `alt` is what a reader who cannot see it is told."""

    kind: ClassVar[str] = "figure"
    drawing: matplotlib.figure.Figure
    alt: str
    caption: str = ""
    wide: bool = False  # takes the whole width, and scrolls sideways on a small screen


@dataclass(frozen=True, kw_only=True)
class Details:
    """Parts that are hidden until the summary is clicked."""

    kind: ClassVar[str] = "details"
    summary: str
    parts: Sequence[Any]


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading and its parts."""

    title: str
    parts: Sequence[Any] = field(default_factory=tuple)
    intro: str = ""


UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def number(value: Any) -> str:
    """A value as a person reads it: three digits, k, M, G, T for large ones, an en dash for nothing."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        return str(value)
    size = abs(value)
    if size >= 1e5:
        limit, unit = next((limit, unit) for limit, unit in UNITS if size >= limit)
        return f"{value / limit:.3g} {unit}"
    if isinstance(value, (int, np.integer)) or size >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if 0 < size < 0.01 else f"{value:.{3 if size <= 1 else 2 if size < 10 else 1}f}"


def duration(seconds: float | None) -> str:
    """Seconds as "42 s", "4 min 10 s" or "2 h 05 min"."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if round(seconds) < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _cell(value: Any) -> dict[str, Any]:
    """Text of a table cell, whether it is a number (aligned right) and what to sort it by."""
    numeric = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    return {"text": number(value), "numeric": numeric, "sort": float(value) if numeric else ""}


def svg(figure: matplotlib.figure.Figure, name: str) -> tuple[str, float, float]:
    """The inside of an `<svg>` element, and its width and height. `name` makes its ids unique on the page.

    Ink, grid, paper and the palette become CSS variables, so that the picture follows the page into the dark.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    file = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({**style.RC, "svg.fonttype": "none", "svg.hashsalt": name}):
        # As `savefig` does it, which would draw everything twice: the first time only to find out where it is.
        for patch in (figure.patch, *(axes.patch for axes in figure.axes)):
            patch.set_facecolor("none")
        figure.set_dpi(144)
        FigureCanvasSVG(figure).print_svg(file, metadata=nothing)
    text = file.getvalue()
    width, height = (float(v) for v in re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text).groups())
    inner = text[text.index(">", text.index("<svg")) + 1 : text.rindex("</svg>")]
    inner = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", inner, flags=re.DOTALL)
    inner = re.sub(r'\bid="', f'id="{name}-', inner)
    inner = re.sub(r'xlink:href="#|(?<=url\()#', lambda m: m[0].replace("xlink:", "") + f"{name}-", inner)
    inner = inner.replace("xlink:href=", "href=")
    # In paths, one decimal is a seventh of a screen pixel: enough, and a third smaller.
    inner = re.sub(r'(?<= d=")[^"]*', lambda m: re.sub(r"(\.\d)\d+", r"\1", m[0]), inner)
    colours = {"ink": style.INK, "muted": style.MUTED, "grid": style.GRID, "paper": "#ffffff"}
    colours |= {"blue": style.BLUE, "orange": style.ORANGE, "green": style.GREEN}
    for variable, colour in colours.items():
        inner = re.sub(rf"((?:fill|stroke): ?){colour}", rf"\1var(--{variable})", inner)
    return inner, width, height


@functools.cache
def _template():
    import jinja2

    source = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"cell": _cell, "number": number}
    return environment.from_string(source)


def _drawn(part: Any, names) -> dict[str, Any]:
    """A part as the template sees it, pictures drawn."""
    from markupsafe import Markup

    view = {"kind": part.kind, "part": part}
    if isinstance(part, Figure):
        inner, width, height = svg(part.drawing, next(names))
        view |= {"svg": Markup(inner), "width": width, "height": height}
    if isinstance(part, Details):
        view["views"] = [_drawn(p, names) for p in part.parts if p is not None]
    return view


def page(title: str, verdict: str, sections: Sequence[Section], *, subtitle: str = "") -> str:
    """A whole HTML page as text; `verdict` is one sentence, `subtitle` stands above the title."""
    names = (f"f{i}" for i in range(10**6))
    shown = []
    for section in sections:
        views = [_drawn(part, names) for part in section.parts if part is not None]
        if views:
            shown.append({"title": section.title, "intro": section.intro, "views": views})
    return _template().render(title=title, verdict=verdict, subtitle=subtitle, sections=shown)
