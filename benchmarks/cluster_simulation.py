"""How far does a search scale? A run's measured children, replayed for more workers and slower networks than there are.

    python benchmarks/cluster_simulation.py --run RUN                 # the folder of a search, such as runs/autoad-...
    python benchmarks/cluster_simulation.py --run RUN --workers 16 --gigabits 0.1 --per-worker 1 8

What is measured: how long each child of the run trained and scored (its trials, compilation not counted), how large
its slice of the shared weights is, and what this process takes to cut a slice out, to pickle it and to merge it. What
is simulated: one client, which computes one thing at a time and whose network carries one message at a time each way,
and workers that train children as measured. The slices of a population are cut out, it is handed out, the largest
children first, each worker gets its next child once its last one is back, and all are merged as they come; then begins
the next population, or the one after some that have begun ahead. Children are drawn from the run with replacement.
"""

import dataclasses
import heapq
import pickle
import time
from collections import deque
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxad._utils.validate import check_at_least
from jaxad.nas import supernet
from jaxad.nas.space import SearchSpace
from jaxad.nn.architecture import Architecture
from jaxad.runs import cli
from jaxad.runs.folder import read_trials
from jaxad.runs.progress import table

LATENCY = 0.0005  # seconds of a message, besides its bytes
ROUNDS = 20  # populations that are simulated


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Replay the children of a search for other numbers of workers."""

    run: str
    """Folder of a search that has ended."""
    workers: tuple[int, ...] = (8, 64, 512)
    """Numbers of workers."""
    gigabits: tuple[float, ...] = (1.0, 10.0)
    """Speeds of the client's network, in Gbit/s."""
    per_worker: tuple[int, ...] = (1, 4)
    """Children of a population for every worker."""
    ahead: tuple[int, ...] = (0, 1, 3)
    """Populations that begin while one is waited for."""
    steps: int = 1
    """How many times as long children train as they did in the run."""
    seed: int = 0
    """Seed of the draws."""

    is_command_line = True  # errors name flags


class Child(NamedTuple):
    """What a child of the run costs."""

    seconds: float  # of a worker
    size: int  # bytes of its slice, each way
    cut: float  # seconds of the client: to cut out its slice
    pickled: float  # ... to pickle it, and as long again to read it when it is back
    merge: float  # ... to merge it
    flops: float  # by which the search guesses how long it will take


class Replay(NamedTuple):
    """A search that was simulated, shares being of its time."""

    rate: float  # children a minute
    efficiency: float  # in which workers train
    network: float  # in which the client sends, or receives, whatever is more
    client: float  # in which the client computes


def run(config: Config) -> None:
    """Measure, simulate, print."""
    check_at_least(config, "steps")
    trials = [trial for trial in read_trials(config.run) if trial["status"] == "ok"]
    if len(trials) < 2:
        raise ValueError(f"{config.run} has {len(trials)} trained children; give the folder of a search that has ended")
    children, fixed = measured(trials, config.steps)
    seconds, sizes, *client, _ = (np.array(column) for column in zip(*children))
    cut, pickled, merge = (1000 * each.mean() for each in client)
    print(
        f"{Path(config.run).name}: {len(children)} children of {seconds.mean():.2f} s (longest {seconds.max():.2f}), "
        f"slices of {sizes.mean() / 1e6:.2f} MB (largest {sizes.max() / 1e6:.2f}); ms of the client: {cut:.1f} to cut "
        f"one out, {pickled:.1f} to pickle it, {merge:.1f} to merge it, {1000 * fixed:.1f} for a population"
    )
    rows = []
    for workers in config.workers:
        for gigabits in config.gigabits:
            for population in (workers * each for each in config.per_worker):
                for ahead in config.ahead:
                    found = replay(
                        children, fixed, workers, gigabits, population, ahead, np.random.default_rng(config.seed)
                    )
                    rows.append((workers, gigabits, population, ahead, *shown(found)))
    heads = ("workers", "Gbit/s", "population", "ahead", "children/min", "efficiency", "network", "client")
    table("simulated", heads, rows)


