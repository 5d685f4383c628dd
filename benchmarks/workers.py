"""Children a minute by worker processes with a core each, against one such process, and against no worker at all.

    python benchmarks/workers.py
    python benchmarks/workers.py --workers 1 2 4 --children 40 --steps 20 --rounds 5 --json workers.json

Each way trains the same random children of the paper's space from the same shared weights, in turns, after a round that
is not counted, in which it compiles. The children are populations of which one begins ahead (--ahead of a search), so
that no worker waits for the slowest child: the steady state. Every process computes with one thread on a core of its
own; this process, which hands children out and merges, is not pinned, so its share lies on top. With --unpinned workers
have no core of their own, as in `jaxad search --workers`. All ways have to return the same bits.
"""

import argparse
import contextlib
import json
import os
import tempfile
from pathlib import Path

os.environ["NPROC"] = "1"  # threads of XLA, here and in workers: read when JAX starts

import jax
import numpy as np
from search_throughput import machine
from search_worker import distinct_children, images
from take_turns import compared, loads, spread, take_turns, timed

from jaxad._utils.compile import enable_compilation_cache
from jaxad._utils.processes import Processes
from jaxad.nas import supernet, trial
from jaxad.nas.executors.remote import Handed, Remote, Workers
from jaxad.nas.executors.sequential import Sequential
from jaxad.nas.executors.worker import begin_local
from jaxad.nas.space import SearchSpace
from jaxad.nas.trial import Job, Result, TrialConfig

ALONE = "no worker"


def begin_pinned(folder: str, cores: list[int], cache: str | None) -> None:
    """What a worker does first: it takes a core that no other has."""
    for core in cores:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(Path(folder) / str(core), os.O_CREAT | os.O_EXCL))
            os.sched_setaffinity(0, {core})
            break
    begin_local(cache)


def jobs_of(space: SearchSpace, count: int) -> list[Job]:
    """Random children, each with its slice of the same shared weights."""
    shared = supernet.init(np.random.default_rng(1), space, 1)
    children = [space.to_architecture(tokens) for tokens in distinct_children(space, 0, count)]
    keys = jax.random.split(jax.random.key(0), count)
    return [Job(child, supernet.take(shared, child), key) for child, key in zip(children, keys, strict=True)]


def same(one: list[Result], other: list[Result]) -> bool:
    """Whether rewards and trained weights are equal, bit for bit."""
    pairs = zip(jax.tree.leaves([r.params for r in one]), jax.tree.leaves([r.params for r in other]), strict=True)
    rewards = all(np.array_equal(a.reward.value, b.reward.value, equal_nan=True) for a, b in zip(one, other))
    return rewards and all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], metavar="N", help="processes (default 1 2)")
    parser.add_argument("--children", type=int, default=12, help="of a population (default 12)")
    parser.add_argument("--populations", type=int, default=3, help="of a round (default 3)")
    parser.add_argument("--steps", type=int, default=10, help="of a child (default 10)")
    parser.add_argument("--size", type=int, default=16, help="pixels of a side (default 16)")
    parser.add_argument("--unpinned", action="store_true", help="workers may use all cores")
    parser.add_argument("--rounds", type=int, default=5, help="after one that is not counted (default 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="written at the end")
    args = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if min(*args.workers, args.children, args.populations, args.steps, args.rounds) < 1 or max(args.workers) > len(
        cores
    ):
        parser.error(f"numbers are 1 or more, and --workers {len(cores)} at most, one for each core that may be used")
    enable_compilation_cache()
    space, config = SearchSpace(), TrialConfig(steps=args.steps)
    seen = images(args.size, 1000, 200)
    data = trial.put(seen.train, seen.valid, seen.valid_labels)
    jobs = jobs_of(space, args.children * args.populations)
    found: dict[str, list[Result]] = {}
    moved: dict[str, list[Handed]] = {}
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory() as name:
        ways = {ALONE: stack.enter_context(contextlib.closing(Sequential(data, config)))}
        for count in args.workers:
            way = f"{count} worker{'s'[: count > 1]}"
            (folder := Path(name) / way).mkdir()
            begun = str(folder), [] if args.unpinned else cores, jax.config.jax_compilation_cache_dir
            pool = stack.enter_context(Processes(count, start=begin_pinned, args=begun))
            moved[way] = []
            ways[way] = Remote(Workers(pool, lambda count=count: count), data, config, on_child=moved[way].append)

        def train(way: str) -> None:
            parts = [jobs[first : first + args.children] for first in range(0, len(jobs), args.children)]
            begun = [ways[way](parts[0])]
            found[way] = []
            for following in (*parts[1:], None):
                begun += [] if following is None else [ways[way](following)]
                found[way] += begun.pop(0)

        turns = take_turns({way: lambda way=way: timed(lambda: train(way)) for way in ways}, args.rounds)
    wrong = [way for way in ways if not same(found[way], found[ALONE])]
    print(f"{len(jobs)} children x {args.steps} steps ({loads(turns)})\n{compared(turns, None)}")
    first = f"{args.workers[0]} worker{'s'[: args.workers[0] > 1]}"
    for way, costs in turns.items():
        rates = [60 * len(jobs) / cost["seconds"] for cost in costs]
        ratios = [own["seconds"] / cost["seconds"] for cost, own in zip(costs, turns[first], strict=True)]
        print(f"{way}: {spread(rates)} children a minute, {spread(ratios)} times those of {first}")
    print("bits: " + (f"other ones by {', '.join(wrong)}" if wrong else "the same by all ways"))
    if args.json:
        megabytes = {way: sum(each.sent + each.received for each in handed) / 1e6 for way, handed in moved.items()}
        content = {"machine": machine(), "turns": turns, "megabytes": megabytes, "same": not wrong}
        args.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
