"""How features of patches are standardised: by what is usual at their place in the training images, or anywhere.

    channel    mean m_c and variance v_c over all places of all images
    place      mean m_pc over the images, variance (n v_pc + K v_c) / (n + K)    v_c: the mean of v_pc over places

By place, a value says by how much a place differs from the same place of the training images: of things that always lie
alike, the feature of an edge is nothing odd where there always is an edge, and what the borders of a convolution do to
a texture is gone. Few images say little of each place's variance, so that the variance within all places has a part
in it, as if K more images had been seen.
"""

from typing import Any

import chex
import jax.numpy as jnp
import numpy as np

from jaxad.types import Array

AXES = {"place": (0,), "channel": (0, 1, 2)}  # of maps [n, h, w, F], over which statistics are taken
PRIOR = 8  # K, images
LEAST = 1e-6  # deviation of a feature that never changes, as a share of its mean


def standard(maps: Array, way: str | None) -> tuple[Array, Array]:
    """Mean and standard deviation of maps [n, h, w, F]: [h, w, F] by place, [F] by channel or, of None, 0 and 1."""
    chex.assert_rank(maps, 4)
    if way is None:
        return jnp.zeros(maps.shape[3]), jnp.ones(maps.shape[3])
    centre = jnp.mean(maps, AXES[way])
    return centre, deviation(jnp.var(maps, AXES[way]), centre, len(maps), jnp)


def deviation(variance: Any, centre: Any, images: int, numpy: Any = np) -> Any:
    """The root of a variance [F] or, of so many images, [h, w, F]; 1 for a feature that never changes."""
    if variance.ndim == 3:
        variance = (images * variance + PRIOR * variance.mean((0, 1))[None, None]) / (images + PRIOR)
    scale = numpy.sqrt(variance)
    return numpy.where(scale > LEAST * numpy.maximum(numpy.abs(centre), LEAST), scale, 1.0)


def standardised(maps: Array, centre: Array, scale: Array) -> Array:
    """Maps [B, h, w, F] by a mean and deviation [h, w, F] or [F]."""
    if centre.ndim == 1:
        centre, scale = centre[None, None], scale[None, None]
    return (maps - centre[None]) / scale[None]
