"""Exact nearest neighbours among stored rows, a chunk of queries at a time, so that memory stays bounded."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxad.types import Array

EXACT = lax.Precision.HIGHEST
CHUNK = 2**22  # numbers that one chunk of queries may hold at a time, 16 MiB
BLOCK = 512  # rows that are looked at together: those of a store that is not full cost nothing but their last block


class Index(NamedTuple):
    """Rows that neighbours are looked for among, about their mean: what every query needs of them, computed once.

    Distances do not depend on the origin; near the rows' mean the squares are smallest, and so is their rounding.
    """

    rows: Array  # [M, D], less the origin; zeros after the first `count` of them
    sizes: Array  # [M] their squared norms, infinite there
    origin: Array  # [D]
    count: Array  # int32


class Neighbours(NamedTuple):
    """The k nearest rows of each query, nearest first."""

    distances: Array  # [Q, k] Euclidean; infinite where there are fewer than k rows
    indices: Array  # [Q, k] int32


def index(rows: Array, count: Array | int | None = None) -> Index:
    """The index of the first `count` rows [M, D], all by default."""
    count = np.int32(rows.shape[0]) if count is None else count
    valid = jnp.arange(rows.shape[0]) < count
    origin = jnp.sum(jnp.where(valid[:, None], rows, 0.0), 0) / jnp.maximum(count, 1)
    centred = jnp.where(valid[:, None], rows - origin[None], 0.0)
    return Index(centred, jnp.where(valid, jnp.sum(jnp.square(centred), 1), jnp.inf), origin, count)


def index_on_host(rows: np.ndarray, capacity: int) -> Index:
    """The same of all rows [n, D] in NumPy, with room for `capacity`."""
    origin = rows.mean(0, dtype=np.float64).astype(np.float32)
    centred, missing = rows.astype(np.float32) - origin, capacity - len(rows)
    sizes = np.pad(np.square(centred).sum(1), (0, missing), constant_values=np.inf)
    return Index(np.pad(centred, [(0, missing), (0, 0)]), sizes, origin, np.array(len(rows), np.int32))


def index_like(capacity: int, features: int) -> Index:
    """Shapes and types of an index."""
    shapes = ((capacity, features), (capacity,), (features,))
    return Index(*(jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes), jax.ShapeDtypeStruct((), jnp.int32))


def nearest(stored: Index, queries: Array, k: int) -> Neighbours:
    """The k nearest rows of an index of M: queries [Q, D] -> [Q, k] each.

    Neighbours are found by |q|^2 - 2 q r + |r|^2, matrix products, which cancels where q and r are close; so their
    distances are then computed anew from differences. Raises ValueError for k below 1 or above M.
    """
    chex.assert_rank([stored.rows, queries], 2)
    chex.assert_equal_shape_suffix([stored.rows, queries], 1)
    capacity, features = stored.rows.shape
    if not 1 <= k <= capacity:
        raise ValueError(f"k is {k}; give 1 to {capacity}, the number of rows")
    block = BLOCK
    if not isinstance(stored.count, jax.core.Tracer):  # all are stored, or it is a constant of an exported program
        block = capacity = max(int(stored.count), k)
        stored = stored._replace(rows=stored.rows[:capacity], sizes=stored.sizes[:capacity])

    def of_chunk(chunk: Array) -> Neighbours:
        chunk = chunk - stored.origin[None]
        indices = _nearest_of(stored, chunk, k, block)
        distances = jnp.sqrt(jnp.sum(jnp.square(chunk[:, None] - stored.rows[indices]), 2))
        return Neighbours(jnp.where(indices < stored.count, distances, jnp.inf), indices)

    size = max(1, min(queries.shape[0], CHUNK // max(capacity, k * features)))
    if size == queries.shape[0]:
        return of_chunk(queries)
    chunks = -(-queries.shape[0] // size)
    padded = jnp.pad(queries, [(0, chunks * size - queries.shape[0]), (0, 0)])
    found = lax.map(of_chunk, padded.reshape(chunks, size, -1))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, k)[: queries.shape[0]], found)


def _nearest_of(stored: Index, chunk: Array, k: int, block: int) -> Array:
    """Indices [Q, k] of the nearest rows, from block to block those of all until then, so that a block stays in cache.

    What orders rows is |r|^2 - 2 r q [rows, Q], as |q|^2 is the same for all.
    """

    def order(rows: Array, sizes: Array) -> Array:
        return sizes[:, None] - 2 * jnp.matmul(rows, chunk.T, precision=EXACT)

    capacity = stored.rows.shape[0]
    if capacity <= block:
        return _smallest(order(stored.rows, stored.sizes), k)[1]

    def add(i: Array, found: tuple[Array, Array]) -> tuple[Array, Array]:
        start = jnp.minimum(i * block, capacity - block)
        rows, sizes = (lax.dynamic_slice_in_dim(each, start, block) for each in (stored.rows, stored.sizes))
        numbers = start + jnp.arange(block)
        near = order(rows, jnp.where(numbers < i * block, jnp.inf, sizes))  # the last may reach into the one before it
        values, places = _smallest(near, min(k, block))
        values, indices = (jnp.concatenate(both, 1) for both in zip(found, (values, numbers[places]), strict=True))
        values, places = _smallest(values.T, k)
        return values, jnp.take_along_axis(indices, places, 1)

    nothing = jnp.full((chunk.shape[0], k), jnp.inf), jnp.full((chunk.shape[0], k), capacity - 1, jnp.int32)
    return lax.fori_loop(0, (stored.count + block - 1) // block, add, nothing)[1]


def _smallest(values: Array, k: int) -> tuple[Array, Array]:
    """The k smallest of values [M, Q], smallest first, and their places: [Q, k] each."""
    if k == 1:  # a minimum over rows is the faster one
        return jnp.min(values, 0)[:, None], jnp.argmin(values, 0)[:, None].astype(jnp.int32)
    found, places = lax.top_k(-values.T, k)
    return -found, places.astype(jnp.int32)
