"""Processes of this machine as an executor of the standard library, one that outlives any of them.

`concurrent.futures.ProcessPoolExecutor` is broken for good once a process has died, and cannot end one that hangs. Here
a process that dies costs the call that it was working on, and `abandon` ends one on purpose; another takes its place.
Processes are spawned, as a fork of a process with threads, as JAX has them, may hang.
"""

import contextlib
import multiprocessing
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from concurrent import futures
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any


class ProcessLost(Exception):
    """A process has ended, or was ended, in the middle of a call."""


class Processes(futures.Executor):
    """A number of processes, each of which works on one call at a time.

    They are quiet (their standard output and error go nowhere, Ctrl-C is left to this process) and end with this
    process, however it ends. As with all spawned processes, a program that makes some must be importable: what it does
    stands under `if __name__ == "__main__":`.

    Args:
      count: of processes, all of which start at once.
      start: called in every process before its first call, with `args`; a function of a module.
    """

    def __init__(self, count: int, *, start: Callable[..., None] | None = None, args: tuple[Any, ...] = ()) -> None:
        self._start, self._args = start, args
        self._calls: queue.SimpleQueue[tuple[futures.Future, tuple] | None] = queue.SimpleQueue()
        self._running: dict[futures.Future, BaseProcess] = {}
        self._lock, self._closed, self._ending = threading.Lock(), False, False
        self._threads = [threading.Thread(target=self._serve, name="process", daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> futures.Future:
        """Have a process call a function of a module; its exceptions are the future's, or `ProcessLost`."""
        future: futures.Future = futures.Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._calls.put((future, (fn, args, kwargs)))
        return future

    def abandon(self, future: futures.Future) -> None:
        """Cancel a call; where it is running, end its process, stopped or not, and start another."""
        if not future.cancel():
            with self._lock:
                process = self._running.get(future)
            if process is not None:
                process.kill()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls, and end the processes once theirs are done: at once with `cancel_futures`."""
        with self._lock:
            self._closed, self._ending = True, cancel_futures
            for _ in self._threads:
                self._calls.put(None)
        if cancel_futures:
            with contextlib.suppress(queue.Empty):
                while True:
                    if (call := self._calls.get_nowait()) is not None:
                        call[0].cancel()
            for _ in self._threads:
                self._calls.put(None)
            for future in list(self._running):
                self.abandon(future)
        if wait:
            for thread in self._threads:
                thread.join()

    def _serve(self) -> None:
        """What the thread of one process does."""
        process, pipe = self._begin()
        while (item := self._calls.get()) is not None:
            future, call = item
            if not future.set_running_or_notify_cancel():
                continue
            if not process.is_alive():  # between two calls
                process, pipe = self._begin()
            with self._lock:
                self._running[future] = process
                if self._ending:
                    process.kill()
            done, value = self._call(process, pipe, call)
            with self._lock:
                del self._running[future]
            if isinstance(value, ProcessLost):
                pipe.close()
                with self._lock:
                    closed = self._closed
                if not closed:
                    process, pipe = self._begin()
            future.set_result(value) if done else future.set_exception(value)
        pipe.close()  # which ends the process
        process.join(1)
        if process.is_alive():
            process.kill()
            process.join()

    def _begin(self) -> tuple[BaseProcess, Connection]:
        context = multiprocessing.get_context("spawn")
        mine, its = context.Pipe()
        process = context.Process(target=_work, args=(its, self._start, self._args), daemon=True)
        process.start()
        its.close()  # so that this end hears when the process has ended
        return process, mine

    @staticmethod
    def _call(process: BaseProcess, pipe: Connection, call: tuple) -> tuple[bool, Any]:
        """Whether the function has returned, and what; or what it has raised."""
        try:
            pipe.send(call)
            return pipe.recv()
        except (EOFError, OSError):
            process.join()
            code = process.exitcode
            how = f"by signal {-code}" if code is not None and code < 0 else f"with status {code}"
            return False, ProcessLost(f"process {process.pid} was ended {how}")
        except Exception as error:  # what cannot be pickled
            return False, error


def _work(pipe: Connection, start: Callable[..., None] | None, args: tuple[Any, ...]) -> None:
    """What a process does until its parent has nothing more for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for stream in (1, 2):
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    if start is not None:
        start(*args)
    while True:
        try:
            function, arguments, named = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer = True, function(*arguments, **named)
        except Exception as error:
            answer = False, error
        try:
            pipe.send(answer)
        except OSError:
            return
        except Exception as error:  # what cannot be pickled
            pipe.send((False, RuntimeError(f"{type(error).__name__}: {error}, of {answer[1]!r}"[:1000])))


def _end_with_parent() -> None:
    """Leave in the middle of whatever it is once the parent is gone, even if it was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        sys.stderr = sys.stdout = None  # nobody reads them
        os._exit(0)
