"""Searching a space whose rewards are known: a hundred seeds of a strategy take seconds to minutes.

A table holds the reward of every token sequence of a small space, each child trained once. A search that looks its
rewards up is one compiled program, so that seeds are vmapped; a strategy sees nothing else than in a search that
trains. As there, no architecture is evaluated twice: a proposal that was seen is replaced by the first unseen one of
further asks, else by a uniform draw among what is left.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxad._utils.files import from_json, read_json, to_json, write_text
from jaxad.nas.analysis.benchmark import rewards_from_scratch
from jaxad.nas.space import ENUMERATION_LIMIT, SearchSpace
from jaxad.nas.space_choices import SpaceChoices
from jaxad.types import Array, Key, Search

CHUNK = 32  # children that are planned, and compiled for, together
TRIES = 4  # asks for an unseen architecture before a uniform draw


class Explored(NamedTuple):
    """What a search saw, in order."""

    tokens: Array  # [children, T] int32
    rewards: Array  # [children] float32


class Table(NamedTuple):
    """The reward of everything in a space."""

    space: SearchSpace
    rewards: np.ndarray  # [cardinality] float32, in the order of `sequences`
    about: dict[str, Any]  # how children were trained, and on what; plain data


def write_table(path: str | Path, table: Table) -> None:
    """Write a table as JSON: its space, what it is about, and a reward for each of its functions, ten to a line.

    Functions are in the lexicographic order of their canonical sequences. Raises ValueError where it cannot be written.
    """
    known = table.rewards[_first_places(table.space)]
    shortest = [str(reward) for reward in known.astype(np.float32)]  # that is read as the same 32 bits
    lines = ("    " + ", ".join(shortest[start : start + 10]) for start in range(0, len(shortest), 10))
    text = json.dumps(to_json({"space": table.space, "about": table.about}), indent=2)
    write_text(path, f'{text[:-2]},\n  "rewards": [\n' + ",\n".join(lines) + "\n  ]\n}\n")


def read_table(path: str | Path) -> Table:
    """What `write_table` wrote; ValueError names what is missing, damaged or of another length."""
    found = read_json(path)
    if not isinstance(found, dict) or set(found) != {"space", "about", "rewards"}:
        raise ValueError(f"{path} is no table of rewards; give the table.json of a comparison")
    space = SearchSpace.of(from_json(SpaceChoices, found["space"], f"{path}: space"))
    known = np.asarray(from_json(tuple[float, ...], found["rewards"], f"{path}: rewards"), np.float32)
    if known.shape != (space.canonical_cardinality,):
        raise ValueError(f"{path} has {known.size} rewards; its space has {space.canonical_cardinality} functions")
    if not np.isfinite(known).all():
        raise ValueError(f"{path} has rewards that are not finite; write a failed child's as 0")
    whole = np.zeros(space.cardinality, np.float32)
    whole[_first_places(space)] = known
    return Table(space, whole[_representatives(space)], from_json(dict[str, Any], found["about"], f"{path}: about"))


def places(space: SearchSpace, tokens: Array) -> Array:
    """Where token sequences [..., T] stand in the lexicographic order of the space: [...] int32."""
    chex.assert_axis_dimension(tokens, -1, space.num_tokens)
    return jnp.asarray(tokens, jnp.int32) @ jnp.asarray(_strides(space))


def tokens_at(space: SearchSpace, at: Array) -> Array:
    """Token sequences [..., T] int32 that stand at `places` [...]."""
    return jnp.stack(jnp.unravel_index(jnp.asarray(at, jnp.int32), space.choices_per_token), axis=-1)


def sequences(space: SearchSpace) -> np.ndarray:
    """All token sequences [cardinality, T] in lexicographic order; ValueError beyond a million."""
    return np.array(list(space.enumerate()), np.int32).reshape(-1, space.num_tokens)


def train_table(
    space: SearchSpace,
    executor: Any,
    *,
    seed: int,
    image_channels: int,
    known: Mapping[tuple[int, ...], float],
    on_child: Callable[[tuple[int, ...], float], None] = lambda tokens, reward: None,
) -> np.ndarray:
    """Train every function of a space once, with weights of its own -> rewards [cardinality], as `sequences` has them.

    Args:
      executor: from `evaluator.make_executor`.
      seed: with the tokens it decides weights and batches of a child.
      known: rewards by canonical tokens that need no training any more.
      on_child: called with what is new.
    """
    every = space.canonical(sequences(space)).tolist()
    rewards = dict(known)
    waiting = sorted({tuple(tokens) for tokens in every} - rewards.keys())
    for start in range(0, len(waiting), CHUNK):
        chunk = waiting[start : start + CHUNK]
        trained = rewards_from_scratch(space, np.array(chunk), executor, seed=seed, image_channels=image_channels)
        for tokens, reward in zip(chunk, trained):
            rewards[tokens] = reward
            on_child(tokens, reward)
    return np.array([rewards[tuple(tokens)] for tokens in every], np.float32)


def explore_table(
    search: Search, space: SearchSpace, rewards: Array, key: Key, *, children: int, population: int
) -> Explored:
    """Search a table; pure, so vmap it over keys.

    Args:
      search: a strategy that proposes `population` architectures per ask.
      rewards: [cardinality], in the order of `sequences`.
      key: consumed.
      children: how many distinct architectures to evaluate, a multiple of `population`.

    Raises:
      ValueError: more children than architectures, an uneven last population, a table of another space.
    """
    size = space.cardinality
    if size > ENUMERATION_LIMIT or rewards.shape != (size,):
        raise ValueError(f"the table has shape {rewards.shape}; give the rewards of all {size} sequences")
    if not 0 < children <= size or children % population:
        raise ValueError(f"children is {children}; give a multiple of {population} from 1 to {size}")
    start_key, rounds_key = jax.random.split(key)
    same = jnp.asarray(_representatives(space))  # [cardinality] of each sequence, the place of its canonical form

    def fresh(seen: Array, candidates: Array, key: Key) -> tuple[Array, Array]:
        """The first unseen of candidates [TRIES, T], else a uniform draw, and the places seen now."""
        found = same[places(space, candidates)]
        uniform = jnp.argmax(jnp.where(seen[same], -1.0, jax.random.uniform(key, (size,))))
        unseen = ~seen[found]
        place = jnp.where(unseen.any(), places(space, candidates[jnp.argmax(unseen)]), uniform)
        return seen.at[same[place]].set(True), place

    def one(carry: tuple, number: Array) -> tuple[tuple, Array]:
        state, seen = carry
        ask_key, draw_key, tell_key = jax.random.split(jax.random.fold_in(rounds_key, number), 3)
        asked, _ = search.ask(jax.random.fold_in(ask_key, 0), state)
        tries = jax.vmap(lambda attempt: search.ask(jax.random.fold_in(ask_key, attempt), state)[1])(jnp.arange(TRIES))

        def choose(seen: Array, place: Array) -> tuple[Array, Array]:
            return fresh(seen, tries[:, place], jax.random.fold_in(draw_key, place))

        seen, chosen = lax.scan(choose, seen, jnp.arange(population))
        state, _ = search.tell(tell_key, asked, tokens_at(space, chosen), rewards[chosen])
        return (state, seen), chosen

    begin = search.init(start_key), jnp.zeros(size, bool)
    _, chosen = lax.scan(one, begin, jnp.arange(children // population))
    chosen = chosen.reshape(-1)
    return Explored(tokens_at(space, chosen), rewards[chosen])


def _strides(space: SearchSpace) -> np.ndarray:
    return np.append(np.cumprod(space.choices_per_token[:0:-1])[::-1], 1).astype(np.int32)


def _first_places(space: SearchSpace) -> np.ndarray:
    """Of the canonical sequences, in order: [canonical_cardinality]."""
    return np.unique(_representatives(space))


def _representatives(space: SearchSpace) -> np.ndarray:
    # In NumPy: whoever jits a search shall not trace what is known.
    return space.canonical(sequences(space)) @ _strides(space)
