"""Comparing strategies by real searches, each of one strategy on one seed.

Each trains children as a search of a user does. What it found is tested apart from the search: the favourite
architecture is trained from scratch, with weights that depend on the seed and the architecture alone, so that
strategies that found the same architecture get the same result.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxad.data import Split, Task
from jaxad.nas import loop, supernet, trial
from jaxad.nas.executors.population import make_executor
from jaxad.nas.space import SearchSpace
from jaxad.nas.trial import TrialConfig
from jaxad.types import Key, Search


class SearchRecord(NamedTuple):
    """What a search evaluated, in order."""

    tokens: list[list[int]]  # [children][T]
    rewards: list[float]  # [children]
    elapsed: list[float]  # [children] seconds from the start, compilation and strategy included


def record_search(
    search: Search,
    space: SearchSpace,
    task: Task,
    settings: TrialConfig,
    *,
    key: Key,
    children: int,
    population: int,
    share: bool = True,
) -> SearchRecord:
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
    tokens, rewards, elapsed = zip(*((one.tokens, one.reward, one.elapsed) for one in trials))
    return SearchRecord(list(tokens), list(rewards), list(elapsed))


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
        usable = result.reward is not None and bool(result.reward.usable)
        yield float(result.reward.value) if usable else trial.WORST_REWARD


def favourite(record: SearchRecord, seconds: float = np.inf) -> list[int]:
    """Tokens of the best child that had ended after so many seconds; the first child, if none had."""
    ended = np.asarray(record.elapsed) <= seconds
    return record.tokens[int(np.argmax(np.where(ended, record.rewards, -np.inf)))]


def fair_seconds(records: Iterable[SearchRecord]) -> float:
    """Wall-clock that all strategies can be given on one seed: what the quickest took for all its children."""
    return min(record.elapsed[-1] for record in records)


def best_at(record: SearchRecord, seconds: np.ndarray) -> np.ndarray:
    """Best reward that a search had found at each of `seconds` [n]; NaN before its first child ended."""
    best = np.concatenate([[np.nan], np.maximum.accumulate(record.rewards)])
    return best[np.searchsorted(record.elapsed, seconds, side="right")]


def evaluate_favourites(
    space: SearchSpace,
    task: Task,
    settings: TrialConfig,
    records: Mapping[str, SearchRecord],
    *,
    seed: int,
    correlate: str | None = None,
) -> dict[str, Any]:
    """Train what the searches of a seed have found from scratch, each architecture once, and test it once.

    Args:
      settings: of a training from scratch.
      records: by the name of a strategy.
      seed: with the tokens it decides weights and batches of a training.
      correlate: the strategy whose children are all trained from scratch, too, to see whether ranks agree.

    Returns:
      {"auroc": {"NAME children": the test AUROC of a strategy's favourite, "NAME seconds": that of its favourite after
      the `fair_seconds`}, "ranks": [(reward in the search, from scratch)] of the children that are correlated}.
    """
    channels, quickest = task.train.images.shape[-1], fair_seconds(records.values())

    def rewards(tokens: Iterable[Iterable[int]], part: Split) -> list[float]:
        images = trial.put(task.train.images, part.images, part.labels)
        with closing(make_executor("auto", images, settings)) as executor:
            rows = np.array([list(row) for row in tokens])
            return list(rewards_from_scratch(space, rows, executor, seed=seed, image_channels=channels))

    found = {f"{name} children": tuple(favourite(record)) for name, record in records.items()}
    found |= {f"{name} seconds": tuple(favourite(record, quickest)) for name, record in records.items()}
    unique = sorted(set(found.values()))
    tested = dict(zip(unique, rewards(unique, task.test)))
    drawn = None if correlate is None else records[correlate]
    ranks = [] if drawn is None else list(zip(drawn.rewards, rewards(drawn.tokens, task.valid)))
    return {"auroc": {what: tested[tokens] for what, tokens in found.items()}, "ranks": ranks}
