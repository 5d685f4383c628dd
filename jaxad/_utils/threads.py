"""How many threads XLA computes with on a CPU: as many as the process may use cores, and never a single one.

XLA's only thread would wait for itself where a program calls the host, as detectors do that a library fits: an argument
of such a call may be copied by a thread of that very pool. So a process with one core has two threads.
"""

import os

_VARIABLE = "NPROC"  # XLA reads it when it starts
_OURS = {_VARIABLE: ""}  # what has been written here, and not by whoever began this process


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads() -> int:
    """With how many threads XLA computes in this process, if it starts to now; sums are in an order that depends on it.

    `NPROC` in the environment says how many; by default it is the number of cores that the process may use, or two.
    """
    return int(os.environ.get(_VARIABLE) or cores())


def begin_with(count: int) -> None:
    """Have XLA compute with so many threads, unless it has started, or whoever began this process said how many."""
    if os.environ.get(_VARIABLE, "") in ("", _OURS[_VARIABLE]):
        os.environ[_VARIABLE] = _OURS[_VARIABLE] = str(count)


def never_one() -> None:
    """Have XLA begin with two threads where this process has one core."""
    if cores() == 1:
        begin_with(2)
