"""Regularised evolution: a queue of children, of which the best of a random few has the next one."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxad._utils.validate import check_counts
from jaxad.nas.space import SearchSpace
from jaxad.nas.strategies.books import Best, StrategyInfo, clean, finite_mean, improve, no_best
from jaxad.nas.strategies.registry import strategy
from jaxad.types import Array, Key, Search

SIZE = 20  # living children; so many first proposals are uniform


class EvolutionState(NamedTuple):
    """The living population as a ring: child number n lives in slot n mod S until child n + S replaces it."""

    tokens: Array  # [S, T] int32
    rewards: Array  # [S] float32, -inf where the child failed or the slot is still empty
    num_evaluated: Array  # [] int32
    failed: Array  # [] int32
    best: Best


@strategy("evolution", "Regularised (aging) evolution (Real et al., AAAI 2019).", uniform=SIZE)
def regularised_evolution(
    space: SearchSpace, *, population: int = 1, population_size: int = SIZE, sample_size: int = 5
) -> Search:
    """Aging evolution (Real et al., AAAI 2019, Algorithm 1): the best of a random few has a mutated child.

    Until `population_size` children were evaluated, proposals are uniform. Then each of the `population` proposals
    of an ask holds its own tournament: `sample_size` of the living, drawn with replacement as in the paper;
    the child is the winner with exactly one token changed. Children replace the oldest, however good.

    A reward that is not finite (NaN too) marks a failed child: it lives and ages, and loses to every other.
    Raises ValueError for sizes below 1, or population or sample_size above population_size.
    """
    check_counts(population=population, population_size=population_size, sample_size=sample_size)
    for name, value in (("population", population), ("sample_size", sample_size)):
        if value > population_size:
            raise ValueError(f"{name} is {value}; give at most population_size, which is {population_size}")
    if space.cardinality == 1:
        raise ValueError("the space holds 1 architecture; give some list a second choice to evolve it")

    def init(key: Key) -> EvolutionState:
        del key  # part of the contract; the first generation is drawn by ask
        empty = jnp.zeros((population_size, space.num_tokens), jnp.int32)
        rewards = jnp.full(population_size, -jnp.inf, jnp.float32)
        return EvolutionState(empty, rewards, jnp.int32(0), jnp.int32(0), no_best(space))

    def child(key: Key, state: EvolutionState) -> Array:
        tournament_key, mutation_key = jax.random.split(key)
        drawn = jax.random.bits(tournament_key, (sample_size,), jnp.uint32) % population_size
        parent = drawn[jnp.argmax(state.rewards[drawn])]
        return space.mutate(mutation_key, state.tokens[parent])

    def ask(key: Key, state: EvolutionState) -> tuple[EvolutionState, Array]:
        uniform_key, child_key = jax.random.split(key)
        children = jax.vmap(child, in_axes=(0, None))(jax.random.split(child_key, population), state)
        full = state.num_evaluated >= population_size
        return state, jnp.where(full, children, space.sample(uniform_key, population))

    def tell(key: Key, state: EvolutionState, tokens: Array, rewards: Array) -> tuple[EvolutionState, StrategyInfo]:
        del key  # nothing is drawn
        if rewards.shape[0] > population_size:
            raise ValueError(f"{rewards.shape[0]} rewards at once; tell at most {population_size}")
        tokens, rewards, failures = clean(space, tokens, rewards)
        slots = (state.num_evaluated + jnp.arange(rewards.shape[0])) % population_size
        state = EvolutionState(
            tokens=state.tokens.at[slots].set(tokens),
            rewards=state.rewards.at[slots].set(rewards),
            num_evaluated=state.num_evaluated + rewards.shape[0],
            failed=state.failed + failures,
            best=improve(state.best, tokens, rewards),
        )
        return state, StrategyInfo(state.num_evaluated, state.failed, *state.best, finite_mean(state.rewards))

    return Search(init, ask, tell)
