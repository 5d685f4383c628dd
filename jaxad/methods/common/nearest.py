"""Exact nearest neighbours among stored rows, a chunk of queries at a time, so that memory stays bounded."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import lax

from jaxad.types import Array

EXACT = lax.Precision.HIGHEST
CHUNK = 2**22  # numbers that one chunk of queries may hold at a time, 16 MiB


class Neighbours(NamedTuple):
    """The k nearest rows of each query, nearest first."""

    distances: Array  # [Q, k] Euclidean; infinite where there are fewer than k rows
    indices: Array  # [Q, k] int32


def nearest(rows: Array, queries: Array, k: int, count: Array | None = None) -> Neighbours:
    """The k nearest of the first `count` rows (all by default): [M, D], [Q, D] -> [Q, k] each.

    Neighbours are found by |q|^2 - 2 q r + |r|^2, one matrix product, which cancels where q and r are close; so
    their distances are then computed anew from differences. Raises ValueError for k below 1 or above M.
    """
    chex.assert_rank([rows, queries], 2)
    chex.assert_equal_shape_suffix([rows, queries], 1)
    if not 1 <= k <= rows.shape[0]:
        raise ValueError(f"k is {k}; give 1 to {rows.shape[0]}, the number of rows")
    valid = jnp.arange(rows.shape[0]) < (rows.shape[0] if count is None else count)
    # Distances do not depend on the origin; near the rows' mean the squares are smallest, and so is their rounding.
    total = jnp.sum(jnp.where(valid[:, None], rows, 0.0), 0)
    origin = total / jnp.maximum(jnp.sum(valid), 1)
    centred = jnp.where(valid[:, None], rows - origin[None], 0.0)
    sizes = jnp.where(valid, jnp.sum(jnp.square(centred), 1), jnp.inf)

    def of_chunk(chunk: Array) -> Neighbours:
        product = jnp.matmul(chunk - origin[None], centred.T, precision=EXACT)
        near = sizes[None] - 2 * product  # |q|^2 orders nothing
        if k == 1:
            indices = jnp.argmin(near, 1)[:, None]
        else:
            indices = lax.top_k(-near, k)[1]
        distances = jnp.sqrt(jnp.sum(jnp.square(chunk[:, None] - rows[indices]), 2))
        return Neighbours(jnp.where(valid[indices], distances, jnp.inf), indices.astype(jnp.int32))

    size = max(1, min(queries.shape[0], CHUNK // max(rows.shape[0], k * rows.shape[1])))
    if size == queries.shape[0]:
        return of_chunk(queries)
    chunks = -(-queries.shape[0] // size)
    padded = jnp.pad(queries, [(0, chunks * size - queries.shape[0]), (0, 0)])
    found = lax.map(of_chunk, padded.reshape(chunks, size, -1))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, k)[: queries.shape[0]], found)
