"""The objective of AGAD (Shi & Zhang 2023, Eqs. 5 to 11), and those of GANomaly and Skip-GANomaly from the same parts.

With x^ = G(x), x^^ = G(x^), and D giving a logit y and a latent vector z:

    normal     L_n = l_adv BCE(y^, 1) + l_con |x - x^| - l_adcon |x^ - x^^| + l_lat |z - z^|^2            (Eq. 9)
    anomalous  L_a = l_adv / BCE(y^, t) + l_adcon / |x^ - x^^| + l_lat / |z - z^|^2                      (Eq. 10)
    L_G = L_n of the normal images + L_a of the anomalous ones                                           (Eq. 11)
    L_D = BCE(y, 1) + BCE(y^, 0) of the normal images + BCE(y, 0) of the anomalous ones                  (Eqs. 2, 4)

All bars are means over an image's numbers, and every term is a mean over the images of its class before a reciprocal is
taken: reciprocals of single images would let those that are nearly perfect decide alone. The signs of Eq. 10 are those
that make every term fall as the reconstruction of anomalies fails: the minus of Eq. 10 and that of Eq. 8 cancel.

The target t: Algorithm 1 prints 0, but to minimise 1 / BCE(y^, 0) is to make reconstructions of anomalies look real,
against "learns to fail". The inverse of the normal term has t = 1, our default.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxad.types import Array

EPSILON = 1e-6  # added to denominators by default


class Weights(NamedTuple):
    """Of the terms of Eqs. 9 and 10."""

    adversarial: float = 1.0
    contextual: float = 50.0
    pseudo: float = 15.0  # of the contextual adversarial term, whose pseudo-anomalies are reconstructions
    latent: float = 5.0


class Terms(NamedTuple):
    """What the objectives are made of: scalars of one class of images, distances all counted positive."""

    adversarial: Array  # BCE(y^, t), or a distance of features
    contextual: Array  # |x - x^|, Eq. 6
    pseudo: Array  # |x^ - x^^|, minus Eq. 8
    latent: Array  # |z - z^|^2, Eq. 7


# ---- of single images ------------------------------------------------------------------------------------------


def cross_entropy(logits: Array, target: int) -> Array:
    """BCE(sigmoid(logit), target) for a target of 0 or 1: [B] -> [B] (Eq. 5)."""
    chex.assert_rank(logits, 1)
    return jax.nn.softplus(-logits if target else logits)


def absolute_error(first: Array, second: Array) -> Array:
    """Mean |x - y| of each image: two [B, H, W, C] -> [B] (Eqs. 6 and 8)."""
    chex.assert_rank([first, second], 4)
    chex.assert_equal_shape([first, second])
    return jnp.mean(jnp.abs(first - second), (1, 2, 3))


def squared_error(first: Array, second: Array) -> Array:
    """Mean (x - y)^2 of each image's numbers: two [B, ...] -> [B] (Eq. 7; the norm's form is Skip-GANomaly's)."""
    chex.assert_equal_shape([first, second])
    return jnp.mean(jnp.square(first - second).reshape(first.shape[0], -1), 1)


# ---- of classes ------------------------------------------------------------------------------------------------


def class_mean(values: Array, members: Array) -> Array:
    """Mean of values [B] over the images that `members` [B] marks with 1; 0 where there are none."""
    chex.assert_rank([values, members], 1)
    return jnp.sum(members * values) / jnp.maximum(jnp.sum(members), 1.0)


def present(members: Array) -> Array:
    """1 where `members` [B] marks any image, otherwise 0."""
    return (jnp.sum(members) > 0).astype(jnp.float32)


def normality_loss(terms: Terms, weights: Weights) -> Array:
    """L_n of the normal images' terms (Eq. 9): reconstruct them, and fail to reconstruct their reconstructions."""
    return (
        weights.adversarial * terms.adversarial
        + weights.contextual * terms.contextual
        - weights.pseudo * terms.pseudo
        + weights.latent * terms.latent
    )


def anomaly_loss(terms: Terms, weights: Weights, *, contextual: bool = False, epsilon: float = EPSILON) -> Array:
    """L_a of the anomalous images' terms (Eq. 10): fail to reconstruct them.

    Args:
      contextual: also l_con / |x - x^|, which Eq. 3 asks for and Eq. 10 does not have.
      epsilon: added to denominators.
    """
    total = weights.adversarial / (terms.adversarial + epsilon) + weights.latent / (terms.latent + epsilon)
    if weights.pseudo:  # without the second pass there is no such distance
        total += weights.pseudo / (terms.pseudo + epsilon)
    if contextual:
        total += weights.contextual / (terms.contextual + epsilon)
    return total


def discriminator_loss(real: Array, fake: Array, normal: Array, anomalous: Array) -> Array:
    """L_D of logits of images and of their reconstructions, with the two classes marked by 1: four [B] -> scalar."""
    seen_normal = class_mean(cross_entropy(real, 1) + cross_entropy(fake, 0), normal)
    return seen_normal + class_mean(cross_entropy(real, 0), anomalous)
