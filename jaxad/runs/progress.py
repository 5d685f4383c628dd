"""What a person sees while a long loop runs: a live bar on a terminal, plain lines everywhere else.

Showing progress must never stop the work: a closed pipe, a terminal that hung up or an encoding without the
needed letters silence or degrade the output and raise nothing. rich is imported only for a terminal.
"""

import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, TextIO


class Progress:
    """Progress of a loop, as a context manager.

    `total` is the number of items and `budget` a time limit in seconds; either may be unknown (None). With
    both, whichever will end first gives the ETA. `start` is the number already done, when a run is resumed.
    Shown on `file` (standard error, unless given): a live bar on a terminal, otherwise a line at most every
    `interval` seconds plus the last. `quiet` shows nothing.
    """

    def __init__(
        self,
        total: int | None = None,
        *,
        label: str = "",
        budget: float | None = None,
        start: int = 0,
        quiet: bool = False,
        interval: float = 5.0,
        file: TextIO | None = None,
    ) -> None:
        if (total is not None and total < 0) or (budget is not None and not budget > 0):
            raise ValueError(f"total must be >= 0 and budget > 0 seconds, got {total} and {budget}; or give None")
        self._total, self._label, self._budget, self._start = total, label, budget, start
        self._interval = interval
        stream = sys.stderr if file is None else file
        self._out = None if quiet or stream is None else _SafeStream(stream)
        self._done, self._best, self._note = start, None, ""
        self._began = monotonic()
        self._shown_at = -math.inf
        self._pending = False  # an update that no plain line has shown yet
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> "Progress":
        self._began = monotonic()
        if self._out is not None and self._out.is_terminal():
            self._start_bar()
        return self

    def update(self, done: int, *, best: float | None = None, note: str = "") -> None:
        """Say that `done` items are finished; `best` (kept until changed) and `note` stand beside them."""
        self._done, self._note, self._pending = done, note, True
        self._best = self._best if best is None else float(best)
        if self._bar is not None:
            self._bar.update(self._task, completed=self._fraction() or 0.0, count=self._count(), tail=self._tail())
        elif monotonic() - self._shown_at >= self._interval or done == self._total:
            self._print_line()

    def log(self, text: str) -> None:
        """Show a text of its own: above the bar, or as a line."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        elif self._out is not None:
            self._out.write(f"{text}\n")

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        elif self._pending:
            self._print_line()

    def _start_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("{task.description}{task.fields[count]}", markup=False),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("{task.fields[tail]}", markup=False),
            console=Console(file=self._out, force_terminal=True),
            refresh_per_second=2,
            # Prints of others go above the bar, but what they send to a file must still arrive there.
            redirect_stdout=_SafeStream(sys.stdout).is_terminal(),
            redirect_stderr=_SafeStream(sys.stderr).is_terminal(),
        )
        known = self._total is not None or self._budget is not None
        self._task = self._bar.add_task(
            self._prefix(), total=1.0 if known else None, count=self._count(), tail=self._tail()
        )
        self._bar.start()

    def _print_line(self) -> None:
        self._shown_at, self._pending = monotonic(), False
        if self._out is not None:
            elapsed = f"elapsed {_clock(monotonic() - self._began)}"
            parts = [self._prefix() + self._count(), *self._fields(elapsed)]
            self._out.write("  ".join(parts).replace("\n", " ") + "\n")

    def _prefix(self) -> str:
        return f"{self._label} " if self._label else ""

    def _count(self) -> str:
        """[ 12/100], or [12] where the total is not known."""
        if self._total is None:
            return f"[{self._done}]"
        return f"[{self._done:>{len(str(self._total))}}/{self._total}]"

    def _tail(self) -> str:
        return "  ".join(self._fields()).replace("\n", " ")

    def _fields(self, elapsed: str | None = None) -> list[str]:
        """best, elapsed, eta, note: those that are known."""
        fields = [] if self._best is None else [f"best {self._best:.4f}"]
        if elapsed is not None:
            fields.append(elapsed)
        eta = self._eta()
        if eta is not None:
            fields.append(f"eta {_clock(eta)}")
        return [*fields, self._note] if self._note else fields

    def _fraction(self) -> float | None:
        """How much is done, in [0, 1]: by items or by time, whichever is further."""
        shares = []
        if self._total is not None:
            shares.append(self._done / self._total if self._total else 1.0)
        if self._budget is not None:
            shares.append((monotonic() - self._began) / self._budget)
        return min(1.0, max(shares)) if shares else None

    def _eta(self) -> float | None:
        """Seconds to go at the average speed so far; None while nothing is known."""
        elapsed, here = monotonic() - self._began, self._done - self._start
        remaining = []
        if self._total is not None and here > 0:
            remaining.append(elapsed / here * max(0, self._total - self._done))
        if self._budget is not None:
            remaining.append(max(0.0, self._budget - elapsed))
        return min(remaining) if remaining else None


def show_metrics(results: Mapping[str, Any]) -> None:
    """Print the metrics of results["test"] and results["segmentation"], those that are there, with their intervals."""
    for part in ("test", "segmentation"):
        measured = {name: value for name, value in results.get(part, {}).items() if isinstance(value, Mapping)}
        ends = ("value", "low", "high")
        rows = [(name, *(f"{value[end]:.4f}" for end in ends)) for name, value in measured.items()]
        if rows:
            table(f"{part}, once", ("metric", "value", "95 % low", "high"), rows)


def line(text: str, *, file: TextIO | None = None) -> None:
    """Print a line to `file` (standard output, unless given); never raises because nobody reads it any more."""
    _SafeStream(sys.stdout if file is None else file).write(f"{text}\n")


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, file: TextIO | None = None) -> None:
    """Print a table to `file` (standard output, unless given): rich on a terminal, else aligned plain text.

    Floats get four significant digits and None a dash; columns of numbers are aligned to the right. Raises
    ValueError for a row whose length is not that of `columns`, and never because `file` was closed.
    """
    rows = [list(row) for row in rows]
    for number, row in enumerate(rows):
        if len(row) != len(columns):
            raise ValueError(f"row {number} has {len(row)} cells but the table has {len(columns)} columns")
    stream = sys.stdout if file is None else file
    if stream is None:
        return
    out = _SafeStream(stream)
    cells = [[_cell(value) for value in row] for row in rows]
    numeric = [bool(rows) and all(value is None or _is_number(value) for value in column) for column in zip(*rows)] or [
        False
    ] * len(columns)
    if out.is_terminal():
        _rich_table(out, title, columns, cells, numeric)
        return
    widths = [max(len(text) for text in column) for column in zip(columns, *cells)]
    lines = [title] if title else []
    for row in (columns, ["-" * width for width in widths], *cells):
        padded = [text.rjust(width) if right else text.ljust(width) for text, width, right in zip(row, widths, numeric)]
        lines.append("  ".join(padded).rstrip())
    out.write("\n".join(lines) + "\n")


def _rich_table(
    out: "_SafeStream", title: str, columns: Sequence[str], cells: list[list[str]], numeric: list[bool]
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(title=Text(title) if title else None, title_justify="left")
    for name, right in zip(columns, numeric):
        grid.add_column(Text(name), justify="right" if right else "left")
    for row in cells:
        grid.add_row(*map(Text, row))
    Console(file=out, force_terminal=True).print(grid)


def _is_number(value: Any) -> bool:
    return not isinstance(value, str) and hasattr(value, "__float__") and getattr(value, "ndim", 0) == 0


def _cell(value: Any) -> str:
    """A value as text on one line."""
    if value is None:
        return "-"
    if _is_number(value) and not hasattr(value, "__index__"):
        return f"{float(value):.4g}"
    return " ".join(str(value).split("\n"))


def _clock(seconds: float) -> str:
    """0:42, 5:10, 1:02:03."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


class _SafeStream:
    """A text stream that falls silent instead of raising when nobody reads it any more."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:
        return getattr(self._stream, "encoding", None) or "utf-8"

    def is_terminal(self) -> bool:
        """Whether a live display works there."""
        return self.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")

    def isatty(self) -> bool:
        try:
            return self._stream is not None and self._stream.isatty()
        except (OSError, ValueError):
            return False

    def fileno(self) -> int:
        return -1 if self._stream is None else self._stream.fileno()

    def write(self, text: str) -> int:
        if self._stream is not None:
            try:
                try:
                    self._stream.write(text)
                except UnicodeEncodeError:
                    self._stream.write(text.encode(self.encoding, "replace").decode(self.encoding))
                self._stream.flush()
            except (OSError, ValueError):
                self._silence()
        return len(text)

    def flush(self) -> None:
        """Every write has already been flushed."""

    def _silence(self) -> None:
        """Stop writing; what the interpreter still flushes at its end must not fail either."""
        stream, self._stream = self._stream, None
        if stream in (sys.__stdout__, sys.__stderr__):
            with suppress(OSError, ValueError):
                devnull = os.open(os.devnull, os.O_WRONLY)
                os.dup2(devnull, stream.fileno())
                os.close(devnull)
