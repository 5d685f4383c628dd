"""What benchmarks share that measure several ways of the same work in turns: by the clock, and in processors' time.

Other work on a machine slows what runs beside it. Ways that take turns meet about the same, and the time that the
processors spent on a way counts nobody else's; so ratios are those of a round, and medians of rounds are shown with the
least and the most.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from search_tables import table

Cost = dict[str, float]  # "seconds" by the clock, "cpu" seconds of all threads, of a process "megabytes" at most
Turns = dict[str, list[Cost]]  # of every way, round by round


def timed(run: Callable[[], Any]) -> Cost:
    """What a call costs; it has to end with its work."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def process(command: Sequence[Any], **environment: str) -> Cost:
    """What a process costs from its start to its end; SystemExit, with what it said, where it fails.

    Its memory counts from that of this process, whose peak a new process begins with: import little where it matters.
    """
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        child = subprocess.Popen(list(map(str, command)), stdout=said, stderr=said, env=os.environ | environment)
        _, status, used = os.wait4(child.pid, 0)
        wall = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            said.seek(0)
            raise SystemExit(
                f"{Path(str(command[1])).name} ended with {child.returncode}: {said.read().decode()[-2000:]}"
            )
    return {"seconds": wall, "cpu": used.ru_utime + used.ru_stime, "megabytes": used.ru_maxrss / 1024}


def take_turns(ways: Mapping[str, Callable[[], Cost]], rounds: int, warm: int = 1) -> Turns:
    """Each way once a round, each round begun by another one, after `warm` rounds that are not counted."""
    found: Turns = {name: [] for name in ways}
    names = list(ways)
    for number in range(-warm, rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            load = os.getloadavg()[0]
            cost = ways[name]() | {"load": load}
            if number >= 0:
                found[name].append(cost)
    return found


def spread(values: Sequence[float], scale: float = 1.0) -> str:
    """Median (least, most)."""
    return "{:.3g} ({:.3g}, {:.3g})".format(*(scale * f(values) for f in (statistics.median, min, max)))


def compared(turns: Turns, ours: str | None, unit: str = "s", scale: float = 1.0, *, has_memory: bool = False) -> str:
    """The table: what each way costs and, with `ours`, how many times as fast that way is, round by round."""
    head = [
        "way",
        "",
        unit,
        f"CPU {unit}",
        *([f"{ours}, times", "by CPU"] if ours else []),
        *["MB at most"] * has_memory,
    ]
    rows = [tuple(head)]
    for name, costs in turns.items():
        cells = [spread([cost[key] for cost in costs], scale) for key in ("seconds", "cpu")]
        if ours:
            pairs = list(zip(costs, turns[ours], strict=True))
            ratios = [spread([theirs[key] / own[key] for theirs, own in pairs]) for key in ("seconds", "cpu")]
            cells += ratios if name != ours else ["", ""]
        if has_memory:
            cells.append(f"{max(cost['megabytes'] for cost in costs):.0f}")
        rows.append((name, "", *cells))
    return table(rows)


def loads(turns: Turns) -> str:
    """How busy the machine was."""
    values = [cost["load"] for costs in turns.values() for cost in costs]
    return f"{os.cpu_count()} cores, load {min(values):.1f} to {max(values):.1f}, Python {sys.version.split()[0]}"
