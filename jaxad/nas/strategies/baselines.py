"""Strategies that need no learned policy, and the host-side care that no architecture is trained twice.

Random search and regularised evolution stand behind the same `Search` contract as the learned controller.
Their states are small pytrees of arrays of fixed shape: jit, vmap over seeds, save and restore them at will.
"""

import functools
import inspect
import itertools
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxad.nas.space import ENUMERATION_LIMIT, SearchSpace
from jaxad.types import Array, Key, Search, State

EVOLUTION_SIZE = 20  # living children of evolution; so many first proposals are uniform


class SpaceExhausted(Exception):
    """Every architecture of the space has been seen; the search is complete."""


class Best(NamedTuple):
    """The best child so far."""

    tokens: Array  # [T] int32, meaningless while reward is -inf
    reward: Array  # [] float32, -inf until a child has succeeded


class StrategyInfo(NamedTuple):
    """What a person wants to see after each `tell`."""

    num_evaluated: Array  # [] int32 children so far
    failed: Array  # [] int32 of these, without a finite reward
    best_tokens: Array  # [T] int32
    best_reward: Array  # [] float32, -inf until a child has succeeded
    mean_reward: Array  # [] float32 over the successful living (evolution) or all so far (random); or -inf


class RandomState(NamedTuple):
    """What random search remembers: it only keeps the books."""

    num_evaluated: Array  # [] int32
    failed: Array  # [] int32
    mean: Array  # [] float32 over the successful
    best: Best


class EvolutionState(NamedTuple):
    """The living population as a ring: child number n lives in slot n mod S until child n + S replaces it."""

    tokens: Array  # [S, T] int32
    rewards: Array  # [S] float32, -inf where the child failed or the slot is still empty
    num_evaluated: Array  # [] int32
    failed: Array  # [] int32
    best: Best


def _no_best(space: SearchSpace) -> Best:
    return Best(jnp.zeros(space.num_tokens, jnp.int32), jnp.float32(-jnp.inf))


def _improve(best: Best, tokens: Array, rewards: Array) -> Best:
    winner = jnp.argmax(rewards)
    better = rewards[winner] > best.reward  # strictly: of equals the earliest stays
    return Best(jnp.where(better, tokens[winner], best.tokens), jnp.maximum(rewards[winner], best.reward))


def _clean(space: SearchSpace, tokens: Array, rewards: Array) -> tuple[Array, Array, Array]:
    """Check what was told; a reward that is not finite becomes -inf. Also returns how many those are."""
    chex.assert_shape(tokens, (None, space.num_tokens))
    chex.assert_shape(rewards, (tokens.shape[0],))
    finite = jnp.isfinite(rewards)
    rewards = jnp.where(finite, rewards, -jnp.inf).astype(jnp.float32)
    return jnp.asarray(tokens, jnp.int32), rewards, jnp.sum(~finite, dtype=jnp.int32)


def _finite_mean(rewards: Array) -> Array:
    finite = jnp.isfinite(rewards)
    total = jnp.sum(jnp.where(finite, rewards, 0.0))
    return jnp.where(finite.any(), total / jnp.maximum(finite.sum(), 1), -jnp.inf)


def _check_at_least_one(**values: Any) -> None:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}; give an integer of at least 1")


def random_search(space: SearchSpace, *, population: int = 1) -> Search:
    """Propose `population` uniform architectures per ask and learn nothing.

    A reward that is not finite marks a failed child. Raises ValueError for population < 1.
    """
    _check_at_least_one(population=population)

    def init(key: Key) -> RandomState:
        del key  # part of the contract; there is nothing to draw
        return RandomState(jnp.int32(0), jnp.int32(0), jnp.float32(0.0), _no_best(space))

    def ask(key: Key, state: RandomState) -> tuple[RandomState, Array]:
        return state, space.sample(key, population)

    def tell(key: Key, state: RandomState, tokens: Array, rewards: Array) -> tuple[RandomState, StrategyInfo]:
        del key  # nothing is drawn
        tokens, rewards, failures = _clean(space, tokens, rewards)
        num_evaluated, failed = state.num_evaluated + rewards.shape[0], state.failed + failures
        gain = jnp.sum(jnp.where(jnp.isfinite(rewards), rewards - state.mean, 0.0))
        mean = state.mean + gain / jnp.maximum(num_evaluated - failed, 1)
        state = RandomState(num_evaluated, failed, mean, _improve(state.best, tokens, rewards))
        shown = jnp.where(num_evaluated > failed, mean, -jnp.inf)
        return state, StrategyInfo(num_evaluated, failed, *state.best, shown)

    return Search(init, ask, tell)


def regularised_evolution(
    space: SearchSpace, *, population: int = 1, population_size: int = EVOLUTION_SIZE, sample_size: int = 5
) -> Search:
    """Aging evolution (Real et al., AAAI 2019, Algorithm 1): the best of a random few has a mutated child.

    Until `population_size` children were evaluated, proposals are uniform. Then each of the `population` proposals
    of an ask holds its own tournament: `sample_size` of the living, drawn with replacement as in the paper;
    the child is the winner with exactly one token changed. Children replace the oldest, however good.

    A reward that is not finite (NaN too) marks a failed child: it lives and ages, and loses to every other.
    Raises ValueError for sizes below 1, or population or sample_size above population_size.
    """
    _check_at_least_one(population=population, population_size=population_size, sample_size=sample_size)
    for name, value in (("population", population), ("sample_size", sample_size)):
        if value > population_size:
            raise ValueError(f"{name} is {value}; give at most population_size, which is {population_size}")
    if space.cardinality == 1:
        raise ValueError("the space holds 1 architecture; give some list a second choice to evolve it")

    def init(key: Key) -> EvolutionState:
        del key  # part of the contract; the first generation is drawn by ask
        empty = jnp.zeros((population_size, space.num_tokens), jnp.int32)
        rewards = jnp.full(population_size, -jnp.inf, jnp.float32)
        return EvolutionState(empty, rewards, jnp.int32(0), jnp.int32(0), _no_best(space))

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
        tokens, rewards, failures = _clean(space, tokens, rewards)
        slots = (state.num_evaluated + jnp.arange(rewards.shape[0])) % population_size
        state = EvolutionState(
            tokens=state.tokens.at[slots].set(tokens),
            rewards=state.rewards.at[slots].set(rewards),
            num_evaluated=state.num_evaluated + rewards.shape[0],
            failed=state.failed + failures,
            best=_improve(state.best, tokens, rewards),
        )
        return state, StrategyInfo(state.num_evaluated, state.failed, *state.best, _finite_mean(state.rewards))

    return Search(init, ask, tell)


