"""Evaluating a population: take its children's weights, train and evaluate them, merge what they learned (Eq. 3)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxad.nas import supernet
from jaxad.nas.executors import hosts
from jaxad.nas.executors.per_input import PerInput
from jaxad.nas.executors.sequential import Sequential
from jaxad.nas.executors.vmapped import Vmapped
from jaxad.nas.trial import WORST_REWARD, Job, Result, TrialConfig, TrialData
from jaxad.nn.architecture import Architecture
from jaxad.types import Key, Params

EXECUTORS = {"sequential": Sequential, "vmapped": Vmapped}


def make_executor(name: str, data: TrialData | Mapping[str, TrialData], config: TrialConfig) -> Any:
    """The executor of that name, or, for "auto", the one that suits the backend; of several inputs one for each.

    Children with different weights are slower side by side than one by one on a CPU, where a batched convolution is a
    grouped one; accelerators gain from it where children share shapes. Results agree up to rounding. Where other
    hosts follow this one, children are side by side over the devices of all. Raises ValueError for an unknown name.
    """
    if name == "auto":
        name = "sequential" if jax.default_backend() == "cpu" and not hosts.leads() else "vmapped"
    if name not in EXECUTORS:
        raise ValueError(f"executor is {name!r}; choose auto, {', '.join(EXECUTORS)}")
    make = hosts.Leading if hosts.leads() else EXECUTORS[name]
    if isinstance(data, Mapping):
        return PerInput({seen: make(own, config) for seen, own in data.items()})
    return make(data, config)


class Outcome(NamedTuple):
    """What a trial says about one child. Plain Python values, ready for a log."""

    status: str  # "ok" or "failed"
    reward: float  # the worst possible one where it failed
    reason: str | None  # why it failed, or that its batch was halved
    loss: float | None  # of the last training step
    seconds: float


class Evaluated(NamedTuple):
    """What a population has come to."""

    outcomes: list[Outcome]  # of its children, in order; not of all of them where it was stopped
    shared: Params  # weights for the next population: merged over the children that trained without failing
    stopped: bool  # whether `on_outcome` ended the population


class Begun(NamedTuple):
    """A population that is on its way."""

    jobs: list[Job]
    results: Any  # an iterator with `close`; whoever trains elsewhere has begun to


def begin_population(executor: Any, shared: Params, architectures: Sequence[Architecture], key: Key) -> Begun:
    """Hand the children of one `ask` to an executor, each with its part of the shared weights.

    All children start from the same shared weights, so their order does not matter.

    Args:
      executor: from `make_executor`, or any callable from jobs to an iterator of results.
      shared: omega, on the host, or that of every input by its name; not modified.
      architectures: of the children.
      key: consumed; every child is handed a part of it.
    """
    keys = jax.random.split(key, len(architectures))
    jobs = [Job(architecture, supernet.take(shared, architecture), k) for architecture, k in zip(architectures, keys)]
    return Begun(jobs, executor(jobs))


def finish_population(
    executor: Any,
    shared: Params,
    begun: Begun,
    *,
    on_outcome: Callable[[int, Outcome], bool | None] = lambda place, outcome: None,
) -> Evaluated:
    """Wait for the children of a population, and merge what they learned (Eq. 3).

    Args:
      executor: that it was begun with.
      shared: what its changes are added to: the weights that its children started from, or later ones.
      begun: not to be used again.
      on_outcome: called after every child with its place in the population, from 0; a true answer ends the
        population there.
    """
    outcomes, stopped = [], False

    def trained() -> Iterator[tuple[Architecture, Params, Params]]:
        nonlocal stopped
        with closing(begun.results) as results:
            for job, result in zip(begun.jobs, results):
                outcome = _outcome(result, executor.batch_size)
                outcomes.append(outcome)
                stopped = bool(on_outcome(len(outcomes) - 1, outcome))
                if outcome.status == "ok":
                    yield job.architecture, job.params, result.params
                if stopped:
                    return

    merged = supernet.merge(shared, trained())  # each as it comes, while others may still train elsewhere
    return Evaluated(outcomes, merged, stopped)


def evaluate_population(
    executor: Any,
    shared: Params,
    architectures: Sequence[Architecture],
    key: Key,
    *,
    on_outcome: Callable[[int, Outcome], bool | None] = lambda place, outcome: None,
) -> Evaluated:
    """`begin_population` and `finish_population`, one after the other."""
    begun = begin_population(executor, shared, architectures, key)
    return finish_population(executor, shared, begun, on_outcome=on_outcome)


def _outcome(result: Result, batch_size: int) -> Outcome:
    if result.reward is None:
        return Outcome("failed", WORST_REWARD, result.reason, None, result.seconds)
    loss = float(result.reward.loss)
    if not bool(result.reward.usable):
        reason = "loss is not finite" if not np.isfinite(loss) else "scores are not finite or all equal"
        return Outcome("failed", WORST_REWARD, reason, loss if np.isfinite(loss) else None, result.seconds)
    reason = None if result.batch_size == batch_size else f"batch halved to {result.batch_size}: out of memory"
    return Outcome("ok", float(result.reward.value), reason, loss, result.seconds)