def shown(found: Replay) -> tuple[str, ...]:
    """For a row of the table."""
    return (f"{found.rate:,.0f}", *(f"{100 * share:.0f} %" for share in found[1:]))


def measured(trials: list[dict], steps: int = 1) -> tuple[list[Child], float]:
    """What children cost, and the seconds of the client for a population, whatever its size."""
    architectures = [Architecture.from_json(trial["architecture"]) for trial in trials]
    layers = max(architecture.depth for architecture in architectures)
    inputs = tuple(dict.fromkeys(architecture.input for architecture in architectures))
    space = SearchSpace(num_layers=layers, inputs=inputs)
    shared = supernet.init(np.random.default_rng(0), space, dict.fromkeys(inputs, 1))
    children = []
    for trial, architecture in zip(trials, architectures):
        began = time.perf_counter()
        slices = supernet.take(shared, architecture)
        cut = time.perf_counter()
        content = pickle.dumps(slices, protocol=5)
        pickled = time.perf_counter()
        merge = merging(shared, architecture, slices)
        children.append(
            Child(steps * trial["seconds"], len(content), cut - began, pickled - cut, merge, trial["flops"])
        )
    started = time.perf_counter()
    supernet.merge(shared, [])
    return children, time.perf_counter() - started


def merging(shared: dict, architecture: Architecture, slices: dict) -> float:
    """Seconds that a child more in a population takes to merge."""
    times = []
    for members in ([], [(architecture, slices, slices)] * 4):
        started = time.perf_counter()
        supernet.merge(shared, members)
        times.append(time.perf_counter() - started)
    return max(0.0, (times[1] - times[0]) / 4)


class Resource:
    """Something that does one thing at a time, in the order in which it is asked to."""

    def __init__(self) -> None:
        self.free = self.busy = 0.0

    def use(self, now: float, seconds: float) -> float:
        """When it will have done what it is asked to now."""
        self.free, self.busy = max(self.free, now) + seconds, self.busy + seconds
        return self.free


def replay(
    children: list[Child],
    fixed: float,
    workers: int,
    gigabits: float,
    population: int,
    ahead: int,
    rng: np.random.Generator,
) -> Replay:
    """Simulate some populations, of which `ahead` begin before the ones before them have ended."""
    rate, count = gigabits * 1e9 / 8, population * ROUNDS
    drawn = [children[index] for index in rng.integers(0, len(children), count)]
    populations = deque(drawn[first : first + population] for first in range(0, count, population))
    client, up, down = Resource(), Resource(), Resource()
    waiting: deque[tuple[int, Child]] = deque()  # with the number of their population
    at_work: list[tuple[float, int, int, Child]] = []  # when who is back
    left, ended, now = [population] * ROUNDS, 0, 0.0

    def begin(now: float) -> None:
        if populations:
            number, members = ROUNDS - len(populations), populations.popleft()
            client.use(now, sum(child.cut for child in members))
            waiting.extend((number, child) for child in sorted(members, key=lambda child: -child.flops))

    def hand_out(now: float) -> None:
        while waiting and len(at_work) < workers:
            number, child = waiting.popleft()
            sent = up.use(client.use(now, child.pickled), child.size / rate + LATENCY)
            heapq.heappush(at_work, (sent + child.seconds, len(waiting) + count * number, number, child))

    for _ in range(ahead + 1):
        begin(0.0)
    hand_out(0.0)
    while at_work:
        finished, _, number, child = heapq.heappop(at_work)
        back = client.use(down.use(finished, child.size / rate + LATENCY), child.pickled)
        hand_out(back)
        now, left[number] = client.use(back, child.merge), left[number] - 1
        while ended < ROUNDS and not left[ended]:  # in their order
            now, ended = client.use(now, fixed), ended + 1
            begin(now)
        hand_out(now)
    trained = sum(child.seconds for child in drawn)
    shares = (trained / workers, max(up.busy, down.busy), client.busy)
    return Replay(60 * count / now, *(share / now for share in shares))


if __name__ == "__main__":
    cli.main(run, Config)
