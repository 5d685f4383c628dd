"""Work in fresh processes, each piece leaving a file: what has left one is not done again."""

import multiprocessing
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from jaxad.runs.progress import Progress


def in_processes(
    work: Callable[..., None],
    pieces: Mapping[Path, tuple[Any, ...]],
    *,
    jobs: int = 1,
    label: str = "",
    quiet: bool = False,
) -> None:
    """Call `work(path, *arguments)` for every path that is not there yet, each in a process of its own.

    A fresh process has compiled nothing, so every piece pays for what it compiles, and what it holds is given back.

    Args:
      work: a function of a module, which ends by writing `path`, atomically (`jaxad._utils.files`).
      pieces: what is to be there, in order, and the arguments that it takes.
      jobs: processes at a time.

    Raises:
      Whatever a piece raised; what has not begun by then is left for another call.
    """
    waiting = {path: arguments for path, arguments in pieces.items() if not path.exists()}
    done = len(pieces) - len(waiting)
    with (
        Progress(len(pieces), label=label, start=done, quiet=quiet) as progress,
        ThreadPoolExecutor(jobs) as threads,
    ):
        futures = [threads.submit(_in_process, work, path, *arguments) for path, arguments in waiting.items()]
        try:
            for number, future in enumerate(as_completed(futures)):
                future.result()
                progress.update(done + number + 1)
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise


def _in_process(work: Callable[..., None], *arguments: Any) -> None:
    # Spawned: a fork of a process with threads, as JAX has them, may hang.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(work, *arguments).result()
