"""Children that see different inputs: an executor of each, behind the interface of one."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jaxad.nas.trial import Job, Result


class PerInput:
    """Hands every child to the executor of its input.

    Args:
      executors: by the name of the input. Raises ValueError unless there are some, all of one batch size.
    """

    def __init__(self, executors: Mapping[str, Any]) -> None:
        sizes = {executor.batch_size for executor in executors.values()}
        if len(sizes) != 1:
            raise ValueError(
                f"the executors of {len(executors)} inputs have batch sizes {sorted(sizes)}; give one size"
            )
        self._executors = dict(executors)
        (self._batch_size,) = sizes

    @property
    def batch_size(self) -> int:
        """What children are run with unless memory is short."""
        return self._batch_size

    @property
    def compiles(self) -> int:
        """Programs compiled, or loaded from the persistent cache, so far."""
        return sum(executor.compiles for executor in self._executors.values())

    def watch(self, on_wait: Callable[[int], None]) -> None:
        """`Sequential.watch`, of all executors that have it."""
        for executor in self._executors.values():
            if hasattr(executor, "watch"):
                executor.watch(on_wait)

    def __call__(self, jobs: Sequence[Job]) -> Iterator[Result]:
        """Run the jobs; results in their order. ValueError, before any is run, for an input without an executor."""
        by_input: dict[str, list[Job]] = {}
        for job in jobs:
            by_input.setdefault(job.architecture.input, []).append(job)
        if missing := sorted(set(by_input) - set(self._executors)):
            known = ", ".join(self._executors)
            raise ValueError(f"no executor trains children of the input {missing[0]}: there are those of {known}")
        return self._results(jobs, by_input)

    def _results(self, jobs: Sequence[Job], by_input: Mapping[str, Sequence[Job]]) -> Iterator[Result]:
        with contextlib.ExitStack() as stack:
            runs = {
                name: stack.enter_context(contextlib.closing(self._executors[name](own)))
                for name, own in by_input.items()
            }
            for job in jobs:
                yield next(runs[job.architecture.input])

    def close(self) -> None:
        """End all executors."""
        for executor in self._executors.values():
            executor.close()
