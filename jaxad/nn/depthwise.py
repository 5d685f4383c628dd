"""Depthwise convolutions: every channel by its own kernel, as a sum of shifted images.

XLA's own grouped convolution on CPU visits one channel at a time: for the sizes of EfficientNet it takes 9 to 37 times
as long (`benchmarks/depthwise.py`). A sum of as many products as the kernel has taps is one loop over the pixels.
"""

from collections.abc import Sequence

import chex
from jax import lax

from jaxad.types import Array


def depthwise_conv(images: Array, kernel: Array, strides: Sequence[int], padding: Sequence[tuple[int, int]]) -> Array:
    """Correlate each channel with its own kernel: [B, H, W, C], [h, w, 1, C] -> [B, H', W', C].

    Args:
      strides: down and to the right.
      padding: zeros (above, below) and (left, right).

    Example:
      >>> import jax.numpy as jnp
      >>> depthwise_conv(jnp.ones((1, 8, 8, 3)), jnp.ones((3, 3, 1, 3)), (2, 2), [(0, 1), (0, 1)]).shape
      (1, 4, 4, 3)
    """
    chex.assert_rank([images, kernel], 4)
    chex.assert_axis_dimension(kernel, 2, 1)
    chex.assert_equal_shape_suffix([images, kernel], 1)
    images = lax.pad(images, images.dtype.type(0), [(0, 0, 0), *((*sides, 0) for sides in padding), (0, 0, 0)])
    batch, height, width, channels = images.shape
    rows, columns, _, _ = kernel.shape
    down, right = strides
    high, wide = (height - rows) // down + 1, (width - columns) // right + 1
    total = None
    for row in range(rows):
        for column in range(columns):
            ends = (batch, row + (high - 1) * down + 1, column + (wide - 1) * right + 1, channels)
            shifted = lax.slice(images, (0, row, column, 0), ends, (1, down, right, 1))
            product = shifted * kernel[row, column][None, None]
            total = product if total is None else total + product
    return total
