"""`fit_images` and `to_channels` of bytes as part of a program, to the bit: for detectors that leave the library.

pillow computes each pixel of 8 bits from whole numbers: weights in units of 2^-22, their sum with the pixels rounded to
a byte, along one axis, then along the other. So can any program, and the photograph that it sees is the one that
training saw. (`jax.image.resize` has the same filter, but rounds neither, and elsewhere.)
"""

import functools
import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxad.data.fitting import check_fit, placed
from jaxad.data.images import GREY_SUM, GREY_WEIGHTS, resize
from jaxad.types import Array

UNIT = 2**22  # of weights


class Taps(NamedTuple):
    """What a new pixel is made of: the weighted sum of some old ones."""

    places: np.ndarray  # [n, k] int32, of old pixels; those without weight are some place there is
    weights: np.ndarray  # [n, k] int32, in units of 1 / UNIT


@functools.lru_cache(maxsize=64)
def taps(have: int, want: int) -> Taps:
    """pillow's bilinear filter from `have` pixels in a row to `want`: a triangle, as wide as a new pixel at least."""
    scale = have / want
    reach = max(scale, 1.0)
    size = 2 * math.ceil(reach) + 1
    places, weights = np.zeros((want, size), np.int32), np.zeros((want, size))
    for pixel in range(want):
        centre = (pixel + 0.5) * scale
        first, last = max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), have)
        near = np.arange(first, last)
        triangle = np.maximum(0.0, 1.0 - np.abs((near - centre + 0.5) * (1.0 / reach)))
        # One after another, as pillow adds them: the last bit of a sum depends on its order.
        total = functools.reduce(lambda sum_, weight: sum_ + weight, triangle.tolist(), 0.0)
        places[pixel, : len(near)], weights[pixel, : len(near)] = near, triangle / total
    return Taps(places, (weights * UNIT + 0.5).astype(np.int32))


def resize_bytes(images: Array, size: tuple[int, int]) -> Array:
    """`jaxad.data.images.resize` of images [B, H, W, C] uint8."""
    for axis in order_of(tuple(images.shape[1:3]), tuple(size)):
        filter_ = taps(images.shape[axis], size[axis - 1])
        images, total = jnp.moveaxis(images, axis, 0), jnp.int32(UNIT // 2)  # once, where converters would for each tap
        for places, weights in zip(filter_.places.T, filter_.weights.T, strict=True):
            if weights.any():
                # What each tap looks at is read by itself: all at once would be as many times the image.
                total = total + jnp.take(images, places, 0).astype(jnp.int32) * weights.reshape(-1, 1, 1, 1)
        # No more than 255: weights are positive, and their sum is UNIT but for the rounding of each.
        images = jnp.moveaxis(lax.div(total, jnp.int32(UNIT)).astype(jnp.uint8), 0, axis)
    return images


@functools.lru_cache(maxsize=64)
def order_of(have: tuple[int, int], want: tuple[int, int]) -> tuple[int, ...]:
    """The axes that are resized, in pillow's order, by which some bytes differ.

    It was always the width (2) first; later versions take first what leaves less to do. So this one is asked.
    """
    axes = tuple(axis for axis in (2, 1) if have[axis - 1] != want[axis - 1])
    if len(axes) < 2:
        return axes
    probe = np.random.default_rng(0).integers(0, 256, (1, *have, 1), np.uint8)
    right = resize(probe, want)[0, :, :, 0]

    def resized(order: tuple[int, ...]) -> np.ndarray:
        found = probe[0, :, :, 0].astype(np.float64)  # in which these whole numbers are exact, and products fast
        for axis in order:
            filter_ = taps(have[axis - 1], want[axis - 1])
            matrix = np.zeros((want[axis - 1], have[axis - 1]))
            np.add.at(matrix, (np.arange(len(matrix))[:, None], filter_.places), filter_.weights)
            found = matrix @ found if axis == 1 else found @ matrix.T
            found = np.minimum(np.floor((found + UNIT // 2) / UNIT), 255)
        return found

    return axes if np.array_equal(resized(axes), right) else axes[::-1]


def fit_bytes(images: Array, size: tuple[int, int], how: str = "stretch") -> Array:
    """`jaxad.data.fitting.fit_images` of images [B, H, W, C] uint8, whose height and width are known."""
    check_fit(how)
    if images.shape[1:3] == tuple(size):
        return images
    seen, shown = placed(images.shape[1:3], size, how)
    inner = tuple(part.stop - part.start for part in shown)
    images = resize_bytes(images[:, seen[0], seen[1]], inner)
    margins = [(part.start, whole - part.stop) for part, whole in zip(shown, size, strict=True)]
    return jnp.pad(images, [(0, 0), *margins, (0, 0)]) if inner != tuple(size) else images


def to_channels_bytes(images: Array, channels: int) -> Array:
    """`jaxad.data.images.to_channels` of images [B, H, W, C] uint8; ValueError likewise."""
    have = images.shape[3]
    if have == channels:
        return images
    if (have, channels) == (1, 3):
        return jnp.concatenate([images] * 3, 3)
    if (have, channels) == (3, 1):
        parts = (images[..., c : c + 1].astype(jnp.int32) * weight for c, weight in enumerate(GREY_WEIGHTS))
        return lax.div(sum(parts) + GREY_SUM // 2, jnp.int32(GREY_SUM)).astype(jnp.uint8)
    raise ValueError(f"cannot turn {have} channels into {channels}: only grey (1) <-> RGB (3) is defined")
