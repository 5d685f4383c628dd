"""Children train elsewhere: an executor of children that hands them to an executor of the standard library.

Whatever has `submit` can carry them: processes of this machine, a Dask or MPI cluster, threads. All children of a
population start from the same shared weights, so who trains which, and in what order they come back, changes nothing.
With a child travel the slices of the shared weights that it uses, both ways, and the names of what it is to do. Images
travel once to every process: one that does not have them says so, and is sent them with its child.

What goes wrong with a worker (it is killed, hangs, is short of memory) costs the child a try. After `TRIES` it has
failed, for a reason that its trial tells. What goes wrong with a child itself happens as it would here.
"""

import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxad.nas.executors import worker
from jaxad.nas.trial import Job, Result, Reward, TrialConfig, TrialData
from jaxad.nn.cost import flops

TRIES = 3
ANY = ""  # the name of the input where a space has but one
WAITS = 1.0  # seconds after which it is looked whether anything is late


class Workers(NamedTuple):
    """Who trains."""

    pool: futures.Executor  # one with a method `abandon(future)` is told of calls that hang
    count: Callable[[], int]  # processes that work at a time, now
    timeout: float | None = None  # seconds after which a child is given to another
    plugins: tuple[str, ...] = ()  # paths of Python files that workers import first


class Handed(NamedTuple):
    """What a worker has done: one line of the account of who trained what."""

    worker: str  # host and process
    began: float  # seconds, by this process's `time.perf_counter`
    ended: float
    sent: int  # bytes of arrays
    received: int


class _Call(NamedTuple):
    """A child that somebody works on."""

    index: int  # of the job
    since: float
    sent: int
    relieves: str | None  # the worker that had asked for the images which go with it


