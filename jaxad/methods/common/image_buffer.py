"""A buffer of fixed size for the images that `step` has seen, for detectors that are fitted rather than trained.

The first images fill it, each once: what is seen again, in a second epoch, changes nothing. So one pass over the
training images is all there is to learn, and more passes do no harm.
"""

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxad.types import Array

LIMIT = 2**33  # bytes: beyond this a wrong setting is likelier than a machine with room for it


class ImageBuffer(NamedTuple):
    """What was seen. The rows after the first `count` are zeros."""

    rows: Array  # [M, ...] float32
    marks: Array  # [M, 2] uint32, a hash of each row by which it is known again
    count: Array  # int32


def empty(capacity: int, shape: tuple[int, ...]) -> ImageBuffer:
    """Room for `capacity` arrays of this shape; ValueError where that is more than `LIMIT` bytes."""
    size = 4 * capacity * math.prod(shape)
    if size > LIMIT:
        raise ValueError(
            f"an image buffer of {capacity} images of {math.prod(shape)} numbers takes {size / 2**30:.1f} GiB; "
            f"the limit is {LIMIT / 2**30:.0f}: set memory lower, or resize the images"
        )
    return ImageBuffer(jnp.zeros((capacity, *shape)), jnp.zeros((capacity, 2), jnp.uint32), jnp.int32(0))


def remember(buffer: ImageBuffer, rows: Array) -> ImageBuffer:
    """Add those of the rows [B, ...] that are new, in order, while there is room."""
    chex.assert_equal_shape_suffix([buffer.rows, rows], rows.ndim - 1)
    capacity, size = buffer.rows.shape[0], rows.shape[0]
    marks = _marks(rows.reshape(size, -1))
    known = (marks[:, None] == buffer.marks[None]).all(2) & (jnp.arange(capacity) < buffer.count)[None]
    earlier = (marks[:, None] == marks[None]).all(2) & jnp.tril(jnp.ones((size, size), bool), -1)
    new = ~(known.any(1) | earlier.any(1))
    # A place outside is no place: what does not fit, or is known, is dropped.
    places = jnp.where(new, buffer.count + jnp.cumsum(new) - 1, capacity)
    return ImageBuffer(
        buffer.rows.at[places].set(rows, mode="drop"),
        buffer.marks.at[places].set(marks, mode="drop"),
        jnp.minimum(buffer.count + jnp.sum(new, dtype=jnp.int32), capacity),
    )


def places_of(maps: Array, seed: Array, count: int) -> Array:
    """Some places of every map [B, h, w, F]: at most `count`, as [B, p, F], the same whenever a map is seen again."""
    chex.assert_rank(maps, 4)
    rows = maps.reshape(maps.shape[0], -1, maps.shape[3])
    if rows.shape[1] <= count:
        return rows

    def drawn(rows: Array, mark: Array) -> Array:
        key = jax.random.fold_in(jax.random.key(seed), mark)
        return rows[lax.top_k(jax.random.uniform(key, (rows.shape[0],)), count)[1]]

    return jax.vmap(drawn)(rows, _marks(rows.reshape(maps.shape[0], -1))[:, 0])


def _marks(rows: Array) -> Array:
    """[B, D] float32 -> [B, 2] uint32: two hashes of the bits. Two of a million images agree once in 10^7 buffers."""
    bits = lax.bitcast_convert_type(rows, jnp.uint32)
    place = jnp.arange(rows.shape[1], dtype=jnp.uint32)
    hashes = []
    for odd in (0x9E3779B1, 0x85EBCA77):
        mixed = (bits ^ (place * np.uint32(odd))[None]) * np.uint32(odd)
        mixed = (mixed ^ (mixed >> 16)) * np.uint32(0x7FEB352D)
        mixed = (mixed ^ (mixed >> 15)) * np.uint32(0x846CA68B)
        hashes.append(jnp.sum(mixed ^ (mixed >> 16), 1, dtype=jnp.uint32))
    return jnp.stack(hashes, 1)
