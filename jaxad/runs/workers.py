"""Who trains the children of a search: this process, other processes of this machine, or the workers of a cluster."""

import contextlib
import dataclasses
import importlib.util
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import Any

import jax

from jaxad._utils.processes import Processes
from jaxad._utils.validate import check_at_least, spelled
from jaxad.nas.executors import hosts
from jaxad.nas.executors.population import make_executor
from jaxad.nas.executors.remote import Handed, Remote, Workers
from jaxad.nas.executors.worker import begin_local
from jaxad.nas.trial import TrialConfig, TrialData

MAY_DIFFER = frozenset({"workers", "scheduler", "child_timeout", "coordinator", "hosts", "host"})
"""Settings that change no result: a run may be resumed with others."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkersConfig:
    """Who trains children."""

    workers: int = 0
    """Number of processes of this machine that train children; 0 trains them in the search's own process."""
    scheduler: str | None = None
    """Dask scheduler whose workers train children: its address, such as tcp://host:8786, or its scheduler file."""
    child_timeout: float | None = None
    """Seconds after which a worker is given up and its child handed to another; a child of three tries has failed."""

    def check_workers(self, executor: str = "auto", pool: futures.Executor | None = None) -> None:
        """Raise ValueError for values out of range, for those that do not go together, and for dask that is missing."""
        name = spelled(self, "workers")
        if isinstance(self.workers, bool) or not isinstance(self.workers, int) or self.workers < 0:
            raise ValueError(f"{name} is {self.workers!r}; give a whole number from 0 upwards")
        if self.workers and self.scheduler is not None:
            raise ValueError(f"{name} and {spelled(self, 'scheduler')} are both given: give one")
        if pool is not None and not self.workers:
            raise ValueError("pool is given, and not how many children it works on at a time: say workers=8")
        if self.scheduler is not None and importlib.util.find_spec("distributed") is None:
            said = spelled(self, "scheduler")
            raise ValueError(f"{said} needs dask and distributed: pip install 'jaxad[cluster]'")
        if self.child_timeout is not None and not self.child_timeout > 0:
            raise ValueError(f"{spelled(self, 'child_timeout')} is {self.child_timeout}; give seconds above 0")
        if executor == "vmapped" and (self.workers or self.scheduler is not None):
            said = spelled(self, "executor")
            raise ValueError(f"{said} is vmapped, and workers train children one by one: leave out {said}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class HostsConfig:
    """Several hosts whose devices train children side by side."""

    coordinator: str | None = None
    """Address and port of host 0, such as 10.0.0.1:1234, where the devices of several hosts train children side by
    side: the same command on each of them, each with its own --host. Host 0 searches, and it alone writes."""
    hosts: int = 1
    """Number of such hosts."""
    host: int = 0
    """Which of them this is, from 0."""

    def check_hosts(self, config: WorkersConfig, executor: str) -> None:
        """Raise ValueError for values out of range, and for those that do not go with who trains children."""
        check_at_least(self, "hosts")
        coordinator, count = spelled(self, "coordinator"), spelled(self, "hosts")
        if not 0 <= self.host < self.hosts:
            raise ValueError(f"{spelled(self, 'host')} is {self.host}, and {count} {self.hosts}: count hosts from 0")
        if (self.coordinator is None) != (self.hosts == 1):
            raise ValueError(f"{coordinator} is {self.coordinator}, and {count} {self.hosts}: several hosts need both")
        if self.coordinator is None:
            return
        hosts.address_of(self.coordinator)
        if config.workers or config.scheduler is not None:
            raise ValueError(f"{coordinator} is for hosts that train side by side, not for workers: give one")
        if executor == "sequential":
            raise ValueError(
                f"{coordinator} is for children side by side, and {spelled(self, 'executor')} is sequential"
            )


class Account:
    """Who has trained what, in seconds of the search: for progress, results and the report.

    Args:
      elapsed: seconds that earlier sessions took.
      keep: called with every line, as plain data.
    """

    def __init__(self, elapsed: float, keep: Callable[[dict[str, Any]], None] = lambda line: None) -> None:
        self._zero, self._keep = time.perf_counter() - elapsed, keep
        self.lines: list[dict[str, Any]] = []

    def add(self, handed: Handed) -> None:
        """A child is back."""
        began, ended = (round(moment - self._zero, 3) for moment in (handed.began, handed.ended))
        self.lines.append(handed._asdict() | {"began": began, "ended": ended})
        self._keep(self.lines[-1])

    def __str__(self) -> str:
        """For progress, in a few words."""
        if not self.lines:
            return ""
        rows = worker_rows(self.lines)
        rate = sum(row["children_per_minute"] for row in rows) / len(rows)
        moved = sum(row["sent_megabytes"] + row["received_megabytes"] for row in rows)
        return f"{len(rows)} worker{'s'[: len(rows) > 1]}, {rate:.0f} children a minute each, {moved:.0f} MB moved"


def worker_rows(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What every worker has done, of the lines of accounts: children, how many a minute of work, megabytes moved.

    Spans are when each child began and ended, in seconds of the search.
    """
    rows = []
    for name in dict.fromkeys(line["worker"] for line in lines):
        own = [line for line in lines if line["worker"] == name]
        busy = sum(line["ended"] - line["began"] for line in own)
        rows.append(
            {
                "worker": name, "children": len(own), "busy_seconds": busy,
                "children_per_minute": 60 * len(own) / max(busy, 1e-9),
                "sent_megabytes": sum(line["sent"] for line in own) / 1e6,
                "received_megabytes": sum(line["received"] for line in own) / 1e6,
                "spans": [(line["began"], line["ended"]) for line in own],
            }
        )  # fmt: skip
    return rows


@contextlib.contextmanager
def trainer(
    executor: str,
    data: TrialData | Mapping[str, TrialData],
    settings: TrialConfig,
    config: WorkersConfig | None = None,
    pool: futures.Executor | None = None,
    *,
    account: Account | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[Any]:
    """An executor of children, and whatever it needs, as long as the context lasts.

    Args:
      executor: name of who trains children in this process.
      config: says who trains them elsewhere, if anybody does.
      pool: an executor of the standard library that takes the place of what `config` says; `config.workers` is then the
        number of children that it works on at a time.
      account: who has trained what.
      say: told what a person should know.
    """
    with contextlib.ExitStack() as stack:
        workers = None if config is None else _workers(config, pool, stack)
        if workers is None:
            made = make_executor(executor, data, settings)
        else:
            made = Remote(workers, data, settings, say=say, on_child=(account or Account(0.0)).add)
        yield stack.enter_context(contextlib.closing(made))


@contextlib.contextmanager
def company(config: HostsConfig) -> Iterator[bool]:
    """Hosts that train side by side, if a config has several; yields whether this one searches."""
    if config.coordinator is None:
        yield True
        return
    with hosts.joined(config.coordinator, config.hosts, config.host) as searches:
        yield searches


def _workers(config: WorkersConfig, pool: futures.Executor | None, stack: contextlib.ExitStack) -> Workers | None:
    count, plugins = config.workers, tuple(getattr(config, "plugins", ()))
    if pool is None and config.scheduler is not None:
        from jaxad.runs.dask_pool import DaskPool

        pool = stack.enter_context(DaskPool(config.scheduler))
        return Workers(pool, pool.count, config.child_timeout, plugins)
    if pool is None and count:
        pool = Processes(count, start=begin_local, args=(jax.config.jax_compilation_cache_dir,))
        stack.callback(pool.shutdown, cancel_futures=True)
    return None if pool is None else Workers(pool, lambda: count, config.child_timeout, plugins)
