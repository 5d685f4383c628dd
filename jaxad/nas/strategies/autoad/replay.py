"""The buffer of the best architectures so far, for self-imitation (AutoAD, section IV-C; Oh et al. 2018)."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxad.types import Array, Key


class Buffer(NamedTuple):
    """The best S distinct architectures with their external rewards, best first; free places at the end."""

    tokens: Array  # [S, T] int32
    rewards: Array  # [S] float32, -inf where a place is free
    carries: Array  # [S, ...] the controller's carry before the first token, for the same log-probability later


def init_buffer(size: int, positions: int, carry: Array) -> Buffer:
    """An empty buffer; size 0 keeps nothing."""
    return Buffer(
        jnp.zeros((size, positions), jnp.int32),
        jnp.full(size, -jnp.inf, jnp.float32),
        jnp.zeros((size, *carry.shape)),
    )


def insert(buffer: Buffer, tokens: Array, rewards: Array, carries: Array) -> Buffer:
    """Add architectures [P, T] with rewards [P] and keep the best: a full buffer gives up its worst for a better one.

    An architecture that is there already keeps the higher of its rewards; rewards that are not finite stay out.
    """
    chex.assert_rank([tokens, rewards], [2, 1])
    chex.assert_equal_shape_prefix([tokens, rewards, carries], 1)
    size = buffer.rewards.shape[0]
    every = Buffer(
        jnp.concatenate([buffer.tokens, tokens]),
        jnp.concatenate([buffer.rewards, jnp.where(jnp.isfinite(rewards), rewards, -jnp.inf).astype(jnp.float32)]),
        jnp.concatenate([buffer.carries, carries]),
    )
    # Best first and, of equals, the older first: an architecture after an equal one is a copy of no higher reward.
    every = jax.tree.map(lambda leaf: leaf[jnp.argsort(-every.rewards, stable=True)], every)
    same = jnp.all(every.tokens[:, None] == every.tokens[None], axis=-1)
    copy = jnp.any(same & jnp.tri(same.shape[0], k=-1, dtype=bool) & (every.rewards > -jnp.inf)[None], axis=1)
    every = every._replace(rewards=jnp.where(copy, -jnp.inf, every.rewards))
    return jax.tree.map(lambda leaf: leaf[jnp.argsort(-every.rewards, stable=True)[:size]], every)


def draw(key: Key, buffer: Buffer, count: int) -> Buffer:
    """`count` entries, uniform with replacement among those that are filled; rewards are -inf where none is."""
    filled = jnp.sum(buffer.rewards > -jnp.inf)
    index = jax.random.randint(key, (count,), 0, jnp.maximum(filled, 1))
    return jax.tree.map(lambda leaf: leaf[index], buffer)
