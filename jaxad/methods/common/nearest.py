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
GROUP = 16  # rows of which the nearest is found first


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
        indices = _smallest(_order(stored, chunk, block), k)
        distances = jnp.sqrt(jnp.sum(jnp.square(chunk[:, None] - stored.rows[indices]), 2))
        return Neighbours(jnp.where(indices < stored.count, distances, jnp.inf), indices)

    size = max(1, min(queries.shape[0], CHUNK // max(capacity, k * features)))
    if size == queries.shape[0]:
        return of_chunk(queries)
    chunks = -(-queries.shape[0] // size)
    padded = jnp.pad(queries, [(0, chunks * size - queries.shape[0]), (0, 0)])
    found = lax.map(of_chunk, padded.reshape(chunks, size, -1))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, k)[: queries.shape[0]], found)


def _order(stored: Index, chunk: Array, block: int) -> Array:
    """|r|^2 - 2 q r of queries [Q, D], as |q|^2 orders nothing: [Q, M]."""

    def of(rows: Array, sizes: Array) -> Array:
        return sizes[None] - 2 * jnp.matmul(chunk, rows.T, precision=EXACT)

    capacity = stored.rows.shape[0]
    if capacity <= block:
        return of(stored.rows, stored.sizes)

    def of_block(i: Array, near: Array) -> Array:
        start = jnp.minimum(i * block, capacity - block)
        rows, sizes = (lax.dynamic_slice_in_dim(each, start, block) for each in (stored.rows, stored.sizes))
        return lax.dynamic_update_slice_in_dim(near, of(rows, sizes), start, 1)

    near = jnp.full((chunk.shape[0], capacity), jnp.inf)
    return lax.fori_loop(0, (stored.count + block - 1) // block, of_block, near)


def _smallest(values: Array, k: int) -> Array:
    """Indices [Q, k] int32 of the k smallest of values [Q, M], smallest first.

    They lie in those k groups whose smallest are smallest, and a minimum is found much faster than an order.
    """
    if k == 1:
        return jnp.argmin(values, 1)[:, None].astype(jnp.int32)
    groups = -(-values.shape[1] // GROUP)
    if groups <= k:
        return lax.top_k(-values, k)[1].astype(jnp.int32)
    missing = groups * GROUP - values.shape[1]
    values = jnp.pad(values, [(0, 0), (0, missing)], constant_values=jnp.inf)
    values = values.reshape(-1, GROUP, groups)  # each group strides through all, which takes no transposition
    chosen = lax.top_k(-jnp.min(values, 1), k)[1]
    candidates = jnp.take_along_axis(values, chosen[:, None], 2).reshape(-1, GROUP * k)
    places = lax.top_k(-candidates, k)[1]
    return (places // k * groups + jnp.take_along_axis(chosen, places % k, 1)).astype(jnp.int32)
