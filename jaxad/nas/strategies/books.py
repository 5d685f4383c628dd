"""What strategies without a learned policy keep: the best child so far, and books of successes and failures."""

from typing import NamedTuple

import chex
import jax.numpy as jnp

from jaxad.nas.space import SearchSpace
from jaxad.types import Array


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


def no_best(space: SearchSpace) -> Best:
    """Before any child has succeeded."""
    return Best(jnp.zeros(space.num_tokens, jnp.int32), jnp.float32(-jnp.inf))


def improve(best: Best, tokens: Array, rewards: Array) -> Best:
    """The best of before and of a new population."""
    winner = jnp.argmax(rewards)
    better = rewards[winner] > best.reward  # strictly: of equals the earliest stays
    return Best(jnp.where(better, tokens[winner], best.tokens), jnp.maximum(rewards[winner], best.reward))


def clean(space: SearchSpace, tokens: Array, rewards: Array) -> tuple[Array, Array, Array]:
    """Check a population; a reward that is not finite becomes -inf. Also returns how many those are."""
    chex.assert_shape(tokens, (None, space.num_tokens))
    chex.assert_shape(rewards, (tokens.shape[0],))
    finite = jnp.isfinite(rewards)
    rewards = jnp.where(finite, rewards, -jnp.inf).astype(jnp.float32)
    return jnp.asarray(tokens, jnp.int32), rewards, jnp.sum(~finite, dtype=jnp.int32)


def finite_mean(rewards: Array) -> Array:
    """The mean over children that succeeded; -inf where none has."""
    finite = jnp.isfinite(rewards)
    total = jnp.sum(jnp.where(finite, rewards, 0.0))
    return jnp.where(finite.any(), total / jnp.maximum(finite.sum(), 1), -jnp.inf)
