"""Spectral normalisation (Miyato et al. 2018): every kernel divided by an estimate of its largest singular value.

A kernel [..., I, O] is a matrix of all but its last axis by the last. One vector u of length O for each kernel is kept
between the steps; a power iteration brings it nearer to the first singular vector.

    v = W u / |W u|,   u <- W^T v / |W^T v|,   sigma = v^T W u
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxad._utils.random import normal_like
from jaxad.types import Array, Key, Params

EPSILON = 1e-12


def init_vectors(key: Key, params: Params) -> tuple[Array, ...]:
    """A random unit vector for every kernel of `params` (leaves under the name "kernel"), in order."""
    shapes = [jax.ShapeDtypeStruct(kernel.shape[-1:], jnp.float32) for kernel in _kernels(params)]
    return tuple(map(_unit, normal_like(key, shapes)))


def power_iteration(params: Params, vectors: tuple[Array, ...]) -> tuple[Array, ...]:
    """The vectors after one more iteration; no gradient passes."""
    matrices = [_matrix(lax.stop_gradient(kernel)) for kernel in _kernels(params)]
    return tuple(_unit(_unit(matrix @ u) @ matrix) for matrix, u in zip(matrices, vectors, strict=True))


def normalise_kernels(params: Params, vectors: tuple[Array, ...]) -> Params:
    """`params` with every kernel divided by its sigma; gradients reach sigma, not the vectors."""
    remaining = iter(vectors)

    def normalised(path: Any, leaf: Array) -> Array:
        if not _is_kernel(path):
            return leaf
        matrix, u = _matrix(leaf), lax.stop_gradient(next(remaining))
        v = _unit(lax.stop_gradient(matrix) @ u)
        return leaf / (v @ matrix @ u)

    return jax.tree_util.tree_map_with_path(normalised, params)


def _kernels(params: Params) -> list[Array]:
    return [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params) if _is_kernel(path)]


def _is_kernel(path: Any) -> bool:
    return path[-1] == jax.tree_util.DictKey("kernel")


def _matrix(kernel: Array) -> Array:
    return kernel.reshape(-1, kernel.shape[-1])


def _unit(vector: Array) -> Array:
    return vector / (jnp.linalg.norm(vector) + EPSILON)
