"""The kernels of a child's operations, forward and back, as `tape` launches them on channel blocks.

What acts on arrays of one shape shares a program as far as it can. Activations are branches of one, of which a number
chooses one at run time, and a branch is a loop of its own. Normalisations are numbers in that same loop. An average
is an upsampling on its way back.
A choice that was added from outside has programs of its own, kept by what it means, as it may be replaced.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

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
def window_kernels(size: int, height: int, width: int) -> tuple[Kernel, Kernel]:
    """Between windows of this size and the images that they tile: (windows, weights) -> images, and the way back.

    The first repeats each window, times its weight, at all its pixels; the second sums these, times the weight.
    """

    def repeat(windows: Array, weights: Array) -> Array:
        return nn.upsample(windows * weights[None, :, :, None], size, height, width)

    def collect(images: Array, weights: Array) -> Array:
        return nn.sum_pool(images, size) * weights[None, :, :, None]

    return Kernel(repeat, name=f"repeat{size}"), Kernel(collect, name=f"collect{size}")


@functools.cache
def shares(size: int, height: int, width: int) -> np.ndarray:
    """One over the number of pixels of every window, some of which reach beyond the edges."""
    down, along = (np.minimum(size, extent - np.arange(0, extent, size)) for extent in (height, width))
    return (1 / np.outer(down, along)).astype(np.float32)


# ---- NORMA and ACT -------------------------------------------------------------------------------------------------


@functools.cache
def normalise_kernels(kind: str, meaning: Callable[..., Array]) -> tuple[Kernel, Kernel]:
    """Forward and backward of any normalisation by the batch's own statistics."""
    return _unary(meaning, kind)


MOMENTS = Kernel(nn.batch_moments)


@functools.cache
def frozen_kernel(kind: str, meaning: Callable[..., Array]) -> Kernel:
    """(images, moments) -> images normalised by given statistics; nothing is trained through it."""
    return Kernel(meaning, name=f"{kind}.frozen")


class Statistics(NamedTuple):
    """How the channels of each image are normalised: (images - mean) * gain."""

    mean: Array  # [B, C]
    gain: Array  # [B, C], one over the standard deviation
    over: np.int32  # a place in `OVER`: which numbers they are of


OVER = (None, "image", "batch")


@functools.cache
def no_statistics(batch: int, channels: int) -> Statistics:
    """Those that change nothing, on the device for as long as the process lives."""
    mean, gain = (np.full((batch, channels), value, np.float32) for value in (0, 1))
    return Statistics(*jax.device_put((mean, gain)), np.int32(0))


def _statistics(images: Array, over: Array) -> tuple[Array, Array]:
    batch, height, width, channels = images.shape
    flat = images.reshape(batch, height * width, channels)
    means = nn.channel_sum(flat) / flat.shape[1]
    variances = nn.channel_sum(jnp.square(flat - means))[:, 0] / flat.shape[1]
    means = means[:, 0]
    # The variance of a batch is that within its images and that between them.
    mean = jnp.mean(means, axis=0, keepdims=True)
    variance = jnp.mean(variances + jnp.square(means - mean), axis=0, keepdims=True)
    by_batch = [jnp.broadcast_to(x, means.shape) for x in (mean, lax.rsqrt(variance + nn.NORM_EPSILON))]
    by_image = (means, lax.rsqrt(variances + nn.NORM_EPSILON))
    if flat.shape[1] == 1:  # a single pixel would be erased, and is left alone
        by_image = (jnp.zeros_like(means), jnp.ones_like(means))
    return tuple(jnp.where(over == OVER.index("batch"), *pair) for pair in zip(by_batch, by_image))


STATISTICS = Kernel(_statistics, name="statistics")  # (images, place in OVER) -> (mean, gain)


def _standard(images: Array, statistics: Statistics) -> Array:
    return (images - statistics.mean[:, None, None]) * statistics.gain[:, None, None]


