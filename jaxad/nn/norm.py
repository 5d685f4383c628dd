"""Batch normalisation of adversarial networks: whose statistics, whose affine part, and what is remembered.

A network makes one `BatchNorm` of the `Statistics` it is given and calls it at every normalisation, in order:

    nothing given      the batch's own statistics, as in training
    moments            frozen ones, as in scoring
    moments and apart  the marked images are normalised with the moments and do not count in the batch's own statistics,
                       which serve all others (normalisation "switched off" for some, AGAD's Table 5)
    affine             another scale and offset than the network's (auxiliary normalisation, Xie et al. 2020)
"""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import lax

from jaxad.nn import layers as nn
from jaxad.nn.layers import NORM_EPSILON, Moments
from jaxad.types import Array, Params

MOMENTUM = 0.1  # of a new batch in the running averages


class Normalised(NamedTuple):
    """What a network with batch normalisation gives."""

    output: Array
    moments: tuple[Moments, ...]  # of every normalisation, in order; those of the batch unless others were given


class Statistics(NamedTuple):
    """What to normalise with, one entry for every normalisation in order."""

    moments: tuple[Moments, ...] | None = None
    apart: Array | None = None  # [B] booleans, only with moments
    affine: tuple[Params, ...] | None = None  # {"scale" [C], "offset" [C]}


class BatchNorm:
    """Batch normalisation, its affine part and an activation, called once for every normalisation of a network.

    After the network has run, `seen` holds the moments that were used; with `apart`, those of the other images.
    """

    def __init__(self, statistics: Statistics | tuple[Moments, ...] | None = None) -> None:
        if not isinstance(statistics, Statistics):
            statistics = Statistics(statistics)
        self._given = statistics
        self.seen: tuple[Moments, ...] = ()

    def __call__(self, images: Array, params: Params, activation: str) -> Array:
        """ACT(scale * normalised + offset) of [B, H, W, C], with params {"scale" [C], "offset" [C]}."""
        index = len(self.seen)
        if self._given.affine is not None:
            params = self._given.affine[index]
        if self._given.moments is None:
            moments, images = nn.batch_moments(lax.stop_gradient(images)), nn.normalise(images, "batch")
        elif self._given.apart is None:
            moments = self._given.moments[index]
            images = nn.normalise(images, "batch", moments)
        else:
            images, moments = split_norm(images, self._given.apart, self._given.moments[index])
        self.seen += (moments,)
        return nn.activate(images, activation, params["scale"], params["offset"])


def split_norm(images: Array, apart: Array, frozen: Moments) -> tuple[Array, Moments]:
    """Images [B, H, W, C] normalised with frozen moments where `apart` [B], all others with their own.

    Returns:
      The images and the others' moments, `frozen` where there are no others. Gradients pass through the others'
      moments, not through the frozen ones.
    """
    chex.assert_rank([images, apart], [4, 1])
    flat, pixels = images.reshape(1, -1, images.shape[3]), images.shape[1] * images.shape[2]
    counts = jnp.repeat(1 - apart.astype(images.dtype), pixels)[None, :, None]
    total = jnp.maximum(jnp.sum(counts), 1.0)
    mean = nn.channel_sum(counts * flat) / total
    variance = nn.channel_sum(counts * jnp.square(flat - mean)) / total
    others = jnp.any(~apart.astype(bool))
    own = Moments(jnp.where(others, mean[0, 0], frozen.mean), jnp.where(others, variance[0, 0], frozen.variance))
    is_apart = apart.astype(bool)[:, None]
    means, variances = (jnp.where(is_apart, f[None], o[None])[:, None, None] for f, o in zip(frozen, own))
    return (images - means) * lax.rsqrt(variances + NORM_EPSILON), jax.tree.map(lax.stop_gradient, own)


def fresh_moments(moments: tuple[Moments, ...]) -> tuple[Moments, ...]:
    """Mean 0 and variance 1, as running averages start, for moments of these shapes."""
    return tuple(Moments(jnp.zeros(m.mean.shape), jnp.ones(m.variance.shape)) for m in moments)


def averaged(running: Any, moments: Any) -> Any:
    """Running averages after another batch: two trees of moments of the same form."""
    return jax.tree.map(lambda old, new: (1 - MOMENTUM) * old + MOMENTUM * new, running, moments)
