"""Evaluating a population: take its children's weights, train and judge them, merge what they learnt (Eq. 3)."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxad.nas import supernet
from jaxad.nas.executors.sequential import Sequential
from jaxad.nas.executors.vmapped import Vmapped
from jaxad.nas.trial import WORST_REWARD, Job, Result, TrialConfig, TrialData
from jaxad.nn.architecture import Architecture
from jaxad.types import Key, Params

EXECUTORS = {"sequential": Sequential, "vmapped": Vmapped}


def make_executor(name: str, data: TrialData, config: TrialConfig) -> Any:
    """The executor of that name, or, for "auto", the one that suits the backend.

    Children with different weights are slower side by side than one by one on a CPU, where a batched convolution is a
    grouped one; accelerators gain from it where children share shapes. Results agree up to rounding.
    Raises ValueError for an unknown name.
    """
    if name == "auto":
        name = "sequential" if jax.default_backend() == "cpu" else "vmapped"
    if name not in EXECUTORS:
        raise ValueError(f"executor is {name!r}; choose auto, {', '.join(EXECUTORS)}")
    return EXECUTORS[name](data, config)


class Outcome(NamedTuple):
    """What a trial says about one child. Plain Python values, ready for a log."""

    status: str  # "ok" or "failed"
    reward: float  # the worst possible one where it failed
    reason: str | None  # why it failed, or that its batch was halved
    loss: float | None  # of the last training step
    seconds: float


class Population:
    """The children of one `ask`, from their share of the weights to their rewards.

    Iterate over it to get the outcomes, one child at a time; then `merged` has the shared weights for the next
    population. All children start from the same shared weights, so their order does not matter.
    """

    def __init__(self, executor: Any, shared: Params, architectures: Sequence[Architecture], key: Key) -> None:
        keys = jax.random.split(key, len(architectures))
        self._shared, self._executor = shared, executor
        self._jobs = [Job(a, supernet.take(shared, a), k) for a, k in zip(architectures, keys)]
        self._trained: list[tuple[Architecture, Params, Params]] = []

    def __iter__(self) -> Iterator[Outcome]:
        with closing(self._executor(self._jobs)) as results:
            for job, result in zip(self._jobs, results):
                outcome = _outcome(result, self._executor.batch_size)
                if outcome.status == "ok":
                    self._trained.append((job.architecture, job.params, result.params))
                yield outcome

    def merged(self) -> Params:
        """Shared weights after the children that have trained so far without failing."""
        return supernet.merge(self._shared, self._trained)


def _outcome(result: Result, batch_size: int) -> Outcome:
    if result.verdict is None:
        return Outcome("failed", WORST_REWARD, result.reason, None, result.seconds)
    loss = float(result.verdict.loss)
    if not bool(result.verdict.usable):
        reason = "loss is not finite" if not np.isfinite(loss) else "scores are not finite or all equal"
        return Outcome("failed", WORST_REWARD, reason, loss if np.isfinite(loss) else None, result.seconds)
    reason = None if result.batch_size == batch_size else f"batch halved to {result.batch_size}: out of memory"
    return Outcome("ok", float(result.verdict.reward), reason, loss, result.seconds)
