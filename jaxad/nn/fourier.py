"""Convolutions as products of spectra: for kernels of many taps several times fewer multiplications than `nn.conv`.

By the convolution theorem a kernel of whatever size costs one complex multiplication for each frequency and pair of
channels. The images of a search are small and have few sizes, so that their discrete Fourier transforms are products
with small fixed matrices: exact up to rounding, fast in loops, differentiable any number of times. Frequencies lead
all arrays, so that none is transposed on the way to the products. Rounding is relative to the largest number of a
result, where a sum over taps rounds each number relative to what it sums.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import chex
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxad.types import Array

Size = tuple[int, int]

# Frequencies are A vertical ones, of which real images need the non-negative alone, by D horizontal ones. They come in
# parts of some vertical frequencies: XLA on CPU spreads separate products over the cores, but not one batch of them.
# Each part is two products. More of them take as many times as long to compile.
MOST_PARTS = 4
Spectrum = list[Array]  # parts [F, 2, B, C] of images: frequencies, real and imaginary


class KernelFrequencies(NamedTuple):
    """Some frequencies of a kernel."""

    real: Array  # [F, I, O]
    imaginary: Array  # [F, I, O]


KernelSpectrum = list[KernelFrequencies]  # parts of a kernel


def conv(images: Array, kernel: Array) -> Array:
    """Cross-correlation with zero padding and stride 1, output as large as the input.

    Args:
      images: [B, H, W, I].
      kernel: [h, w, I, O], h and w odd.

    Returns:
      [B, H, W, O], that of `lax.conv_general_dilated(..., padding="SAME")` up to rounding.
    """
    chex.assert_rank([images, kernel], 4)
    chex.assert_axis_dimension(images, 3, kernel.shape[2])
    size, taps = images.shape[1:3], kernel.shape[:2]
    return image(multiply(spectrum(images, taps), kernel_spectrum(kernel, size)), size, taps)


def spectrum(images: Array, taps: Size) -> Spectrum:
    """Images [B, H, W, C] at the frequencies that a kernel of so many taps needs."""
    chex.assert_rank(images, 4)
    batch, height, width, channels = images.shape
    pixels = images.transpose(1, 2, 0, 3).reshape(height, width, batch * channels)
    rows = _rows(height, taps[0], range(height))
    columns = _columns(width, taps[1], range(width))
    return [_times(columns, part).reshape(-1, 2, batch, channels) for part in _half_way(pixels, rows)]


def kernel_spectrum(kernel: Array, size: Size) -> KernelSpectrum:
    """A kernel [h, w, I, O], h and w odd, at the frequencies of images of this size."""
    chex.assert_rank(kernel, 4)
    *taps, inner, outer = kernel.shape
    # A correlation is a convolution with the mirrored kernel, its middle at the origin.
    rows = _rows(size[0], taps[0], taps[0] // 2 - np.arange(taps[0]))
    columns = _columns(size[1], taps[1], taps[1] // 2 - np.arange(taps[1]))
    return [
        KernelFrequencies(*(_times(columns[start::2], part).reshape(-1, inner, outer) for start in (0, 1)))
        for part in _half_way(kernel.reshape(*taps, inner * outer), rows)
    ]


def multiply(images: Spectrum, kernel: KernelSpectrum) -> Spectrum:
    """Images through a kernel: at each frequency the complex product of a matrix [B, I] and a matrix [I, O]."""
    return [_multiply(x, w) for x, w in zip(images, kernel, strict=True)]


def image(frequencies: Spectrum, size: Size, taps: Size) -> Array:
    """The inverse of `spectrum`: [B, H, W, C]."""
    return _inverse(frequencies, size, taps, range(size[0]), range(size[1])).transpose(2, 0, 1, 3)


def kernel_gradient(images: Spectrum, gradient: Spectrum, size: Size, taps: Size) -> Array:
    """The gradient of a kernel, [*taps, I, O], from the spectra of images and of the gradient of what became of them.

    Both are from `spectrum`. The gradient of the images needs no function of its own: it is `conv` of the gradient and
    the flipped kernel.
    """
    products = [_correlate(x, dy) for x, dy in zip(images, gradient, strict=True)]
    return _inverse(products, size, taps, *(np.arange(n) - n // 2 for n in taps))


def multiplications(size: Size, taps: Size, inner: int, outer: int) -> int:
    """Of real numbers, for an image of `inner` channels through a kernel to `outer` channels."""
    (down, along), pixels = (_length(*axis) for axis in zip(size, taps)), size[0] * size[1]
    kept = down // 2 + 1
    transform = 2 * kept * pixels + 4 * kept * along * size[1]
    return 4 * kept * along * inner * outer + transform * (inner + outer)


def _half_way(pixels: Array, rows: np.ndarray) -> list[Array]:
    """Pixels [H, W, N] transformed along the vertical axis: parts of frequencies, [a, 2 W, N].

    The second axis is that of real and imaginary parts, then of pixels.
    """
    height, width, rest = pixels.shape
    halves = _matmul(rows, pixels.reshape(height, width * rest)).reshape(-1, 2 * width, rest)
    share = -(-len(halves) // MOST_PARTS)
    return lax.split(halves, [min(share, len(halves) - start) for start in range(0, len(halves), share)])


def _multiply(images: Array, kernel: KernelFrequencies) -> Array:
    frequencies, parts, batch, channels = images.shape
    flat = images.reshape(frequencies, parts * batch, channels)
    real, imaginary = (jnp.matmul(flat, part).reshape(frequencies, parts, batch, -1) for part in kernel)
    return jnp.stack([real[:, 0] - imaginary[:, 1], real[:, 1] + imaginary[:, 0]], axis=1)


def _correlate(images: Array, gradient: Array) -> Array:
    """[F, 2, B, I] times the conjugate of [F, 2, B, O], summed over B: [F, 2, I, O]."""
    turned = jnp.stack([-gradient[:, 1], gradient[:, 0]], axis=1)
    flat, *others = (x.reshape(len(x), -1, x.shape[-1]) for x in (images, gradient, turned))
    return jnp.stack([_matmul(flat.swapaxes(1, 2), other) for other in others], axis=1)


def _inverse(
    frequencies: Sequence[Array], size: Size, taps: Size, down: Sequence[int] | np.ndarray, along: Sequence[int]
) -> Array:
    """Parts of frequencies [F, 2, M, N] of which real numbers are made, at these positions: [down, along, M, N]."""
    rows, columns = _inverse_rows(size[0], taps[0], down), _inverse_columns(size[1], taps[1], along)
    rest = frequencies[0].shape[2:]
    halves = [_times(columns, part.reshape(-1, columns.shape[1], math.prod(rest))) for part in frequencies]
    numbers = _matmul(rows, jnp.concatenate(halves).reshape(rows.shape[1], -1))
    return numbers.reshape(len(down), len(along), *rest)


_matmul = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)


def _times(matrix: np.ndarray, arrays: Array) -> Array:
    """[M, K] times each of [a, K, N]: spelled out, as matmul would rather transpose its result."""
    return _matmul(jnp.broadcast_to(matrix, (len(arrays), *matrix.shape)), arrays)


# ---- matrices of the transform, in NumPy -------------------------------------------------------------------------


def _length(size: int, taps: int) -> int:
    """Pixels and as many zeros as keep a tap from reaching around to the other edge."""
    return size + taps // 2


def _waves(length: int, frequencies: np.ndarray, positions: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.exp(-2j * np.pi / length * np.outer(frequencies, positions))


def _rows(size: int, taps: int, positions: Sequence[int] | np.ndarray) -> np.ndarray:
    """[2 A, positions] from real numbers to (frequency, part)."""
    length = _length(size, taps)
    waves = _waves(length, np.arange(length // 2 + 1), positions)
    return np.stack([waves.real, waves.imag], axis=1).reshape(-1, waves.shape[1]).astype(np.float32)


def _inverse_rows(size: int, taps: int, positions: Sequence[int] | np.ndarray) -> np.ndarray:
    """[positions, 2 A] from (frequency, part) to real numbers."""
    length = _length(size, taps)
    kept = np.arange(length // 2 + 1)
    # A negative frequency was left out, as the conjugate of the positive one, which counts twice in its place.
    counts = np.where((kept == 0) | (2 * kept == length), 1, 2) / length
    waves = (counts[:, None] * _waves(length, kept, positions)).T
    return np.stack([waves.real, waves.imag], axis=2).reshape(len(waves), -1).astype(np.float32)


def _columns(size: int, taps: int, positions: Sequence[int] | np.ndarray) -> np.ndarray:
    """[2 D, 2 positions] from (part, position) to (frequency, part)."""
    length = _length(size, taps)
    parts = _as_real(_waves(length, np.arange(length), positions))
    return parts.transpose(2, 0, 1, 3).reshape(2 * length, -1).astype(np.float32)


def _inverse_columns(size: int, taps: int, positions: Sequence[int] | np.ndarray) -> np.ndarray:
    """[2 positions, 2 D] from (frequency, part) to (part, position)."""
    length = _length(size, taps)
    parts = _as_real(_waves(length, np.arange(length), positions).conj().T / length)
    return parts.transpose(0, 2, 3, 1).reshape(2 * len(positions), -1).astype(np.float32)


def _as_real(matrix: np.ndarray) -> np.ndarray:
    """A complex matrix [M, N] as a real one between (part, number) and (part, number): [2, 2, M, N]."""
    return np.array([[matrix.real, -matrix.imag], [matrix.imag, matrix.real]])
