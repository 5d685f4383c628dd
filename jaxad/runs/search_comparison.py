"""Searches of several strategies from many seeds, none of them repeated: in a table of rewards, or for real.

In a table every architecture of a small space has been trained from scratch once; all seeds of a strategy then search
it in one program. A real search trains children that share weights, in a process of its own, as it compiles and times
whatever a user's search does; what it found is trained from scratch and tested.

    trials.jsonl   a line for every architecture of the table that has been trained
    table.json     all their rewards, which another comparison may search as well (--table)
    cells.jsonl    a line for every strategy that searched it, or for every real search and every seed's tests
"""

import dataclasses
import functools
import time
from collections.abc import Iterator
from contextlib import closing, nullcontext
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxad._utils.compile import enable_compilation_cache
from jaxad._utils.validate import check_at_least
from jaxad.data import Task, TaskConfig
from jaxad.data.checking import Checked
from jaxad.nas import trial
from jaxad.nas.analysis.benchmark import SearchRecord, evaluate_favourites, record_search
from jaxad.nas.analysis.contenders import CAN_BE_LEFT_OUT, SCRATCH, SPACES, contenders
from jaxad.nas.analysis.tabular import Table, explore_table, read_table, train_table, write_table
from jaxad.nas.executors.population import make_executor
from jaxad.nas.space import SearchSpace
from jaxad.nas.strategies.autoad import AutoADConfig
from jaxad.report.search_outcomes import Outcomes, search_outcomes, table_outcomes
from jaxad.runs.claims import Claims
from jaxad.runs.cli import RunConfig
from jaxad.runs.dask_pool import DaskPool
from jaxad.runs.folder import Run
from jaxad.runs.grid import Record, Records, fill
from jaxad.runs.progress import Progress
from jaxad.types import Array, Key, Search


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComparisonConfig(RunConfig, TaskConfig):
    """Whom to compare, and by which searches."""

    auto_side: int = 64
    space: Literal["tiny", "small", "two-layer", "medium"] = "small"
    """Sequences: tiny 192, small 3,072 (both of one layer), two-layer 16,384, medium 85 million (--mode search)."""
    table: str | None = None
    """With --mode table: search the space and the rewards of this file, and train nothing. Every such comparison writes
    one, table.json; benchmarks/tables/ has some."""
    steps: int = 20
    """Training steps of every child. It is 10 with --mode search."""
    batch_size: int = 32
    """Number of images in one training step."""
    retrain_steps: int = 60
    """With --mode search: training steps from scratch of favourites, and of the children that share no weights."""
    correlate: int = 2
    """With --mode search: seeds whose random children are trained from scratch, too, to see whether ranks agree."""
    num_seeds: int = 100
    """Number of searches of every strategy. It is 15 with --mode search."""
    children: int = 100
    """Number of distinct architectures that a search evaluates. It is 40 with --mode search."""
    population: int = 5
    """Number of proposals in one iteration."""
    seed: int = 0
    """First seed of everything random: the same seed gives the same result."""
    without: tuple[str, ...] = ()
    """Leave these out: no-curiosity, no-replay, no-sharpening, plain-lstm, paper, evolution, random-from-scratch."""
    controller: AutoADConfig = dataclasses.field(default_factory=AutoADConfig)
    """Settings of the controller whose parts are left out one by one."""
    jobs: int = 1
    """With --mode search: how many searches, each in a process of its own, run at a time."""
    scheduler: str | None = None
    """With --mode search: Dask scheduler whose workers search, an address or its file; they read the data there."""

    def check(self) -> None:
        """Raise ValueError for values out of range."""
        check_at_least(self, "num_seeds", "children", "population", "steps", "retrain_steps", "jobs")
        if self.num_seeds < 2:
            raise ValueError(f"--num-seeds is {self.num_seeds}; a comparison needs at least 2")
        if not 0 <= self.correlate <= self.num_seeds:
            raise ValueError(f"--correlate is {self.correlate}; give a number from 0 to --num-seeds {self.num_seeds}")
        size, population = self.searched().canonical_cardinality, self.population
        if self.children % population or self.children > size:
            raise ValueError(
                f"--children is {self.children}; give a multiple of --population {population} up to {size}"
            )
        for name in self.without:
            if name not in CAN_BE_LEFT_OUT:
                raise ValueError(f"--without {name}: choose among {', '.join(CAN_BE_LEFT_OUT)}")
        self.controller.check()
        self.child(self.steps)

    def checked(self) -> list[Checked]:
        """What is in the data; ValueError where none is looked at."""
        if self.table is not None:
            raise ValueError(f"--check-data looks at images, and --table {self.table} has none: leave one of them out")
        return super().checked()

    def searched(self) -> SearchSpace:
        """The space of all searches; ValueError where a table cannot be read or is of another one."""
        if self.table is None:
            return SPACES[self.space]
        space = read_table(self.table).space
        if self.space != ComparisonConfig.space and SPACES[self.space] != space:
            raise ValueError(f"--table {self.table} is not of --space {self.space}; leave --space out")
        return space

    def child(self, steps: int) -> trial.TrialConfig:
        """How a child trains."""
        return trial.TrialConfig(steps=steps, batch_size=self.batch_size)

    def tasks(self) -> Iterator[tuple[str, Task]]:
        """The task of every seed, by a name for it, each made when its turn comes: what real searches depend on."""
        return ((f"seed {seed}", self.load_task(self.seed + seed)) for seed in range(self.num_seeds))

    def strategies(self) -> dict[str, Search]:
        """What is compared, by name."""
        return contenders(self.searched(), self.controller, population=self.population, without=self.without)


