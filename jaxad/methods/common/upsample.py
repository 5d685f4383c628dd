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
    maps, signs = (
        jax.image.resize(part, (part.shape[0], *size), "linear", precision=lax.Precision.HIGHEST)
        for part in (jnp.where(finite, maps, 0.0), signs)
    )
    if blur > 0:
        rows, columns = (_gaussian(length, blur * max(size)) for length in size)
        maps = jnp.einsum("ih,bhw->biw", rows, maps, precision=lax.Precision.HIGHEST)
        maps = jnp.einsum("jw,biw->bij", columns, maps, precision=lax.Precision.HIGHEST)
    return jnp.where(signs == 0, maps, jnp.sign(signs) * jnp.inf)


@lru_cache(maxsize=16)
def _gaussian(length: int, sd: float) -> np.ndarray:
    """A Gaussian filter along one axis as a matrix [length, length]; weights cut off at the border are made up for."""
    offsets = np.subtract.outer(np.arange(length), np.arange(length))
    weights = np.exp(-0.5 * np.square(offsets / sd))
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
