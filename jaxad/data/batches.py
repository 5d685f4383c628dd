"""Which images a training step sees, and how stored images become numbers.

Everything is a pure function of keys and step numbers, so that training can stop after any step and go on as if it
never had.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxad.types import Array, Key


def batch_order(key: Key, images: int, steps: int, batch_size: int, start: Array | int = 0) -> Array:
    """Indices [steps, batch_size] of the training images of steps start, start + 1, ...

    One random permutation of all images after another; a batch may reach into the next. The indices of a step depend
    on the key, `images`, `batch_size` and its number alone, not on `start` or `steps`. `start` may be traced;
    (start + steps) * batch_size must stay below 2^31.
    """
    needed = steps * batch_size
    epoch, offset = start * batch_size // images, start * batch_size % images
    furthest = offset if isinstance(start, int) else images - 1
    epochs = epoch + jnp.arange(batches(furthest + needed, images))
    permutations = jax.vmap(lambda epoch: jax.random.permutation(jax.random.fold_in(key, epoch), images))(epochs)
    indices = lax.dynamic_slice(permutations.reshape(-1), (offset,), (needed,))
    return indices.reshape(steps, batch_size)


def balanced_order(
    key: Key, normal: Array, anomalous: Array, steps: int, batch_size: int, anomalies: int, start: Array | int = 0
) -> Array:
    """As `batch_order`, with `anomalies` anomalous images in every batch, in random places.

    Normal images come in one random permutation after another. Anomalous ones are drawn with replacement, so that a few
    of them serve any number (AGAD, section 3.3.2, has at least 32 of 256).

    Args:
      normal, anomalous: [n] and [a], indices of the images of either kind.
      anomalies: 1 to batch_size - 1.
    """
    # Folded and not split, which would use the key up: every chunk of a training asks for its order with the same one.
    normal_key, draw_key, place_key = (jax.random.fold_in(key, part) for part in range(3))
    order = batch_order(normal_key, normal.shape[0], steps, batch_size - anomalies, start)

    def row(step: Array, order: Array) -> Array:
        draw, place = (jax.random.fold_in(key, step) for key in (draw_key, place_key))
        drawn = jax.random.randint(draw, (anomalies,), 0, anomalous.shape[0])
        return jax.random.permutation(place, jnp.concatenate([normal[order], anomalous[drawn]]))

    return jax.vmap(row)(start + jnp.arange(steps), order)


def batches(images: int, batch_size: int) -> int:
    """How many batches cover that many images."""
    return -(-images // batch_size)


def window(images: Array, index: Array | int, size: int) -> Array:
    """Batch `index` of images read in order; the last one is filled up from the first images."""
    return to_float(images[(index * size + jnp.arange(size)) % images.shape[0]])


def map_batches(function: Callable[[Array], Array], images: Array, batch_size: int) -> Array:
    """[N, ...] of images [N, H, W, C] from a function of batches [B, H, W, C] float32 -> [B, ...], one after another.

    Batches have equal size, at most `batch_size`; the last one is filled up from the first images.
    """
    images = jnp.asarray(images)  # NumPy arrays cannot be indexed by traced numbers
    count = batches(images.shape[0], batch_size)
    size = batches(images.shape[0], count)
    results = lax.map(lambda index: function(window(images, index, size)), jnp.arange(count))
    return results.reshape(-1, *results.shape[2:])[: images.shape[0]]


def to_float(images: Array) -> Array:
    """Stored images as float32 in [0, 1]."""
    return images.astype(jnp.float32) / 255.0 if images.dtype == jnp.uint8 else images.astype(jnp.float32)


def as_float(images: np.ndarray) -> np.ndarray:
    """`to_float` on the host, to the bit: XLA multiplies by 1/255 where NumPy would divide."""
    return images * np.float32(1 / 255) if images.dtype == np.uint8 else images.astype(np.float32, copy=False)