def by_table(config: ComparisonConfig, task: Task | None, folder: Run) -> Outcomes:
    """Search a table of rewards from many seeds, all seeds of a strategy in one program."""
    (space, rewards, about), strategies = table_of(config, task, folder), config.strategies()
    options = {"children": config.children, "population": config.population}

    def searched(name: str) -> Record:
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(config.seed), np.arange(config.num_seeds))

        def explore(key: Key, known: Array) -> Array:
            return explore_table(strategies[name], space, known, key, **options).rewards

        started = time.perf_counter()
        found = np.asarray(jax.jit(jax.vmap(explore, (0, None)))(keys, jnp.asarray(rewards)))
        took = f"{time.perf_counter() - started:.1f} s"
        config.say(f"{name}: {config.num_seeds} searches of {config.children} children, {took}")
        return {"rewards": found}

    records = Records(folder.path / "cells.jsonl")
    fill({name: name for name in strategies}, records, searched, label="strategies", quiet=config.quiet)
    found = {name: np.array(records[name]["rewards"], np.float32) for name in strategies}
    outcomes = table_outcomes(found, rewards)
    return outcomes._replace(facts={"how the table's children trained": about} | outcomes.facts)


def table_of(config: ComparisonConfig, task: Task | None, folder: Run) -> Table:
    """The table of the run folder: written when all functions are trained, or a copy of the file that is searched.

    Args:
      task: what children train and are rewarded on; None where a file has the rewards.
    """
    path = folder.path / "table.json"
    if not path.exists():
        if task is None:
            known = read_table(config.table)
        else:
            about = {"task": task.name, "seed": config.seed, "images": len(task.train.images)}
            about |= {"image_shape": task.train.images.shape[1:]} | dataclasses.asdict(config.child(config.steps))
            known = Table(SPACES[config.space], trained_rewards(config, task, folder), about)
        write_table(path, known)
    return read_table(path)


def trained_rewards(config: ComparisonConfig, task: Task, folder: Run) -> np.ndarray:
    """Validation reward of every sequence, each function trained once from weights of its own."""
    space, records = SPACES[config.space], Records(folder.path / "trials.jsonl", sync=False)
    known = {tuple(record["tokens"]): record["reward"] for record in records.values()}
    images = trial.put(task.train.images, task.valid.images, task.valid.labels)
    with (
        closing(make_executor("auto", images, config.child(config.steps))) as executor,
        Progress(space.canonical_cardinality, label="table", start=len(known), quiet=config.quiet) as progress,
    ):

        def on_child(tokens: tuple[int, ...], reward: float) -> None:
            records[" ".join(map(str, tokens))] = {"tokens": tokens, "reward": reward}
            progress.update(len(records), best=max(record["reward"] for record in records.values()))

        channels = task.train.images.shape[-1]
        return train_table(space, executor, seed=config.seed, image_channels=channels, known=known, on_child=on_child)


def by_search(config: ComparisonConfig, folder: Run) -> Outcomes:
    """Search for real, every search in a process of its own, then test the favourites."""
    # Of this module, so that a worker has its class, too.
    config = ComparisonConfig(
        **{field.name: getattr(config, field.name) for field in dataclasses.fields(ComparisonConfig)}
    )
    with DaskPool(config.scheduler) if config.scheduler else nullcontext() as pool:
        records = Records(folder.path / "cells.jsonl")
        options = {"jobs": pool.count() if pool else config.jobs, "pool": pool, "quiet": config.quiet}
        options["claims"] = Claims(folder.path / ".claims", lambda name: records.refresh())
        return _searched(config, records, options)


def _searched(config: ComparisonConfig, records: Records, options: dict[str, Any]) -> Outcomes:
    names, seeds = [*config.strategies(), *({SCRATCH} - {*config.without})], range(config.num_seeds)
    # Seed by seed, so that whatever changes on the machine meanwhile meets all strategies.
    cells = {f"{seed}-{name}": (seed, name) for seed in seeds for name in names}
    fill(cells, records, functools.partial(search_for_real, config), label="searches", **options)
    found = {name: [SearchRecord(**records[f"{seed}-{name}"]) for seed in seeds] for name in names}
    cells = {f"{seed}-tests": (seed, {name: own[seed] for name, own in found.items()}) for seed in seeds}
    fill(cells, records, functools.partial(test_favourites, config), label="tests", **options)
    return search_outcomes(found, [records[name] for name in cells], scratch=SCRATCH)


def search_for_real(config: ComparisonConfig, cell: tuple[int, str]) -> Record:
    """One strategy on one seed, which has images of its own."""
    enable_compilation_cache(config.cache_dir)
    (seed, name), space = cell, SPACES[config.space]
    share = name != SCRATCH
    return record_search(
        config.strategies()[name if share else "random"], space, config.load_task(config.seed + seed),
        config.child(config.steps if share else config.retrain_steps),
        key=jax.random.fold_in(jax.random.key(config.seed), seed),
        children=config.children, population=config.population, share=share,
    )._asdict()  # fmt: skip


def test_favourites(config: ComparisonConfig, cell: tuple[int, dict[str, SearchRecord]]) -> Record:
    """What the searches of a seed have found, trained from scratch and tested."""
    enable_compilation_cache(config.cache_dir)
    (seed, records), correlate = cell, "random" if cell[0] < config.correlate else None
    task, settings = config.load_task(config.seed + seed), config.child(config.retrain_steps)
    options = {"seed": config.seed + seed, "correlate": correlate}
    return evaluate_favourites(SPACES[config.space], task, settings, records, **options)
