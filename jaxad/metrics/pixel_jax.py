"""Pixel AUROC and RPRO as compiled functions: what a search of detectors that localise is rewarded with.

The same numbers as those of `jaxad.metrics.pixel`, which says what they are and has everything that needs no
device. What does not depend on the maps, the regions of the masks, is found on the host once (`pixel_truth`); the
regions of thresholded maps are found on the device.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxad.metrics.image import auroc_of_many
from jaxad.metrics.order import number_of, ordered
from jaxad.metrics.pixel import MIN_AREA, region_weights
from jaxad.types import Array


class PixelTruth(NamedTuple):
    """What maps of N images are measured against."""

    masks: Array  # [N, H, W] uint8, 1 = anomalous pixel
    weights: (
        Array  # [N, H, W] float32, 1 / (pixels of the region * regions); of flagged pixels their sum is the overlap
    )
    normal: Array  # [N] booleans: images without an anomalous pixel, which set the threshold of RPRO


def pixel_truth(masks: np.ndarray) -> PixelTruth:
    """From masks [N, H, W] of 0 and 1; ValueError unless there are anomalous pixels and an image without."""
    masks = np.asarray(masks)
    if masks.ndim != 3 or not np.isin(masks, (0, 1)).all():
        raise ValueError(f"masks have shape {masks.shape}; give [N, H, W] of 0 and 1 (1 = anomalous pixel)")
    normal = ~masks.any((1, 2))
    if normal.all() or not normal.any():
        kind = "an anomalous pixel" if normal.all() else "no anomalous pixel"
        raise ValueError(f"no mask of {len(masks)} has {kind}: pixels are measured on images of both kinds")
    weights = region_weights(masks.astype(bool)).astype(np.float32)
    return PixelTruth(jnp.asarray(masks, jnp.uint8), jnp.asarray(weights), jnp.asarray(normal))


@jax.jit
def pixel_auroc(maps: Array, truth: PixelTruth) -> Array:
    """AUROC of the pixels of all images, pooled: scalar from maps [N, H, W]."""
    _check(maps, truth)
    return auroc_of_many(maps.reshape(-1), truth.masks.reshape(-1))


@jax.jit
def rpro(maps: Array, truth: PixelTruth) -> Array:
    """Relative per-region overlap at the threshold of `normal_threshold`, on maps [N, H, W]: scalar in [0, 1].

    Normal and anomalous images are in one array: the first set the threshold, the regions of the others are counted.
    """
    _check(maps, truth)
    return jnp.sum(truth.weights * (ordered(maps) > ordered(normal_threshold(maps, truth.normal))))


PIXEL_CRITERIA = {"pixel_auroc": pixel_auroc, "rpro": rpro}
"""What a search may reward maps by: (maps [N, H, W], truth) -> scalar in [0, 1]."""


@jax.jit
def normal_threshold(maps: Array, normal: Array) -> Array:
    """The lowest score above which no region of any map marked normal has 0.1 % of an image's pixels: scalar.

    maps: [N, H, W] without NaN; normal: [N] booleans, one true at least.
    """
    chex.assert_rank([maps, normal], [3, 1])
    area = max(1.0, MIN_AREA * maps.shape[1] * maps.shape[2])
    counted = jnp.broadcast_to(normal[:, None, None], maps.shape)
    order = ordered(maps)
    levels = jnp.sort(jnp.where(counted, order, jnp.iinfo(jnp.int32).max).reshape(-1))  # of other images: last
    last = jnp.sum(counted, dtype=jnp.int32) - 1

    def halve(bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds  # regions are too large above level `low` and small enough above `high`
        middle = (low + high) // 2
        small = largest_region((order > levels[middle]) & counted) < area
        return jnp.where(small, low, middle), jnp.where(small, middle, high)

    # The largest score is always high enough: nothing is above it. Regions only shrink as the threshold rises.
    _, high = lax.while_loop(lambda bounds: bounds[1] - bounds[0] > 1, halve, (jnp.int32(-1), last))
    return number_of(levels[high])


def largest_region(flagged: Array) -> Array:
    """Pixels of the largest connected component (8 neighbours) of any image of flagged [N, H, W]: int32 scalar.

    Every pixel points at one of its component, itself at first. In each round it takes over the furthest one that a
    neighbour points at, and then what that one points at: long components need few rounds.
    """
    chex.assert_rank(flagged, 3)
    size = flagged.size
    itself = jnp.where(flagged, jnp.arange(size).reshape(flagged.shape), -1)

    def spread(pointers: Array) -> Array:
        furthest = jnp.where(flagged, _largest_around(_largest_around(pointers, 1), 2), -1)
        return jnp.where(flagged, pointers.reshape(-1)[furthest], -1)

    def changing(state: tuple[Array, Array]) -> Array:
        return state[1]

    def round_of(state: tuple[Array, Array]) -> tuple[Array, Array]:
        pointers = spread(state[0])
        return pointers, jnp.any(pointers != state[0])

    pointers, _ = lax.while_loop(changing, round_of, (itself, jnp.any(flagged)))
    places = jnp.where(flagged, pointers, size).reshape(-1)
    return jnp.max(jnp.zeros(size, jnp.int32).at[places].add(1, mode="drop"))


def _largest_around(values: Array, axis: int) -> Array:
    """The largest of each value and its two neighbours along an axis; nothing beyond the edge."""
    padding = [(int(a == axis), int(a == axis)) for a in range(3)]
    padded = jnp.pad(values, padding, constant_values=-1)
    length = values.shape[axis]
    return jnp.maximum(
        values,
        jnp.maximum(lax.slice_in_dim(padded, 0, length, axis=axis), lax.slice_in_dim(padded, 2, length + 2, axis=axis)),
    )


def _check(maps: Array, truth: PixelTruth) -> None:
    chex.assert_rank(maps, 3)
    chex.assert_equal_shape([maps, truth.masks])
