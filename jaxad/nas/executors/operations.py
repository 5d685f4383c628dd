"""The kernels of a child's operations, forward and back, as `tape` launches them on channel blocks.

Those of a choice are kept by its name and by what it means, as a choice that was added may be replaced.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxad.nas.executors.kernels import Kernel
from jaxad.nn import conv as convolutions
from jaxad.nn import layers as nn
from jaxad.nn.actions import Action
from jaxad.types import Array


def _gradient(function: Callable[..., Array]) -> Callable[..., Any]:
    """(gradient of the output, *inputs) -> gradients of the inputs."""

    def backward(gradient: Array, *inputs: Array) -> Any:
        return jax.vjp(function, *inputs)[1](gradient)

    return backward


def _unary(function: Callable[[Array], Array], name: str) -> tuple[Kernel, Kernel]:
    def backward(gradient: Array, images: Array) -> Array:
        return _gradient(function)(gradient, images)[0]

    return Kernel(function, name=name), Kernel(backward, name=f"{name}.gradient")


CONV = Kernel(convolutions.conv)
FLIP = Kernel(convolutions.flip)
AS_BATCH = Kernel(convolutions.as_batch)
AS_KERNEL = Kernel(convolutions.as_kernel)
ADD = Kernel(jnp.add)
PROJECT = Kernel(nn.project)
PROJECT_GRADIENT = Kernel(_gradient(nn.project), name="project.gradient")
ADD_BIAS = Kernel(lambda vector, bias: vector + bias[None], name="add_bias")
BIAS_GRADIENT = Kernel(lambda gradient: jnp.sum(gradient, axis=0), name="bias.gradient")
POINTWISE_GRADIENT = Kernel(
    lambda images, gradient: jnp.einsum("bhwi,bhwo->io", images, gradient)[None, None], name="pointwise.gradient"
)


@functools.cache
def kernel_gradient(taps: tuple[int, int]) -> Kernel:
    """(as_batch(images), as_kernel(gradient)) -> gradient of a kernel with these taps."""
    return Kernel(
        lambda images, gradient: convolutions.kernel_gradient(images, gradient, taps), name=f"kernel{taps}.gradient"
    )


@functools.cache
def pool_kernels(kind: str, size: int, meaning: Callable[..., Array]) -> tuple[Kernel, Kernel]:
    """Forward and backward of a pooling."""
    return _unary(lambda images: meaning(images, size), f"{kind}{size}")


@functools.cache
def upsample_kernels(size: int, height: int, width: int) -> tuple[Kernel, Kernel]:
    """Forward and backward of an upsampling; the sizes are those of its output."""
    return _unary(lambda images: nn.upsample(images, size, height, width), f"upsample{size}")


@functools.cache
def normalise_kernels(kind: str, meaning: Callable[..., Array]) -> tuple[Kernel, Kernel]:
    """Forward and backward of a normalisation by the batch's own statistics."""
    return _unary(meaning, kind)


MOMENTS = Kernel(nn.batch_moments)


@functools.cache
def frozen_kernel(kind: str, meaning: Callable[..., Array]) -> Kernel:
    """(images, moments) -> images normalised by given statistics; nothing is trained through it."""
    return Kernel(meaning, name=f"{kind}.frozen")


@functools.cache
def activate_kernels(kind: str, meaning: Callable[[Array], Array]) -> tuple[Kernel, Kernel]:
    """Forward (images, scale, offset, mask), and the way back from the output to before the activation.

    The way back through scale and offset, `AFFINE_GRADIENT`, is the same for all activations.
    """

    def forward(images: Array, scale: Array, offset: Array, mask: Array | None) -> Array:
        images = meaning(nn.activate(images, "linear", scale, offset))
        # Sigmoid and softplus of padding are not zero, and would leak into the gradient of the next kernel.
        return images if mask is None else images * mask[None, None, None]

    def backward(gradient: Array, images: Array, scale: Array, offset: Array, mask: Array | None) -> Array:
        before = nn.activate(images, "linear", scale, offset)
        (gradient,) = _gradient(meaning)(gradient, before)
        return gradient if mask is None else gradient * mask[None, None, None]

    return Kernel(forward, name=kind), Kernel(backward, name=f"{kind}.gradient")


@functools.cache
def action_kernels(action: Action, choice: str) -> tuple[Kernel, Kernel]:
    """Forward (features, inputs, vectors, mask) of a choice, and (gradient, ...) back to the first three of them."""

    def forward(features: Array, inputs: Array | None, vectors: dict[str, Array], mask: Array | None) -> Array:
        features = action.apply(choice, features, inputs, vectors)
        return features if mask is None else features * mask[None, None, None]  # as in `activate_kernels`

    def backward(gradient: Array, *operands: Any) -> tuple[Array, Array | None, dict[str, Array]]:
        *differentiable, mask = operands
        return _gradient(lambda *leading: forward(*leading, mask))(gradient, *differentiable)

    name = f"{action.name}.{choice}"
    return Kernel(forward, name=name), Kernel(backward, name=f"{name}.gradient")


def _affine_gradient(gradient: Array, images: Array, scale: Array) -> tuple[Array, Array, Array]:
    return _gradient(lambda *operands: nn.activate(operands[0], "linear", *operands[1:]))(
        gradient, images, scale, jnp.zeros_like(scale)
    )


AFFINE_GRADIENT = Kernel(_affine_gradient, name="affine.gradient")
