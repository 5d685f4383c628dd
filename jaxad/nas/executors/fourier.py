"""The kernels with which a tape convolves blocks by Fourier transforms, forward and back."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxad.nas.executors.kernels import Kernel
from jaxad.nn import fourier
from jaxad.types import Array


class FourierKernels(NamedTuple):
    """Kernels of a convolution by Fourier transforms. Spectra are those of `nn.fourier`.

    The way back to the images is a convolution, too, of the gradient and the flipped kernel.
    """

    spectrum: Kernel  # (images) -> spectrum
    kernel_spectrum: Kernel  # (kernel) -> spectrum
    multiply: Kernel  # (sum so far or None, spectrum of images, spectrum of a kernel) -> sum, of spectra of outputs
    image: Kernel  # (spectrum) -> images
    kernel_gradient: Kernel  # (spectrum of images, spectrum of the gradient of outputs) -> gradient of the kernel


@functools.cache
def fourier_kernels(size: fourier.Size, taps: fourier.Size) -> FourierKernels:
    """Kernels for images and convolution kernels of these sizes."""

    def multiply(total: fourier.Spectrum | None, images: fourier.Spectrum, kernel: Any) -> fourier.Spectrum:
        terms = fourier.multiply(images, kernel)
        return terms if total is None else jax.tree.map(jnp.add, total, terms)

    def image(spectrum: fourier.Spectrum) -> Array:
        return fourier.image(spectrum, size, taps)

    def kernel_gradient(images: fourier.Spectrum, gradient: fourier.Spectrum) -> Array:
        return fourier.kernel_gradient(images, gradient, size, taps)

    def named(name: str, function: Callable[..., Any], donate: tuple[int, ...] = ()) -> Kernel:
        return Kernel(function, donate=donate, name=f"fourier{taps}.{name}")

    return FourierKernels(
        named("spectrum", lambda images: fourier.spectrum(images, taps)),
        named("kernel_spectrum", lambda kernel: fourier.kernel_spectrum(kernel, size)),
        named("multiply", multiply, donate=(0,)),
        named("image", image),
        named("kernel_gradient", kernel_gradient),
    )
