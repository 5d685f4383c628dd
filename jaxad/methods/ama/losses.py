"""The objective of AMA (Somepalli et al. 2021, Eqs. 1 to 4), term by term.

    min_{G,E} max_D  E_normal[ D(x, x) - D(x, x^) + l_inter (D(x, x) - D(x, x_inter)) + l_reg |E(x)| ]
                     - l_neg E_negative[ D(x, x) - D(x, x^) ]                                             (Eqs. 2-4)

with x^ = G(E(x)). A batch holds normal and negative images; weights of 1 and -l_neg put both expectations into one
mean (so that the negative term also counts in proportion to the share of negatives, as in the authors' code). Eq. 4
writes D(x, x_neg) with x itself drawn from the negatives, which would be 0; read as x = G(z_neg), x^ = G(E(x)).
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from jaxad.types import Array

NORMS = ("sample", "pixel")


def stack_pairs(first: Array, second: Array) -> Array:
    """(x, y) as the critic sees it: two images [B, H, W, C] as one [B, H, W, 2C]."""
    chex.assert_equal_shape([first, second])
    return jnp.concatenate([first, second], -1)


def image_weights(negative: Array, weight: float) -> Array:
    """1 for normal images and -l_neg for negatives, [B] from 0/1 [B] (Eq. 2)."""
    return jnp.where(negative.astype(bool), -weight, 1.0)


def wasserstein(same: Array, other: Array, weights: Array) -> Array:
    """The mirrored Wasserstein estimate, mean of w (D(x, x) - D(x, y)): scalar from three [B] (Eq. 1)."""
    chex.assert_rank([same, other, weights], 1)
    return jnp.mean(weights * (same - other))


def interpolation_gap(parents: Array, interpolated: Array, normal: Array) -> Array:
    """Mean over parents and images of D(x_j, x_j) - D(x_j, x_inter), second term of Eq. 3.

    Args:
      parents, interpolated: [B, k], the critic's values.
      normal: [B], 1 where all parents are normal images; others do not count.
    """
    chex.assert_rank([parents, interpolated, normal], [2, 2, 1])
    return jnp.sum(normal * jnp.mean(parents - interpolated, 1)) / jnp.maximum(jnp.sum(normal), 1.0)


def code_norm(codes: Array, normal: Array) -> Array:
    """Mean Euclidean norm of the codes [B, d] of normal images, third term of Eq. 3."""
    chex.assert_rank([codes, normal], [2, 1])
    # The gradient of a norm at the origin is taken as 0.
    squared = jnp.sum(jnp.square(codes), 1)
    norms = jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1.0)), 0.0)
    return jnp.sum(normal * norms) / jnp.maximum(jnp.sum(normal), 1.0)


def gradient_penalty(critic: Callable[[Array], Array], pairs: Array, norm: str = "sample") -> Array:
    """How far the critic is from slope 1: mean of (|grad D| - 1)^2 (Gulrajani et al. 2017; the paper has only Lip-1).

    Args:
      critic: pairs [B, H, W, C] -> values [B], each from its own pair.
      pairs: where to look, between (x, x) and (x, x^): see `between`.
      norm: over all of a pair ("sample", as Gulrajani et al.), or over the channels of each pixel, then averaged over
        pixels ("pixel", as the AMA authors' code).
    """
    chex.assert_rank(pairs, 4)
    slopes = jax.grad(lambda pairs: jnp.sum(critic(pairs)))(pairs)
    squared = jnp.sum(jnp.square(slopes), (1, 2, 3) if norm == "sample" else 3)
    # Where the slope is exactly 0 the penalty is 1 and its gradient, which a root would make NaN, is 0.
    sizes = jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1.0)), 0.0)
    return jnp.mean(jnp.square(sizes - 1))


def between(images: Array, reconstructions: Array, share: Array) -> Array:
    """a x + (1 - a) x^ for each image, a = `share` [B] in [0, 1]."""
    chex.assert_rank([images, reconstructions, share], [4, 4, 1])
    share = share[:, None, None, None]
    return share * images + (1 - share) * reconstructions


def critic_loss(distance: Array, gap: Array, penalty: Array, *, interpolation: float, penalty_weight: float) -> Array:
    """What D minimises: -(Eq. 2) without the latent term, and the gradient penalty; from `wasserstein` and so on."""
    return -distance - interpolation * gap + penalty_weight * penalty


def generator_loss(distance: Array, gap: Array, norm: Array, *, interpolation: float, latent: float) -> Array:
    """What G and E minimise: Eq. 2. D(x, x) does not depend on them and may be left out of both terms as 0."""
    return distance + interpolation * gap + latent * norm