def _before(images: Array, statistics: Statistics, scale: Array, offset: Array) -> Array:
    return _standard(images, statistics) * scale[None, None, None] + offset[None, None, None]


def _activate(meaning: Callable[[Array], Array], *operands: Any) -> Array:
    *affine, mask = operands
    # Sigmoid and softplus of padding are not zero, and would leak into the gradient of the next kernel.
    return meaning(_before(*affine)) * mask[None, None, None]


def _to_before(meaning: Callable[[Array], Array], gradient: Array, *operands: Any) -> Array:
    *affine, mask = operands
    return _gradient(meaning)(gradient, _before(*affine))[0] * mask[None, None, None]


def _to_operands(gradient: Array, images: Array, statistics: Statistics, scale: Array) -> tuple[Array, Array, Array]:
    """From the gradient of `_before` to those of images, scale and offset."""
    standard, pixels = _standard(images, statistics), images.shape[1] * images.shape[2]
    flat = gradient.reshape(len(gradient), pixels, -1)
    to_offset, to_scale = (nn.channel_sum(x)[:, 0] for x in (flat, flat * standard.reshape(flat.shape)))
    # What is normalised has no part in all ones, nor in itself, of the numbers that statistics are of.
    parts = []
    for sums in (to_offset, to_scale):
        by_batch = jnp.broadcast_to(jnp.mean(sums, axis=0, keepdims=True), sums.shape)
        by_image = sums if pixels > 1 else jnp.zeros_like(sums)
        parts.append(lax.select_n(statistics.over, jnp.zeros_like(sums), by_image, by_batch)[:, None, None] / pixels)
    to_images = (gradient - parts[0] - standard * parts[1]) * (statistics.gain * scale[None])[:, None, None]
    return to_images, jnp.sum(to_scale, axis=0), jnp.sum(to_offset, axis=0)


def activate_kernels(kind: str) -> tuple[Kernel, Kernel, np.int32]:
    """Forward (images, statistics, scale, offset, mask, place), back (gradient, the same) to images, scale and offset.

    The third is the place of this activation among those that share these kernels.
    """
    names = nn.ACTIVATIONS.standard if kind in nn.ACTIVATIONS.standard else (kind,)
    return *_activate_kernels(tuple(nn.ACTIVATIONS[name] for name in names)), np.int32(names.index(kind))


@functools.cache
def _activate_kernels(meanings: tuple[Callable[[Array], Array], ...]) -> tuple[Kernel, Kernel]:
    def forward(*operands: Any) -> Array:
        *operands, place = operands
        return lax.switch(place, [functools.partial(_activate, meaning) for meaning in meanings], *operands)

    def backward(gradient: Array, *operands: Any) -> tuple[Array, Array, Array]:
        *operands, place = operands
        branches = [functools.partial(_to_before, meaning) for meaning in meanings]
        return _to_operands(lax.switch(place, branches, gradient, *operands), *operands[:3])

    return Kernel(forward, name="activate"), Kernel(backward, name="activate.gradient")


# ---- further actions -----------------------------------------------------------------------------------------------


@functools.cache
def action_kernels(action: Action, choice: str) -> tuple[Kernel, Kernel]:
    """Forward (features, inputs, vectors, mask) of a choice, and (gradient, ...) back to the first three of them."""

    def forward(features: Array, inputs: Array | None, vectors: dict[str, Array], mask: Array) -> Array:
        return action.apply(choice, features, inputs, vectors) * mask[None, None, None]  # as in `_activate`

    def backward(gradient: Array, *operands: Any) -> tuple[Array, Array | None, dict[str, Array]]:
        *differentiable, mask = operands
        return _gradient(lambda *leading: forward(*leading, mask))(gradient, *differentiable)

    name = f"{action.name}.{choice}"
    return Kernel(forward, name=name), Kernel(backward, name=f"{name}.gradient")
