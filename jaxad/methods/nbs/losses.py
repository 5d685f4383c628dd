"""Rewards and losses of neural batch sampling (Chu 2020, section 3.2).

    R = beta (R_clone + R_cover) + (1 - beta) R_pred,   beta = max(0, 1 - j / T)                               (Eq. 3.3)
    R_pred = -l_pred at the last step of an episode, else 0                                                   (Eq. 3.1)
    l_pred = -mean over images, mean over pixels of y log p + alpha (1 - y) log(1 - p)                        (Eq. 3.2)

R_clone and R_cover belong to patches of labelled images, R_pred to the episode whose patches trained the autoencoder;
so each weights the log-probabilities of its own episode:

    policy loss = -beta sum_t log pi_t G1_t - (1 - beta) sum_t log pi_t G2_t,   G_t = sum_s gamma^s R_(t + s)

Returns are not normalised within an episode: of a reward that comes at the end alone, all that the normalised return
still knows is the length of the episode (the proof in section 3.2.1).
"""

import chex
import jax
import jax.numpy as jnp
from jax import lax

from jaxad.types import Array

COVER_BONUS = 0.1  # of a patch with nothing but new pixels; the thesis says "small"
EMPTY = 1e-12  # mean of a profile below which there is nothing to divide by


# ---- rewards ---------------------------------------------------------------------------------------------------


def clone_reward(mask_patches: Array) -> Array:
    """+1 for a patch without an anomalous pixel, else -1: [T] from masks [T, h, w]."""
    chex.assert_rank(mask_patches, 3)
    return jnp.where(jnp.any(mask_patches > 0, (1, 2)), -1.0, 1.0)


def cover_reward(news: Array, bonus: float = COVER_BONUS) -> Array:
    """The share of a patch visited for the first time, [T] in [0, 1], times the bonus."""
    return bonus * news


def clone_weight(step: Array, length: int) -> Array:
    """beta of Eq. 3.3: from 1 at step 0 to 0 after `length` steps."""
    return jnp.maximum(0.0, 1 - step / length)


def discounted_returns(rewards: Array, discount: float) -> Array:
    """G_t = R_t + discount G_(t + 1), from rewards [T]."""
    chex.assert_rank(rewards, 1)

    def before(later: Array, reward: Array) -> tuple[Array, Array]:
        now = reward + discount * later
        return now, now

    return lax.scan(before, jnp.zeros((), rewards.dtype), rewards, reverse=True)[1]


def terminal_returns(reward: Array, steps: int, discount: float) -> Array:
    """The returns [steps] of a reward that comes with the last step: discount^(steps - 1 - t) of it."""
    return reward * discount ** jnp.arange(steps - 1, -1, -1, dtype=jnp.float32)


# ---- the policy ------------------------------------------------------------------------------------------------


def policy_loss(log_probs: Array, returns: Array) -> Array:
    """-sum_t log pi_t G_t of one episode, scalar: its gradient is REINFORCE (Eq. 3.4). No gradient through returns."""
    chex.assert_rank([log_probs, returns], 1)
    return -jnp.sum(log_probs * lax.stop_gradient(returns))


# ---- the predictor ---------------------------------------------------------------------------------------------


def normalise_profiles(profiles: Array) -> Array:
    """Loss profiles [B, H, W, L], each image's divided by its mean over pixels and time."""
    chex.assert_rank(profiles, 4)
    mean = jnp.mean(profiles, (1, 2, 3), keepdims=True)
    return profiles / jnp.maximum(mean, EMPTY)


def anomalous_ratio(masks: Array) -> Array:
    """alpha: anomalous pixels for each normal one, from the masks [N, H, W] of the labelled images."""
    share = jnp.mean(masks > 0, dtype=jnp.float32)
    return share / (1 - share)


def weighted_cross_entropy(logits: Array, masks: Array, alpha: Array) -> Array:
    """Eq. 3.2, scalar, from logits [B, H, W]; alpha weighs normal pixels."""
    chex.assert_rank([logits, masks], 3)
    chex.assert_equal_shape([logits, masks])
    y = (masks > 0).astype(logits.dtype)
    losses = -y * jax.nn.log_sigmoid(logits) - alpha * (1 - y) * jax.nn.log_sigmoid(-logits)
    return jnp.mean(losses)  # images are of one size: the mean over images of means over pixels


# ---- the autoencoder -------------------------------------------------------------------------------------------


def reconstruction_losses(patches: Array, reconstructions: Array) -> Array:
    """The squared error of every pixel, mean over channels: [B, H, W] from two [B, H, W, C]."""
    chex.assert_equal_shape([patches, reconstructions])
    return jnp.mean(jnp.square(patches - reconstructions), -1)
