"""Strided, transposed and dilated convolutions as matrix products and convolutions of stride 1.

Their gradients are fast everywhere, also inside compiled loops (see `jaxad.nn.conv`). Those that halve or double an
image compute in the number type of their kernel and return float32.
"""

import chex
import jax.numpy as jnp

from jaxad.nn.conv import conv, pixel_product
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


def half_conv3(images: Array, kernel: Array) -> Array:
    """Cross-correlation with a 3x3 kernel, stride 2 and padding 1: [B, H, W, I] -> [B, ceil(H/2), ceil(W/2), O]."""
    _, height, width, _ = images.shape
    # An odd edge gets a row of the padding that is there anyway; the fourth tap of `halving_conv` is 0.
    images = jnp.pad(images, [(0, 0), (0, height % 2), (0, width % 2), (0, 0)])
    return halving_conv(images, jnp.pad(kernel, [(0, 1), (0, 1), (0, 0), (0, 0)]))


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


def dilated_conv(images: Array, kernel: Array, dilation: int) -> Array:
    """Cross-correlation with stride 1, taps `dilation` apart and output as large as the input: [B, H, W, I] -> O.

    Pixels `dilation` apart see only each other: every such set is an image of its own for a dense convolution.
    """
    if dilation == 1:
        return conv(images, kernel)
    batch, height, width, channels = images.shape
    rows, columns = -(-height // dilation), -(-width // dilation)
    padding = [(0, 0), (0, rows * dilation - height), (0, columns * dilation - width), (0, 0)]
    sets = jnp.pad(images, padding).reshape(batch, rows, dilation, columns, dilation, channels)
    sets = sets.transpose(2, 4, 0, 1, 3, 5).reshape(-1, rows, columns, channels)
    sets = conv(sets, kernel).reshape(dilation, dilation, batch, rows, columns, -1).transpose(2, 3, 0, 4, 1, 5)
    return sets.reshape(batch, rows * dilation, columns * dilation, -1)[:, :height, :width]


def _spread(cells: Array, channels: int) -> Array:
    """Cells of 2x2 pixels [B, H, W, 4C] side by side: [B, 2H, 2W, C]."""
    batch, height, width, _ = cells.shape
    images = cells.reshape(batch, height, width, 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    return images.reshape(batch, 2 * height, 2 * width, channels)
