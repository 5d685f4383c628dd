"""Uniform random search: the baseline that every other strategy has to beat."""

import math
from typing import NamedTuple

import jax.numpy as jnp

from jaxad._utils.validate import check_counts
from jaxad.nas.space import SearchSpace
from jaxad.nas.strategies.books import Best, StrategyInfo, clean, improve, no_best
from jaxad.nas.strategies.registry import strategy
from jaxad.types import Array, Key, Search


class RandomState(NamedTuple):
    """What random search remembers: it only keeps the books."""

    num_evaluated: Array  # [] int32
    failed: Array  # [] int32
    mean: Array  # [] float32 over the successful
    best: Best


@strategy("random", "Uniform random search.", uniform=math.inf)
def random_search(space: SearchSpace, *, population: int = 1) -> Search:
    """Propose `population` uniform architectures per ask and learn nothing.

    A reward that is not finite marks a failed child. Raises ValueError for population < 1.
    """
    check_counts(population=population)

    def init(key: Key) -> RandomState:
        del key  # part of the contract; there is nothing to draw
        return RandomState(jnp.int32(0), jnp.int32(0), jnp.float32(0.0), no_best(space))

    def ask(key: Key, state: RandomState) -> tuple[RandomState, Array]:
        return state, space.sample(key, population)

    def tell(key: Key, state: RandomState, tokens: Array, rewards: Array) -> tuple[RandomState, StrategyInfo]:
        del key  # nothing is drawn
        tokens, rewards, failures = clean(space, tokens, rewards)
        num_evaluated, failed = state.num_evaluated + rewards.shape[0], state.failed + failures
        gain = jnp.sum(jnp.where(jnp.isfinite(rewards), rewards - state.mean, 0.0))
        mean = state.mean + gain / jnp.maximum(num_evaluated - failed, 1)
        state = RandomState(num_evaluated, failed, mean, improve(state.best, tokens, rewards))
        shown = jnp.where(num_evaluated > failed, mean, -jnp.inf)
        return state, StrategyInfo(num_evaluated, failed, *state.best, shown)

    return Search(init, ask, tell)
