"""Maps of patches become maps of pixels."""

from functools import lru_cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxad.types import Array


def to_pixels(maps: Array, size: tuple[int, int], blur: float) -> Array:
    """[B, h, w] enlarged to [B, H, W] bilinearly, then smoothed by a Gaussian, its sd `blur` times the longer side.

    A patch that is infinite makes the pixels infinite that lie between its centre and its neighbours', and no others:
    sums over all patches, which is what enlarging and smoothing are, would make NaN of 0 times infinity everywhere.
    """
    chex.assert_rank(maps, 3)
    finite = jnp.isfinite(maps) | jnp.isnan(maps)
    signs = jnp.where(finite, 0.0, jnp.sign(maps))
    signs = _along_axes(signs, [_bilinear(*pair) for pair in zip(maps.shape[1:], size)])
    both = [_smooth(*pair, blur * max(size)) for pair in zip(maps.shape[1:], size)]
    maps = _along_axes(jnp.where(finite, maps, 0.0), both)
    return jnp.where(signs == 0, maps, jnp.sign(signs) * jnp.inf)


def _along_axes(maps: Array, matrices: list[np.ndarray]) -> Array:
    """Maps [B, h, w] by a matrix for each axis, [H, h] and [W, w]: [B, H, W]."""
    maps = jnp.einsum("ih,bhw->biw", matrices[0], maps, precision=lax.Precision.HIGHEST)
    return jnp.einsum("jw,biw->bij", matrices[1], maps, precision=lax.Precision.HIGHEST)


@lru_cache(maxsize=64)
def _bilinear(have: int, want: int) -> np.ndarray:
    """Enlarging along one axis as a matrix [want, have]."""
    with jax.ensure_compile_time_eval():
        return np.asarray(jax.image.resize(np.eye(have, dtype=np.float32), (want, have), "linear"))


@lru_cache(maxsize=64)
def _smooth(have: int, want: int, sd: float) -> np.ndarray:
    """Enlarging, then smoothing, in one matrix [want, have]: a product of the small map instead of one of the large."""
    enlarged = _bilinear(have, want)
    return enlarged if sd == 0 else (_gaussian(want, sd).astype(np.float64) @ enlarged).astype(np.float32)


@lru_cache(maxsize=16)
def _gaussian(length: int, sd: float) -> np.ndarray:
    """A Gaussian filter along one axis as a matrix [length, length]; weights cut off at the border are made up for."""
    offsets = np.subtract.outer(np.arange(length), np.arange(length))
    weights = np.exp(-0.5 * np.square(offsets / sd))
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
