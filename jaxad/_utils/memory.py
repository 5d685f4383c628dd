"""Memory: how much of it a process can still get, and what does not fit refused before any is taken."""

import os
from contextlib import suppress
from pathlib import Path

UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")
GROUP = Path("/sys/fs/cgroup")  # of the container, where there is one


def available_memory() -> int | None:
    """Bytes that this process can get without swapping; None where the system does not say."""
    limits = [limit for limit in (_of_machine(), _of_group(), _of_process()) if limit is not None]
    return min(limits) if limits else None


def check_memory(needed: int, what: str, remedy: str) -> None:
    """Raise ValueError where so many bytes are more than there are.

    Args:
      what: is to take them, such as "40 images of 900x900 pixels".
      remedy: what to do about it.
    """
    there = available_memory()
    if there is not None and needed > there:
        raise ValueError(f"{what} take at least {in_units(needed)} of memory, and {in_units(there)} are free: {remedy}")


def is_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is too little memory; JAX says so in several ways."""
    text = str(error)
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text or "out of memory" in text.lower()


def in_units(count: int) -> str:
    """A number of bytes for a person: "1.2 GB"."""
    value, unit = float(count), 0
    while value >= 1000 and unit < len(UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.3g} {UNITS[unit]}" if value < 999.5 else f"{value:,.0f} {UNITS[unit]}"


def _of_machine() -> int | None:
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1])
    with suppress(AttributeError, OSError, ValueError):  # no Linux: all there is, rather than nothing
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def _of_group() -> int | None:
    with suppress(OSError, ValueError, KeyError):  # "max" is no number
        stat = dict(line.split() for line in (GROUP / "memory.stat").read_text().splitlines())
        taken = int((GROUP / "memory.current").read_text()) - int(stat["inactive_file"])  # which is given back
        return max(0, int((GROUP / "memory.max").read_text()) - taken)
    return None


def _of_process() -> int | None:
    """What is left of a limit of addresses, such as `ulimit -v`."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            return max(0, limit - taken)
    return None
