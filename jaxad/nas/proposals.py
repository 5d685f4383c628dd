"""No architecture is trained twice: the care, on the host, that proposals differ from all that were seen."""

import functools
import itertools
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxad._utils.validate import check_counts
from jaxad.nas.space import ENUMERATION_LIMIT, SearchSpace
from jaxad.types import Array, Key, Search, State


class SpaceExhausted(Exception):
    """Every architecture of the space has been seen; the search is complete."""


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
    check_counts(tries=tries)
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
