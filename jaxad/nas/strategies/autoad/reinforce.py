"""Losses of log-probabilities: REINFORCE with a baseline (Eqs. 4-5, 7) and self-imitation (Eqs. 18-19)."""

from typing import NamedTuple

import chex
import jax.numpy as jnp
from jax import lax

from jaxad.types import Array


class Baseline(NamedTuple):
    """Exponential moving averages of rewards and of the bonus that curiosity adds to them."""

    value: Array  # [] float32, of external rewards
    bonus: Array  # [] float32
    count: Array  # [] int32, updates so far


def init_baseline() -> Baseline:
    """A baseline that has seen nothing."""
    return Baseline(jnp.float32(0), jnp.float32(0), jnp.int32(0))


def update_baseline(state: Baseline, rewards: Array, bonuses: Array, decay: float) -> Baseline:
    """b <- decay * b + (1 - decay) * mean, of rewards [P] and bonuses [P]; the first are the first baseline (ENAS)."""
    chex.assert_rank([rewards, bonuses], 1)

    def moved(before: Array, values: Array) -> Array:
        mean = jnp.mean(values)
        return jnp.where(state.count == 0, mean, decay * before + (1 - decay) * mean)

    return Baseline(moved(state.value, rewards), moved(state.bonus, bonuses), state.count + 1)


def shaped_rewards(rewards: Array, gains: Array, curiosity: float) -> Array:
    """r + eta_cur * I: external rewards [P] and normalised information gains [P] (Eq. 7)."""
    chex.assert_equal_shape([rewards, gains])
    return rewards + curiosity * gains


def reinforce_loss(log_probs: Array, rewards: Array, baseline: Array, own: Array | None = None) -> Array:
    """-(1/n) sum_k (r_k - b) sum_t log P(a_t), whose descent is the ascent of Eq. 5 -> scalar.

    Args:
      log_probs: [n, T] of the tokens.
      rewards: [n]; no gradient goes through them.
      baseline: []; it changes the variance of the gradient, not its mean.
      own: [n] booleans, which of them the policy has drawn: the mean is over these, and 0 where there are none. All by
        default.

    Eq. 5 prints the direction of ascent where a loss is wanted, and Eq. 4 has its gradient sign twice.
    """
    chex.assert_rank([log_probs, rewards], [2, 1])
    advantages = lax.stop_gradient(rewards - baseline)
    if own is None:
        return -jnp.mean(advantages * jnp.sum(log_probs, axis=1))
    chex.assert_equal_shape([own, rewards])
    return -jnp.sum(own * advantages * jnp.sum(log_probs, axis=1)) / jnp.maximum(jnp.sum(own), 1)


def self_imitation_loss(log_probs: Array, rewards: Array, baseline: Array, *, largest: float = 1.0) -> Array:
    """-(1/n) sum_k clip(r_k - b, 0, largest) sum_t log pi(a_t) -> scalar (Eqs. 18-19).

    Args:
      log_probs: [n, T] of buffered tokens.
      rewards: [n] external; an empty place of the buffer has -inf and contributes nothing.
      baseline: []; only what was better than it is imitated.
      largest: bound of an advantage (Oh et al.: 1).

    "b ~ B" under Eq. 18 means that (a, r) are drawn from the buffer B.
    """
    chex.assert_rank([log_probs, rewards], [2, 1])
    advantages = lax.stop_gradient(jnp.clip(rewards - baseline, 0.0, largest))
    return -jnp.mean(advantages * jnp.sum(log_probs, axis=1))
