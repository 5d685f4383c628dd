"""The kernels with which a tape convolves blocks by Fourier transforms.

A convolution is linear in its images and in its kernel, so that each way back is the transpose of a way forward.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxad.nas.executors.kernels import Kernel
from jaxad.nn import fourier
from jaxad.types import Array


class FourierKernels(NamedTuple):
    """Kernels of a convolution by Fourier transforms. Spectra are those of `nn.fourier`."""

    spectrum: Kernel  # (images) -> spectrum
    to_images: Kernel  # (gradient of their spectrum) -> gradient of images
    image: Kernel  # (spectrum) -> images
    to_spectrum: Kernel  # (gradient of images) -> gradient of the spectrum they came from
    multiply: Kernel  # (sum so far or None, spectrum of inputs, kernel) -> sum, of spectra of outputs
    to_inputs: Kernel  # (sum so far or None, gradient of outputs, kernel) -> sum, of gradients of inputs
    to_kernel: Kernel  # (gradient of outputs, spectrum of inputs) -> gradient of the kernel


@functools.cache
def fourier_kernels(size: fourier.Size, taps: fourier.Size) -> FourierKernels:
    """Kernels for images and convolution kernels of these sizes."""

    def spectrum(images: Array) -> fourier.Spectrum:
        return fourier.spectrum(images, taps)

    def image(spectrum: fourier.Spectrum) -> Array:
        return fourier.image(spectrum, size, taps)

    def through(inputs: fourier.Spectrum, kernel: Array) -> fourier.Spectrum:
        return fourier.multiply(inputs, fourier.kernel_spectrum(kernel, size))

    def to_images(gradient: fourier.Spectrum) -> Array:
        *_, batch, channels = gradient[0].shape
        return _transposed(spectrum, jax.ShapeDtypeStruct((batch, *size, channels), gradient[0].dtype), gradient)

    def to_spectrum(gradient: Array) -> fourier.Spectrum:
        return _transposed(image, jax.eval_shape(spectrum, gradient), gradient)

    def multiply(total: fourier.Spectrum | None, inputs: fourier.Spectrum, kernel: Array) -> fourier.Spectrum:
        return _plus(total, through(inputs, kernel))

    def to_inputs(total: fourier.Spectrum | None, gradient: fourier.Spectrum, kernel: Array) -> fourier.Spectrum:
        inputs = [jax.ShapeDtypeStruct((*dy.shape[:-1], kernel.shape[2]), dy.dtype) for dy in gradient]
        return _plus(total, _transposed(lambda inputs: through(inputs, kernel), inputs, gradient))

    def to_kernel(gradient: fourier.Spectrum, inputs: fourier.Spectrum) -> Array:
        shape = (*taps, inputs[0].shape[-1], gradient[0].shape[-1])
        kernel = jax.ShapeDtypeStruct(shape, inputs[0].dtype)
        return _transposed(lambda kernel: through(inputs, kernel), kernel, gradient)

    def named(function: Callable[..., Any], donate: tuple[int, ...] = ()) -> Kernel:
        return Kernel(function, donate=donate, name=f"fourier{taps}.{function.__name__}")

    return FourierKernels(
        named(spectrum),
        named(to_images),
        named(image),
        named(to_spectrum),
        named(multiply, donate=(0,)),
        named(to_inputs, donate=(0,)),
        named(to_kernel),
    )


def _transposed(function: Callable[[Any], Any], shapes: Any, gradient: Any) -> Any:
    return jax.linear_transpose(function, shapes)(gradient)[0]


def _plus(total: fourier.Spectrum | None, terms: fourier.Spectrum) -> fourier.Spectrum:
    return terms if total is None else jax.tree.map(jnp.add, total, terms)