class Remote:
    """Trains children on workers, as many at a time as these are.

    Args:
      data: what children see, by the name of the input where the space has several.
      on_child: told who has trained a child, as soon as it is back.
      say: told, once each, what a person should know.
    """

    def __init__(
        self,
        workers: Workers,
        data: TrialData | Mapping[str, TrialData],
        config: TrialConfig,
        *,
        on_child: Callable[[Handed], None] = lambda handed: None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._workers, self._config, self._on_child, self._say = workers, config, on_child, say
        given = data if isinstance(data, Mapping) else {ANY: data}
        self._arrays = {name: worker.arrays_of(seen) for name, seen in given.items()}
        self._digests = {name: worker.digest_of(arrays) for name, arrays in self._arrays.items()}
        self._programs: dict[tuple[str, str], int] = {}  # by worker and images
        self._said: set[str] = set()
        self._hanging: list[futures.Future] = []  # abandoned, and nobody knows whether they have ended
        self._populations: list[_Population] = []  # that are not finished, in the order in which they began

    @property
    def batch_size(self) -> int:
        """What children are run with unless memory is short."""
        return self._config.batch_size

    @property
    def compiles(self) -> int:
        """Programs that workers have compiled, or loaded from their persistent caches, so far."""
        return sum(self._programs.values())

    def close(self) -> None:
        """Give up what is not finished; the pool is whoever's who made it."""
        for population in list(self._populations):
            population.close()

    def __call__(self, jobs: Sequence[Job]) -> Iterator[Result]:
        """Run the jobs; results in their order, each as soon as it and all before it are there.

        Workers begin at once. Jobs of a call that was made before, and has not ended, go first; `close` of what is
        returned gives up those that are not finished. Raises ValueError where a worker has other versions, or where
        there is no pool any more.
        """
        self._populations.append(_Population(self, list(jobs)))
        self.hand_out()
        return self._populations[-1]

    def hand_out(self) -> None:
        """As many jobs as there are places for."""
        if not any(population.waits() for population in self._populations):
            return
        places = self.places()  # asked once: a cluster has to look
        for population in self._populations:
            population.hand_out(places - sum(len(each.running) for each in self._populations), places)

    def collect(self) -> None:
        """What has come back since, of all calls, and what is late."""
        calls = {future: population for population in self._populations for future in population.running}
        done, _ = futures.wait(calls, timeout=WAITS, return_when=futures.FIRST_COMPLETED)
        if not calls:  # there are no workers: nothing is handed out until there are
            time.sleep(WAITS)
        for population in self._populations:
            population.take([future for future in done if calls[future] is population])
            population.give_up_late()

    def forget(self, population: "_Population") -> None:
        """Its places are for others."""
        self._populations.remove(population)

    # ---- what a population asks for

    def submit(self, job: Job, ahead: list[Job], with_images: bool) -> tuple[futures.Future, int]:
        """Hand out a job; the future of its answer, and how many bytes of arrays went with it."""
        seen = self._seen(job)
        message = worker.message_of(
            job, self._config, self._digests[seen], [each.architecture for each in ahead], self._workers.plugins
        )
        if with_images:
            message["arrays"] = self._arrays[seen]
        try:
            return self._workers.pool.submit(worker.train, message), _bytes(message)
        except (futures.BrokenExecutor, RuntimeError, OSError) as error:
            raise ValueError(
                f"there are no workers any more ({_line(error)}): start others, and resume the run"
            ) from error

    def cost(self, job: Job) -> float:
        """What a job takes, in operations for an image."""
        return flops(job.architecture, self._arrays[self._seen(job)]["train"].shape[1:])

    def places(self) -> int:
        """How many children may be with workers now; 0 while there are no workers."""
        self._hanging = [future for future in self._hanging if not future.done()]
        count = self._workers.count()
        if not count:
            self._say_once("there are no workers now: waiting for some")
        return max(1, count - len(self._hanging)) if count else 0

    def abandon(self, future: futures.Future) -> None:
        """Wait for a call no longer."""
        if hasattr(self._workers.pool, "abandon"):
            self._workers.pool.abandon(future)
        elif not future.cancel():
            self._hanging.append(future)

    @property
    def timeout(self) -> float:
        return math.inf if self._workers.timeout is None else self._workers.timeout

    def result(self, job: Job, call: _Call, answer: worker.Message) -> Result:
        """The result in an answer of the kind "trained"."""
        now, who = time.perf_counter(), answer["worker"]
        self._programs[who, self._digests[self._seen(job)]] = answer["programs"]
        if answer["threads"] != worker.threads():
            self._say_once(
                f"{who} computes with {answer['threads']} threads and this process with {worker.threads()}: results "
                f"may differ in their last digits; have workers begin with NPROC={worker.threads()}"
            )
        self._on_child(Handed(who, now - answer["busy"], now, call.sent, _bytes(answer)))
        reward = None if answer["reward"] is None else Reward(*answer["reward"])
        return Result(answer["params"], reward, answer["reason"], answer["batch_size"], answer["seconds"])

    def _seen(self, job: Job) -> str:
        name = ANY if ANY in self._arrays else job.architecture.input
        if name not in self._arrays:
            known = ", ".join(self._arrays)
            raise ValueError(f"no worker trains children of the input {name}: there are those of {known}")
        return name

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._say(text)


class _Population:
    """The jobs of one call, and where each of them is."""

    def __init__(self, remote: Remote, jobs: list[Job]) -> None:
        self._remote, self._jobs = remote, jobs
        # The largest first: who begins last with one of these is waited for by all others.
        self._waiting = deque(sorted(range(len(jobs)), key=lambda index: -remote.cost(jobs[index])))
        self.running: dict[futures.Future, _Call] = {}
        self._asked: dict[int, str] = {}  # by job, the worker that asked for images with it
        self._relieved: set[str] = set()  # workers that images are on their way to
        self._held: list[int] = []  # jobs that wait until a worker has images
        self._tries = [0] * len(jobs)
        self._done: dict[int, Result] = {}
        self._next = 0  # of the results
        self._open = True

    def __iter__(self) -> Iterator[Result]:
        return self

    def __next__(self) -> Result:
        if not self._open or self._next == len(self._jobs):
            self.close()
            raise StopIteration
        try:
            while self._next not in self._done:
                self._remote.hand_out()
                self._remote.collect()
            self._remote.hand_out()  # nobody waits while the caller looks at what there is
        except BaseException:
            self.close()
            raise
        self._next += 1
        return self._done.pop(self._next - 1)

    def close(self) -> None:
        """Give up what is not finished."""
        if self._open:
            self._open = False
            self._remote.forget(self)
            for future in self.running:
                self._remote.abandon(future)

    def waits(self) -> bool:
        """Whether there is anything to hand out."""
        return bool(self._waiting)

    def hand_out(self, free: int, places: int) -> None:
        """Jobs for so many free ones of the places."""
        for _ in range(min(free, len(self._waiting))):
            index = self._waiting.popleft()
            # Whoever gets this one is likely to get the one that is as many later as there are workers.
            after = list(itertools.islice(self._waiting, places - 1, places))
            ahead = [self._jobs[later] for later in after]
            relieves = self._asked.pop(index, None)
            future, sent = self._remote.submit(self._jobs[index], ahead, with_images=relieves is not None)
            self.running[future] = _Call(index, time.perf_counter(), sent, relieves)

    def take(self, done: list[futures.Future]) -> None:
        """What has come back."""
        for future in sorted(done, key=lambda future: self.running[future].index):
            self._take(self.running.pop(future), future)

    def give_up_late(self) -> None:
        """Hand out anew what takes too long."""
        late = time.perf_counter() - self._remote.timeout
        for future, call in list(self.running.items()):
            if call.since < late:
                del self.running[future]
                self._remote.abandon(future)
                self._lose(call, f"longer than child_timeout, {self._remote.timeout:g} s")

    def _take(self, call: _Call, future: futures.Future) -> None:
        try:
            answer = future.result()
        except (ModuleNotFoundError, AttributeError) as error:
            raise ValueError(
                f"a worker has no {worker.__name__} ({_line(error)}): install jaxad {worker.VERSION} there"
            ) from error
        except (Exception, futures.CancelledError) as error:  # of the worker, not of the child
            self._lose(call, _line(error))
            return
        kind, who = answer["kind"], answer["worker"]
        if kind == "refused":
            theirs, mine = worker.said(answer["versions"]), worker.said(worker.versions())
            raise ValueError(f"worker {who} has {theirs}, and this process {mine}: install the same on both")
        if kind == "error":
            raise ValueError(answer["text"]) if answer["of_value"] else RuntimeError(f"of {who}: {answer['text']}")
        if kind == "short":
            self._lose(call, answer["reason"])
        elif kind == "missing":
            # One child takes the images there; others that were at that worker meanwhile wait for it.
            if who in self._relieved:
                self._held.append(call.index)
            else:
                self._relieved.add(who)
                self._asked[call.index] = who
                self._waiting.appendleft(call.index)
        else:
            self._done[call.index] = self._remote.result(self._jobs[call.index], call, answer)
            self._relieve(call)

    def _relieve(self, call: _Call) -> None:
        if call.relieves is not None:
            self._relieved.discard(call.relieves)
            self._waiting.extendleft(sorted(self._held, reverse=True))
            self._held.clear()

    def _lose(self, call: _Call, reason: str) -> None:
        """A try has come to nothing: hand the job out again, or give up."""
        self._relieve(call)
        self._tries[call.index] += 1
        if self._tries[call.index] < TRIES:
            self._waiting.appendleft(call.index)
        else:
            lost = f"given to workers {TRIES} times, and lost: {reason}"
            self._done[call.index] = Result(None, None, lost, self._remote.batch_size, 0.0)


def _bytes(message: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(message) if isinstance(leaf, np.ndarray))


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
