"""The kernels of a child's operations, forward and back, as `tape` launches them on channel blocks.

Choices that act on arrays of one shape share a program, which branches at run time: eight activations in one are eight
times fewer programs, take half as long to compile, and run as fast, as a branch is a loop of its own. A choice that was
added from outside has programs of its own, which are kept by what it means, as it may be replaced.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxad.nas.executors.kernels import Kernel
from jaxad.nn import conv as convolutions
from jaxad.nn import layers as nn
from jaxad.nn.actions import Action
from jaxad.nn.choices import Choices
from jaxad.types import Array


def _gradient(function: Callable[..., Array]) -> Callable[..., Any]:
    """(gradient of the output, *inputs) -> gradients of the inputs."""

    def backward(gradient: Array, *inputs: Array) -> Any:
        return jax.vjp(function, *inputs)[1](gradient)

    return backward


def among(table: Choices, choice: str) -> tuple[tuple[Any, ...], np.int32]:
    """What the choices that share a program mean, and the place of this one among them."""
    names = table.standard if choice in table.standard else (choice,)
    return tuple(table[name] for name in names), np.int32(names.index(choice))


def _unary(*functions: Callable[[Array], Array], name: str) -> tuple[Kernel, Kernel]:
    """Forward (images, place) by the function at that place, and back (gradient, images, place)."""

    def forward(images: Array, place: Array) -> Array:
        return lax.switch(place, functions, images)

    def backward(gradient: Array, images: Array, place: Array) -> Array:
        def back(function: Callable[[Array], Array]) -> Callable[..., Array]:
            return lambda gradient, images: _gradient(function)(gradient, images)[0]

        return lax.switch(place, [back(function) for function in functions], gradient, images)

    return Kernel(forward, name=name), Kernel(backward, name=f"{name}.gradient")


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
def pool_kernels(size: int, meanings: tuple[Callable[..., Array], ...]) -> tuple[Kernel, Kernel]:
    """Forward and backward of poolings."""
    sized = [lambda images, meaning=meaning: meaning(images, size) for meaning in meanings]
    return _unary(*sized, name=f"pool{size}")


@functools.cache
def upsample_kernels(size: int, height: int, width: int) -> tuple[Kernel, Kernel]:
    """Forward and backward of an upsampling; the sizes are those of its output."""
    return _unary(lambda images: nn.upsample(images, size, height, width), name=f"upsample{size}")


@functools.cache
def normalise_kernels(meanings: tuple[nn.Norm, ...]) -> tuple[Kernel, Kernel]:
    """Forward and backward of normalisations by the batch's own statistics."""
    return _unary(*(norm.apply for norm in meanings), name="normalise")


MOMENTS = Kernel(nn.batch_moments)


@functools.cache
def frozen_kernel(kind: str, meaning: Callable[..., Array]) -> Kernel:
    """(images, moments) -> images normalised by given statistics; nothing is trained through it."""
    return Kernel(meaning, name=f"{kind}.frozen")


@functools.cache
def activate_kernels(meanings: tuple[Callable[[Array], Array], ...]) -> tuple[Kernel, Kernel]:
    """Forward (images, scale, offset, mask, place), and (gradient, the same) back to the first three of them."""

    def affine(images: Array, scale: Array, offset: Array) -> Array:
        return nn.activate(images, "linear", scale, offset)

    def forward(images: Array, scale: Array, offset: Array, mask: Array, place: Array) -> Array:
        def activate(meaning: Callable[[Array], Array]) -> Callable[..., Array]:
            # Sigmoid and softplus of padding are not zero, and would leak into the gradient of the next kernel.
            return lambda images: meaning(affine(images, scale, offset)) * mask[None, None, None]

        return lax.switch(place, [activate(meaning) for meaning in meanings], images)

    def backward(
        gradient: Array, images: Array, scale: Array, offset: Array, mask: Array, place: Array
    ) -> tuple[Array, Array, Array]:
        def back(meaning: Callable[[Array], Array]) -> Callable[..., Array]:
            return lambda gradient, images: (
                _gradient(meaning)(gradient, affine(images, scale, offset))[0] * mask[None, None, None]
            )

        gradient = lax.switch(place, [back(meaning) for meaning in meanings], gradient, images)
        return _gradient(affine)(gradient, images, scale, offset)

    return Kernel(forward, name="activate"), Kernel(backward, name="activate.gradient")


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
