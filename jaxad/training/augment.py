"""Random affine changes of images and of what belongs to them pixel by pixel: masks, losses, profiles.

Flips, turns, shifts and shears, as in the published follow-up of the thesis, which leaves them open.
Geometric alone, so that they make sense of loss profiles, too. What comes from beyond the edge is mirrored, also in
masks: a black border would be an anomaly without a label.
"""

import math

import chex
import jax
import jax.numpy as jnp

from jaxad.types import Array, Key

TURN, SHIFT, SHEAR = math.radians(30), 0.1, math.radians(20)  # each up to so much either way; shifts of a side


def random_transforms(key: Key, count: int) -> Array:
    """[count, 2, 3]: for each a matrix and a shift in sides, which lead from a new pixel to the old one."""
    flips, draws = jax.random.split(key)
    signs = jax.random.rademacher(flips, (count, 2), jnp.float32)
    turn, shear, down, right = jax.random.uniform(draws, (4, count), minval=-1.0, maxval=1.0)
    cos, sin, slant = jnp.cos(TURN * turn), jnp.sin(TURN * turn), jnp.tan(SHEAR * shear)
    # A turn times a shear along rows, then each axis flipped or not.
    matrix = jnp.stack([jnp.stack([cos, cos * slant - sin], -1), jnp.stack([sin, sin * slant + cos], -1)], -2)
    shift = SHIFT * jnp.stack([down, right], -1)
    return jnp.concatenate([matrix * signs[:, None], shift[..., None]], -1)


def warp(arrays: Array, transforms: Array, *, nearest: bool = False) -> Array:
    """Arrays [N, H, W, C] changed by transforms [N, 2, 3], bilinear or by the nearest pixel."""
    chex.assert_rank([arrays, transforms], [4, 3])
    chex.assert_equal_shape_prefix([arrays, transforms], 1)
    return jax.vmap(lambda array, transform: _warp(array, transform, nearest))(arrays, transforms)


def _warp(array: Array, transform: Array, nearest: bool) -> Array:
    height, width, channels = array.shape
    sides = jnp.array([height, width], jnp.float32)
    centre = (sides - 1) / 2
    grid = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), -1).reshape(-1, 2)
    # Products of two numbers each: written out, they are not rounded as matrix products may be.
    away = grid - centre[None]
    places = jnp.stack([away[:, 0] * a + away[:, 1] * b for a, b, _ in transform], -1)
    places = places + (centre + transform[:, 2] * sides)[None]
    flat = array.reshape(-1, channels)

    def look(rows: Array, columns: Array) -> Array:
        return flat[_mirror(rows, height) * width + _mirror(columns, width)]

    if nearest:
        return look(*jnp.round(places).astype(jnp.int32).T).reshape(array.shape)
    low = jnp.floor(places)
    (down, right), (top, left) = (places - low).T[..., None], low.astype(jnp.int32).T
    above = (1 - right) * look(top, left) + right * look(top, left + 1)
    below = (1 - right) * look(top + 1, left) + right * look(top + 1, left + 1)
    return ((1 - down) * above + down * below).reshape(array.shape)


def _mirror(index: Array, length: int) -> Array:
    """Whole numbers of any size as 0 .. length - 1, running to and fro."""
    if length == 1:
        return jnp.zeros_like(index)
    folded = index % (2 * length - 2)
    return jnp.minimum(folded, 2 * length - 2 - folded)
