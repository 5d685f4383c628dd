"""Stride-1 SAME convolutions written in the one form that XLA compiles well everywhere.

Autodiff of a library convolution leaves XLA to bring the two gradient convolutions into canonical layout. On CPU it
does so at the top level of a program only: the same gradient inside `scan`, `while` or `switch` falls to a naive
loop, tens of times slower. A kernel larger than its image meets another slow path. So the gradients are spelled out
here as canonical NHWC/HWIO convolutions, and small images get an explicit padding or a smaller, equal kernel.
Where a kernel has so many taps that a transform of Fourier saves work, it takes the place of all this.
"""

import math
from functools import partial

import chex
import jax
import jax.numpy as jnp
from jax import lax

from jaxad._utils.compile import fourier_gain, gradient_pixels, is_plain
from jaxad.nn import fourier
from jaxad.types import Array


def conv(images: Array, kernel: Array) -> Array:
    """Cross-correlation with zero padding and stride 1, output as large as the input.

    Args:
      images: [B, H, W, I].
      kernel: [k, k, I, O], k odd.

    Returns:
      [B, H, W, O]. Value and gradients equal those of `lax.conv_general_dilated(..., padding="SAME")`, up to rounding.
    """
    chex.assert_rank([images, kernel], 4)
    chex.assert_axis_dimension(images, 3, kernel.shape[2])
    kernel = crop(kernel, *reach(images.shape[1:3]))
    if kernel.shape[:2] == (1, 1) and not is_plain():
        return pixel_product(images, kernel[0, 0])
    if by_fourier(images.shape[1:3], kernel.shape[:2], *kernel.shape[2:]):
        return fourier.conv(images, kernel)
    return direct_conv(images, kernel)


def by_fourier(size: tuple[int, int], taps: tuple[int, int], inner: int, outer: int) -> bool:
    """Whether a convolution is faster as a product of spectra (`nn.fourier`), on this backend.

    Args:
      size: height and width of the images; taps: those of the kernel.
      inner: channels of the images; outer: of the output.
    """
    if (gain := fourier_gain()) is None or min(taps) == 1:
        return False
    direct = math.prod((*size, *taps, inner, outer))
    return gain * fourier.multiplications(size, taps, inner, outer) < direct


def pixel_product(images: Array, weights: Array) -> Array:
    """Every pixel [I] of images [B, H, W, I] times weights [I, O].

    Written as one product of two matrices. The gradient of the weights needs the transpose of one of them: XLA on CPU
    multiplies by a transposed matrix as fast as by any other, but an array of images it would first transpose number by
    number, which takes longer than the product.
    """
    chex.assert_rank([images, weights], [4, 2])
    chex.assert_axis_dimension(images, 3, weights.shape[0])
    flat = images.reshape(-1, images.shape[-1]) @ weights
    return flat.reshape(*images.shape[:-1], weights.shape[-1])


def reach(image_size: tuple[int, int]) -> tuple[int, int]:
    """The largest kernel that makes a difference: a tap further out than the image is wide only meets padding."""
    return 2 * image_size[0] - 1, 2 * image_size[1] - 1


def crop(kernel: Array, height: int, width: int) -> Array:
    """The middle of a kernel [k, k, ...], at most height x width. Works on NumPy and JAX arrays alike."""
    rows = max(0, (kernel.shape[0] - height) // 2)
    columns = max(0, (kernel.shape[1] - width) // 2)
    return kernel[rows : kernel.shape[0] - rows, columns : kernel.shape[1] - columns]


@jax.custom_vjp
def direct_conv(images: Array, kernel: Array) -> Array:
    """`conv` tap by tap, for kernels no larger than their `reach`."""
    return _correlate(images, kernel, kernel.shape[0] // 2, kernel.shape[1] // 2)


def _forward(images: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return direct_conv(images, kernel), (images, kernel)


def _backward(residuals: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    images, kernel = residuals
    to_images = direct_conv(gradient, flip(kernel))
    to_kernel = kernel_gradient(as_batch(images), as_kernel(gradient), kernel.shape[:2])
    return to_images, to_kernel


direct_conv.defvjp(_forward, _backward)


def flip(kernel: Array) -> Array:
    """The kernel that carries a gradient back to the images: [k, k, I, O] -> [k, k, O, I], turned by 180 degrees."""
    # The barriers here and below keep XLA from folding the transposes back into the form it is slow at.
    return lax.optimization_barrier(kernel[::-1, ::-1].swapaxes(2, 3))


def as_batch(images: Array) -> Array:
    """Images as the first operand of `kernel_gradient`: [B, H, W, I] -> [I, H, W, B]."""
    return lax.optimization_barrier(images.transpose(3, 1, 2, 0))


def as_kernel(gradient: Array) -> Array:
    """An output's gradient as the second operand of `kernel_gradient`: [B, H, W, O] -> [H, W, B, O]."""
    return lax.optimization_barrier(gradient.transpose(1, 2, 0, 3))


def kernel_gradient(images: Array, gradient: Array, size: tuple[int, int]) -> Array:
    """The gradient of a kernel of `size`, [*size, I, O], as a convolution over images with the gradient as kernel.

    Args:
      images: from `as_batch`; gradient: from `as_kernel`.
    """

    def summed(images: Array, gradient: Array) -> Array:
        return _correlate(images, gradient, size[0] // 2, size[1] // 2).transpose(1, 2, 0, 3)

    _, height, width, batch = images.shape
    part = part_of_batch(batch, height * width)
    if part == batch:
        return summed(images, gradient)

    def add(index: Array, total: Array) -> Array:
        parts = (lax.dynamic_slice_in_dim(x, index * part, part, axis) for x, axis in ((images, 3), (gradient, 2)))
        return total + summed(*parts)

    return lax.fori_loop(0, batch // part, add, jnp.zeros((*size, images.shape[0], gradient.shape[3]), images.dtype))


def part_of_batch(batch: int, pixels: int) -> int:
    """How many images of so many pixels a kernel's gradient sums over at a time: a divisor of the batch.

    All at once is the longest sum a convolution can be asked for, and XLA's convolution on CPU several times slower
    than in parts that stay in the cache (benchmarks/compiler_options.py).
    """
    limit = gradient_pixels()
    if limit is None or batch * pixels <= limit:
        return batch
    return max(part for part in range(1, batch + 1) if batch % part == 0 and part <= max(1, limit // pixels))


def _correlate(images: Array, kernel: Array, rows: int, columns: int) -> Array:
    padding = [(rows, rows), (columns, columns)]
    if kernel.shape[0] > images.shape[1] or kernel.shape[1] > images.shape[2]:
        # XLA swaps the operands of a convolution whose kernel is the larger one, and the result is slow.
        images = lax.optimization_barrier(jnp.pad(images, [(0, 0), *padding, (0, 0)]))
        padding = [(0, 0), (0, 0)]
    return _library_conv(images, kernel, padding=padding)


_library_conv = partial(lax.conv_general_dilated, window_strides=(1, 1), dimension_numbers=("NHWC", "HWIO", "NHWC"))
