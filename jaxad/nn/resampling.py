"""Convolutions that halve or double an image, as matrix products: no slow gradient anywhere (see `jaxad.nn.conv`).

They compute in the number type of their kernel and return float32.
"""

import chex
import jax.numpy as jnp

from jaxad.nn.conv import pixel_product
from jaxad.types import Array


def halving_conv(images: Array, kernel: Array) -> Array:
    """Cross-correlation with a 4x4 kernel [4, 4, I, O], stride 2 and padding 1: [B, H, W, I] -> [B, H/2, W/2, O].

    H and W are even. One product of all 4x4 patches.
    """
    chex.assert_rank([images, kernel], 4)
    batch, height, width, channels = images.shape
    images = jnp.pad(images.astype(kernel.dtype), [(0, 0), (1, 1), (1, 1), (0, 0)])
    cells = images.reshape(batch, height // 2 + 1, 2, width // 2 + 1, 2, channels)
    cells = cells.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // 2 + 1, width // 2 + 1, 4 * channels)
    patches = [cells[:, i : i + height // 2, j : j + width // 2] for i in (0, 1) for j in (0, 1)]
    # From [row, column] of a tap to [cell row, cell column, row in cell, column in cell].
    weights = kernel.reshape(2, 2, 2, 2, channels, -1).transpose(0, 2, 1, 3, 4, 5).reshape(16 * channels, -1)
    return pixel_product(jnp.concatenate(patches, -1), weights).astype(jnp.float32)


def doubling_conv(images: Array, kernel: Array) -> Array:
    """Transposed convolution with a 4x4 kernel [4, 4, I, O], stride 2, padding 1: [B, H, W, I] -> [B, 2H, 2W, O].

    The mirror of `halving_conv`: each pixel adds its product with the kernel to a 4x4 patch, patches 2 apart. A patch
    is 2x2 cells of 2x2 pixels, so that adding patches is adding four images of cells, each shifted by a cell.
    """
    chex.assert_rank([images, kernel], 4)
    batch, height, width, channels = images.shape
    outputs = kernel.shape[3]
    weights = kernel.reshape(2, 2, 2, 2, channels, outputs).transpose(4, 0, 2, 1, 3, 5).reshape(channels, -1)
    cells = pixel_product(images.astype(kernel.dtype), weights).reshape(batch, height, width, 2, 2, 4 * outputs)
    total = sum(
        jnp.pad(cells[:, :, :, i, j], [(0, 0), (i, 1 - i), (j, 1 - j), (0, 0)]).astype(jnp.float32)
        for i in (0, 1)
        for j in (0, 1)
    )
    # The outermost pixels are what the padding cuts off.
    return _spread(total, outputs)[:, 1:-1, 1:-1]


def patch_doubling(images: Array, kernel: Array) -> Array:
    """Transposed convolution with a 2x2 kernel [2, 2, I, O] and stride 2: [B, H, W, I] -> [B, 2H, 2W, O]."""
    chex.assert_rank([images, kernel], 4)
    weights = kernel.transpose(2, 0, 1, 3).reshape(kernel.shape[2], -1)
    return _spread(pixel_product(images.astype(kernel.dtype), weights).astype(jnp.float32), kernel.shape[3])


def _spread(cells: Array, channels: int) -> Array:
    """Cells of 2x2 pixels [B, H, W, 4C] side by side: [B, 2H, 2W, C]."""
    batch, height, width, _ = cells.shape
    images = cells.reshape(batch, height, width, 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    return images.reshape(batch, 2 * height, 2 * width, channels)
