"""The predictor's memory: the last so many loss profiles with their masks, first in, first out, in fixed-size arrays.

Profiles of one time are much alike; drawn from many times they are what a mini-batch needs (section 3.2.3).
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import lax

from jaxad.types import Array, Key


class Buffer(NamedTuple):
    """S places, used in turn."""

    profiles: Array  # [S, H, W, L] float32
    masks: Array  # [S, H, W] uint8
    pushed: Array  # int32, how many there have been


def empty(size: int, shape: tuple[int, int], length: int) -> Buffer:
    """No profile of images [*shape] yet."""
    return Buffer(jnp.zeros((size, *shape, length)), jnp.zeros((size, *shape), jnp.uint8), jnp.int32(0))


def push(buffer: Buffer, profiles: Array, masks: Array, wanted: Array | bool = True) -> Buffer:
    """The buffer after [n, H, W, L] and [n, H, W] came in, in place of the oldest; as it was unless `wanted`."""
    chex.assert_rank([profiles, masks], [4, 3])
    size = buffer.masks.shape[0]
    # One by one, each over a copy of itself where not wanted: a branch would copy the whole buffer.
    for index in range(profiles.shape[0]):
        place = (buffer.pushed + index) % size
        new = []
        for array, value in ((buffer.profiles, profiles[index]), (buffer.masks, masks[index].astype(jnp.uint8))):
            old = lax.dynamic_index_in_dim(array, place, keepdims=False)
            new.append(lax.dynamic_update_index_in_dim(array, jnp.where(wanted, value, old), place, 0))
        buffer = buffer._replace(profiles=new[0], masks=new[1])
    return buffer._replace(pushed=buffer.pushed + jnp.where(wanted, profiles.shape[0], 0))


def draw(buffer: Buffer, key: Key, count: int) -> tuple[Array, Array]:
    """Profiles [count, H, W, L] and masks [count, H, W], each drawn from all there are; zeros while there are none."""
    filled = jnp.clip(buffer.pushed, 1, buffer.masks.shape[0])
    index = jax.random.randint(key, (count,), 0, filled)
    return buffer.profiles[index], buffer.masks[index]