def _autoad(space: SearchSpace, *, population: int = 1, **options: Any) -> Search:
    from jaxad.nas.strategies.autoad import autoad  # its libraries take seconds to import

    return autoad(space, population=population, **options)


STRATEGIES: dict[str, Callable[..., Search]] = {
    "autoad": _autoad,
    "random": random_search,
    "evolution": regularised_evolution,
}


def make_strategy(name: str, space: SearchSpace, *, population: int = 1, **options: Any) -> Search:
    """Build the strategy of that name; ValueError lists the names, or the options the strategy has."""
    if name not in STRATEGIES:
        raise ValueError(f"strategy is {name!r}; choose one of {', '.join(STRATEGIES)}")
    parameters = inspect.signature(STRATEGIES[name]).parameters
    known = [option for option in parameters if option != "space"]
    for option in options:
        if option not in known and "options" not in known:
            raise ValueError(f"strategy {name!r} has no option {option!r}; it has {', '.join(known)}")
    return STRATEGIES[name](space, population=population, **options)


def identities(space: SearchSpace, tokens: Any) -> list[tuple[int, ...]]:
    """What `propose_unique` compares: canonical tokens [P, T] as P tuples; put these into `seen`."""
    return [tuple(row) for row in space.canonical(np.asarray(tokens)).tolist()]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _alternatives(space: SearchSpace, tries: int, key: Key, tokens: Array) -> Array:
    """Other tokens [2 tries, T]: ever longer walks of mutations away from tokens [T], then uniform draws."""
    walk_key, uniform_key = jax.random.split(key)

    def mutate(here: Array, step_key: Key) -> tuple[Array, Array]:
        there = space.mutate(step_key, here)
        return there, there

    _, walk = jax.lax.scan(mutate, tokens, jax.random.split(walk_key, tries))
    return jnp.concatenate([walk, space.sample(uniform_key, tries)])


def propose_unique(
    search: Search,
    key: Key,
    state: State,
    seen: Collection[tuple[int, ...]],
    space: SearchSpace,
    *,
    tries: int = 8,
) -> tuple[State, np.ndarray]:
    """Ask for tokens [P, T] of which none is in `seen` and no two describe the same function. Host side.

    `seen` is a set (or dict) of `identities`. The first ask gives the next state and the proposals. One
    that collides is replaced by the one in its place of `tries` - 1 further asks from the same state, else by
    a walk of up to `tries` mutations from itself, else by uniform draws, else by what enumeration finds left.
    The same arguments give the same result. P is below the strategy's own only when fewer are left.

    Raises SpaceExhausted when nothing is left, ValueError for tries < 1.
    """
    _check_at_least_one(tries=tries)
    left = space.canonical_cardinality - len(seen)
    if left <= 0:
        raise SpaceExhausted(f"all {space.canonical_cardinality} different architectures were proposed")

    ask_key, repair_key, rest_key = jax.random.split(key, 3)
    next_state, first = search.ask(jax.random.fold_in(ask_key, 0), state)
    first = np.asarray(first)
    wanted = min(len(first), left)
    chosen: dict[int, np.ndarray] = {}  # place in the population -> tokens
    taken: set[tuple[int, ...]] = set()

    def open_places() -> list[int]:
        return [place for place in range(len(first)) if place not in chosen][: max(wanted - len(chosen), 0)]

    def take_first_fresh(place: int, candidates: np.ndarray) -> None:
        for tokens, identity in zip(candidates, identities(space, candidates)):
            if identity not in seen and identity not in taken:
                chosen[place] = tokens
                taken.add(identity)
                return

    for place in range(len(first)):
        take_first_fresh(place, first[place : place + 1])
    for attempt in range(1, tries):
        if not open_places():
            break
        again = np.asarray(search.ask(jax.random.fold_in(ask_key, attempt), state)[1])
        for place in open_places():
            take_first_fresh(place, again[place : place + 1])

    # One round does for all but nearly exhausted spaces; those too large to list get as many as they need.
    for round_ in itertools.count():
        round_key = jax.random.fold_in(repair_key, round_)
        for place in open_places():
            key = jax.random.fold_in(round_key, place)
            take_first_fresh(place, np.asarray(_alternatives(space, tries, key, first[place])))
        if not open_places() or space.canonical_cardinality <= ENUMERATION_LIMIT:
            break

    if open_places():
        rest = [t for t in space.enumerate(canonical=True) if t not in seen and t not in taken]
        order = np.random.default_rng(np.asarray(jax.random.bits(rest_key, (4,)))).permutation(len(rest))
        for place, index in zip(open_places(), order):
            chosen[place] = np.asarray(rest[index], np.int32)
    return next_state, np.stack([chosen[place] for place in sorted(chosen)])
