"""Progress informs and never disturbs."""

import io
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from jaxad.runs import progress
from jaxad.runs.progress import Progress, table


class Clock:
    """Time that passes only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Broken(io.StringIO):
    """A pipe that nobody reads after the first `good` writes."""

    def __init__(self, good: int, error: type[Exception]) -> None:
        super().__init__()
        self.good, self.error = good, error

    def write(self, text: str) -> int:
        self.good -= 1
        if self.good < 0:
            raise self.error("gone")
        return super().write(text)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "monotonic", clock)
    return clock


@pytest.fixture
def _terminal_kind(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")


def test_plain_lines_come_every_few_seconds_and_at_the_end(clock):
    out = io.StringIO()
    with Progress(100, file=out, interval=5.0) as bar:
        for done in range(1, 101):
            clock.now += 1.0
            bar.update(done, best=0.5 + done / 1000, note=f"child {done}")
    lines = out.getvalue().splitlines()
    assert lines[0] == "[  1/100]  best 0.5010  elapsed 0:01  eta 1:39  child 1"
    assert lines[1].startswith("[  6/100]")
    assert lines[-1] == "[100/100]  best 0.6000  elapsed 1:40  eta 0:00  child 100"
    assert len(lines) == 21


def test_the_last_update_is_shown_even_when_the_loop_ends_early(clock):
    out = io.StringIO()

    def search():
        with Progress(10, file=out, label="search") as bar:
            bar.update(1, best=0.25)
            bar.update(2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search()
    assert out.getvalue().splitlines()[-1] == "search [ 2/10]  best 0.2500  elapsed 0:00  eta 0:00"


def test_time_budget_and_resumed_start_give_the_eta(clock):
    out = io.StringIO()
    with Progress(100, file=out, interval=0, budget=60, start=50) as bar:
        clock.now += 10
        bar.update(60)  # 1 per second: 40 s to go by count, 50 s by time
        clock.now += 40
        bar.update(61)
    with Progress(None, file=out, interval=0, budget=7200) as bar:
        clock.now += 60
        bar.update(3)
    with Progress(None, file=out, interval=0) as bar:
        bar.update(4)
    assert out.getvalue().splitlines() == [
        "[ 60/100]  elapsed 0:10  eta 0:40",
        "[ 61/100]  elapsed 0:50  eta 0:10",
        "[3]  elapsed 1:00  eta 1:59:00",
        "[4]  elapsed 0:00",
    ]


def test_quiet_prints_nothing(capsys):
    with Progress(3, quiet=True) as bar:
        bar.update(1, best=float("nan"))
        bar.log("text")
    assert capsys.readouterr() == ("", "")


def test_standard_error_is_the_default(capsys):
    with Progress(1) as bar:
        bar.log("a [red]message[/red]")
        bar.update(1, best=np.float32(0.5))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("a [red]message[/red]\n[1/1]  best 0.5000")


@pytest.mark.parametrize(("total", "budget"), [(-1, None), (3, 0.0), (None, float("nan"))])
def test_impossible_totals_are_refused(total, budget):
    with pytest.raises(ValueError, match="total must be >= 0"):
        Progress(total, budget=budget)


@pytest.mark.usefixtures("_terminal_kind")
@pytest.mark.parametrize(("total", "budget"), [(4, None), (None, None), (None, 60.0), (0, 1e-9)])
def test_a_terminal_gets_a_live_bar(total, budget):
    out = Terminal()
    with Progress(total, file=out, label="search", budget=budget) as bar:
        bar.update(2, best=0.75, note="[3x3] not markup")
        bar.log("a [bold]log[/bold] line")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    assert "search [2/4]" in text if total == 4 else "search [2" in text
    assert "best 0.7500" in text
    assert "[3x3] not markup" in text
    assert "a [bold]log[/bold] line" in text
    assert out.getvalue().count("\x1b[?25l") == out.getvalue().count("\x1b[?25h") == 1  # the cursor is back


def test_a_dumb_terminal_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    out = Terminal()
    with Progress(1, file=out) as bar:
        bar.update(1)
    assert "\x1b" not in out.getvalue()


@pytest.mark.usefixtures("_terminal_kind")
@pytest.mark.parametrize("error", [BrokenPipeError, OSError, ValueError])
@pytest.mark.parametrize("terminal", [False, True])
def test_a_closed_pipe_never_raises(error, terminal, monkeypatch):
    monkeypatch.setattr(Broken, "isatty", lambda _: terminal)
    for good in (0, 1, 2):
        out = Broken(good, error)
        with Progress(9, file=out, interval=0) as bar:
            for done in range(4):
                bar.update(done)
                bar.log("text")
        table("t", ["a"], [[1]], file=Broken(good, error))
    closed = io.StringIO()
    closed.close()
    with Progress(9, file=closed) as bar:
        bar.update(1)
    table("t", ["a"], [[1]], file=closed)


def test_a_program_whose_reader_left_ends_well():
    program = (
        "import sys\n"
        "from jaxad.runs.progress import Progress, table\n"
        "sys.stdin.read()\n"
        "with Progress(3) as bar:\n"
        "    bar.update(1)\n"
        "table('t', ['a'], [[1]])\n"
        "table('t', ['a'], [[1]])\n"
    )
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=write, stderr=subprocess.PIPE
    )
    os.close(write)
    os.close(read)  # before anything is printed
    _, errors = process.communicate(b"", timeout=60)
    assert process.returncode == 0
    assert errors.startswith(b"[1/3]")
    assert errors.count(b"\n") == 1


def test_letters_that_the_encoding_lacks_are_replaced():
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    with Progress(1, file=out) as bar:
        bar.log("Größe")
    table("η", ["a"], [["é"]], file=out)
    assert raw.getvalue() == b"Gr??e\n?\na\n-\n?\n"


def test_plain_tables_are_aligned():
    out = io.StringIO()
    rows = [
        ["AUROC", np.float32(0.98766), 3],
        ["a [b] c", None, 12345],
        ["two\nlines", float("nan"), np.int64(-1)],
    ]
    table("Results", ["name", "value", "count"], rows, file=out)
    assert out.getvalue().splitlines() == [
        "Results",
        "name        value  count",
        "---------  ------  -----",
        "AUROC      0.9877      3",
        "a [b] c         -  12345",
        "two lines     nan     -1",
    ]
    out = io.StringIO()
    table("", ["name", "value"], [], file=out)
    assert out.getvalue().splitlines() == ["name  value", "----  -----"]
    with pytest.raises(ValueError, match="row 0 has 1 cells but the table has 2 columns"):
        table("", ["a", "b"], [[1]], file=out)


@pytest.mark.usefixtures("_terminal_kind")
def test_a_terminal_gets_a_rich_table():
    out = Terminal()
    table("Results [x]", ["name [y]"], [["[red]z[/red]"]], file=out)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    assert "Results [x]" in text
    assert "name [y]" in text
    assert "[red]z[/red]" in text
