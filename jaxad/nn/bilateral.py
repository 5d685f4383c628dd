"""Gaussian filters of one picture, as a dense CRF needs them: sums over all pairs of pixels.

    (K v)_i = sum_j exp(-|f_i - f_j|^2 / 2) v_j          f = position, or position and colour, in standard deviations

A filter over positions alone separates into two small matrix products. One over positions and colours does not: it is
either summed pair by pair, O(N^2) in the pixels, or looked up in a bilateral grid (Chen, Paris & Durand 2007):
values are added up in cells of position and colour, the grid is blurred axis by axis, and pixels read it again.
"""

import functools
import math
from collections.abc import Callable

import chex
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxad.types import Array

Filter = Callable[[Array], Array]  # [H, W] -> [H, W]

GREYS = 256  # colour distances are counted in 8-bit levels, whatever the number type of the images
PAIRS = 2**22  # kernel values of the exact filter in memory at a time
SPACE_CELLS = 4  # grid cells to a standard deviation in space, where a pixel belongs to one cell
COLOUR_CELLS = 4 / 3  # the same in colour, where it is shared out between neighbouring cells
GRID_LIMIT = 2**25  # cells of a grid: 128 MiB


def spatial_filter(shape: tuple[int, int], sd: float) -> Filter:
    """exp(-distance^2 / (2 sd^2)) over the pixels of [H, W], exactly."""
    rows, columns = (_kernel(np.arange(n), sd) for n in shape)

    def apply(values: Array) -> Array:
        chex.assert_shape(values, shape)
        return _product(_product(jnp.asarray(rows), values), jnp.asarray(columns))

    return apply


def exact_bilateral_filter(image: Array, sd: float, colour_sd: float) -> Filter:
    """exp(-distance^2 / (2 sd^2) - colour distance^2 / (2 colour_sd^2)), pair by pair.

    Args:
      image: [H, W, C] in [0, 1]. One channel counts as three equal ones.
      sd: in pixels.
      colour_sd: in levels of 0..255, along each channel.
    """
    chex.assert_rank(image, 3)
    height, width, _ = image.shape
    colours = _colours(image, colour_sd)
    positions = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), -1) / sd
    features = jnp.concatenate([positions, colours], -1).reshape(height * width, -1)
    together = max(1, min(len(features), PAIRS // len(features)))
    starts = jnp.arange(-(-len(features) // together)) * together
    padded = jnp.pad(features, [(0, len(starts) * together - len(features)), (0, 0)])

    def apply(values: Array) -> Array:
        chex.assert_shape(values, (height, width))
        flat = values.reshape(-1)

        def some(start: Array) -> Array:
            own = lax.dynamic_slice_in_dim(padded, start, together)
            # Differences rather than an expanded square: at 20 standard deviations that would lose five digits.
            squares = sum(jnp.square(own[:, None, k] - features[None, :, k]) for k in range(features.shape[1]))
            return _product(jnp.exp(-squares / 2), flat)

        return lax.map(some, starts).reshape(-1)[: len(features)].reshape(height, width)

    return apply


def grid_bilateral_filter(image: Array, sd: float, colour_sd: float) -> Filter:
    """`exact_bilateral_filter` by a bilateral grid: linear in the pixels, some per cent off.

    In space a pixel belongs to the nearest cell, a quarter of `sd` wide; in colour it is shared out linearly among the
    2^C cells around it. Sharing out and reading back widen the kernel by a known variance, by which the blur is
    narrower.

    Raises:
      ValueError: a grid too large for memory (see `check_grid`).
    """
    chex.assert_rank(image, 3)
    height, width, channels = image.shape
    check_grid((height, width), channels, sd, colour_sd)
    places = [np.arange(n) * SPACE_CELLS // sd for n in (height, width)]
    step, levels = 1 / COLOUR_CELLS, np.arange(_colour_cells(channels, colour_sd))
    axes = [_kernel(np.arange(_cells(n, sd)), SPACE_CELLS) for n in (height, width)]
    # A linear share has variance step^2 / 6 about its pixel, averaged over where between the cells the pixel lies.
    axes += channels * [_kernel(levels, math.sqrt(1 - step**2 / 3) / step)]
    shape = tuple(len(axis) for axis in axes)

    scaled = _colours(image, colour_sd) / step  # [H, W, C], in cells
    low = jnp.clip(jnp.floor(scaled), 0, len(levels) - 2)
    share = scaled - low
    corners = np.stack(np.meshgrid(*channels * [np.arange(2)], indexing="ij"), -1).reshape(-1, channels)
    cells = low.astype(jnp.int32)[:, :, None] + corners[None, None]  # [H, W, 2^C, C]
    weights = jnp.prod(jnp.where(corners[None, None] == 1, share[:, :, None], 1 - share[:, :, None]), -1)
    rows, columns = (place.astype(np.int32) for place in places)
    index = jnp.broadcast_to((rows[:, None] * shape[1] + columns[None])[:, :, None], weights.shape)
    for channel, size in enumerate(shape[2:]):
        index = index * size + cells[..., channel]

    def apply(values: Array) -> Array:
        chex.assert_shape(values, (height, width))
        shares = (values[:, :, None] * weights).reshape(-1)
        grid = jnp.zeros(math.prod(shape)).at[index.reshape(-1)].add(shares).reshape(shape)
        for axis in axes:  # each product moves its axis to the end, so that after all of them the order is as before
            grid = jnp.moveaxis(grid, 0, -1)
            grid = _product(grid.reshape(-1, len(axis)), jnp.asarray(axis)).reshape(grid.shape)
        return jnp.sum(grid.reshape(-1)[index] * weights, -1)

    return apply


def check_grid(shape: tuple[int, int], channels: int, sd: float, colour_sd: float) -> None:
    """Raise ValueError where `grid_bilateral_filter` would need too much memory for images [*shape, channels]."""
    cells = math.prod(_cells(n, sd) for n in shape) * _colour_cells(channels, colour_sd) ** channels
    if cells > GRID_LIMIT:
        raise ValueError(
            f"a bilateral grid of {cells:.2g} cells for images {shape[0]}x{shape[1]}x{channels} is more than "
            f"{GRID_LIMIT}: widen the bilateral kernel, reduce the channels, or take the exact filter"
        )


def normalised(kernel: Filter, shape: tuple[int, int]) -> Filter:
    """D^-1/2 K D^-1/2 with D the diagonal of K's row sums, as the authors of the dense CRF normalise."""
    scale = lax.rsqrt(kernel(jnp.ones(shape)) + 1e-20)
    return lambda values: scale * kernel(scale * values)


def _kernel(places: np.ndarray, sd: float) -> np.ndarray:
    return np.exp(-(((places[:, None] - places[None]) / sd) ** 2) / 2).astype(np.float32)


def _colours(image: Array, colour_sd: float) -> Array:
    """[H, W, C] in standard deviations."""
    same = math.sqrt(3) if image.shape[-1] == 1 else 1.0
    return image * ((GREYS - 1) * same / colour_sd)


def _cells(pixels: int, sd: float) -> int:
    return int((pixels - 1) * SPACE_CELLS // sd) + 1


def _colour_cells(channels: int, colour_sd: float) -> int:
    same = math.sqrt(3) if channels == 1 else 1.0
    return math.ceil((GREYS - 1) * same / colour_sd * COLOUR_CELLS) + 1


_product = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)
"""Reduced precision would be a per cent of the sum over all pixels."""
