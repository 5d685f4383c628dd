"""Comparing strategies by real searches: a cell is one method on one seed.

Each cell trains children as a search of a user does. What it found is judged apart from the search: the favourite
architecture is trained from scratch, with weights that depend on the seed and the architecture alone, so that methods
that found the same architecture get the same result.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxad.data import Task
from jaxad.nas import loop, supernet, trial
from jaxad.nas.executors.population import make_executor
from jaxad.nas.space import SearchSpace
from jaxad.nas.trial import TrialConfig
from jaxad.types import Key, Search


class Cell(NamedTuple):
    """What a search evaluated, in order."""

    tokens: list[list[int]]  # [children][T]
    rewards: list[float]  # [children]
    elapsed: list[float]  # [children] seconds from the start, compilation and strategy included


def search_cell(
    search: Search,
    space: SearchSpace,
    task: Task,
    settings: TrialConfig,
    *,
    key: Key,
    children: int,
    population: int,
    share: bool = True,
) -> Cell:
    """Search for real.

    Args:
      key: consumed.
      children: a multiple of `population`, which is what the strategy proposes per ask.
      share: whether children go on from what others learned; False gives every population weights of its own.
    """
    started = time.perf_counter()
    start_key, search_key = jax.random.split(key)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(start_key)))
    image_shape = task.train.images.shape[1:]
    images = trial.put(task.train.images, task.valid.images, task.valid.labels)
    search = loop.jit(search)
    trials: list[loop.Trial] = []
    with closing(make_executor("auto", images, settings)) as executor:
        state = loop.start(start_key, search, space, image_shape[-1])
        for goal in (children,) if share else range(population, children + 1, population):
            if not share:
                state = state._replace(shared=supernet.init(rng, space, image_shape[-1]))
            state = loop.explore(
                search, space, executor, state, key=search_key, children=goal, image_shape=image_shape,
                trials=tuple(trials), elapsed=time.perf_counter() - started, on_trial=trials.append,
            ).state  # fmt: skip
    return Cell([t.tokens for t in trials], [t.reward for t in trials], [t.elapsed for t in trials])


def rewards_from_scratch(
    space: SearchSpace, tokens: Iterable[np.ndarray], executor: Any, *, seed: int, image_channels: int
) -> Iterator[float]:
    """Rewards of children that share nothing: weights and batches of each follow from the seed and its tokens."""

    def job(row: np.ndarray) -> trial.Job:
        rng = np.random.default_rng([seed, *(int(token) for token in row)])
        architecture = space.to_architecture(row)
        params = supernet.take(supernet.init(rng, space, image_channels), architecture)
        return trial.Job(architecture, params, jax.random.key(int(rng.integers(2**31))))

    for result in executor([job(row) for row in tokens]):
        usable = result.verdict is not None and bool(result.verdict.usable)
        yield float(result.verdict.reward) if usable else trial.WORST_REWARD


def favourite(cell: Cell, seconds: float = np.inf) -> list[int]:
    """Tokens of the best child that had ended after so many seconds; the first child, if none had."""
    ended = np.asarray(cell.elapsed) <= seconds
    return cell.tokens[int(np.argmax(np.where(ended, cell.rewards, -np.inf)))]


def fair_seconds(cells: Mapping[str, Cell]) -> float:
    """Wall-clock that all methods of one seed can be given: what the quickest took for all its children."""
    return min(cell.elapsed[-1] for cell in cells.values())


def best_at(cell: Cell, seconds: np.ndarray) -> np.ndarray:
    """Best reward that a cell had found at each of `seconds` [n]; NaN before its first child ended."""
    best = np.concatenate([[np.nan], np.maximum.accumulate(cell.rewards)])
    return best[np.searchsorted(cell.elapsed, seconds, side="right")]
