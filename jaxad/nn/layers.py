"""The layers of a child, each a pure function on [B, H, W, C] arrays (Eq. 2: CONV, POOL, NORMA, ACT, UPPOOL).

They are written for speed inside compiled loops on any backend: windows never overlap, so pooling is a reshape;
sums over images and pixels are products with a vector of ones, which XLA runs several times faster on CPU than
a reduction over leading axes; gradients that autodiff would make slow are spelled out.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import lax

from jaxad.nn.choices import Choices, OneOf, choose
from jaxad.types import Array

NORM_EPSILON = 1e-5


def identity(images: Array) -> Array:
    """What does nothing: no normalisation, or no activation."""
    return images


# ---- POOL and UPPOOL -------------------------------------------------------------------------------------------


def pool(images: Array, kind: str | OneOf | Array, size: int) -> Array:
    """Maximum or average over windows of size x size, stride = size, partial windows at the far edges.

    Args:
      images: [B, H, W, C].
      kind: a name among `POOLS`, or a choice at run time.
      size: window and stride; 1 is the identity.

    Returns:
      [B, ceil(H / size), ceil(W / size), C]. The paper states no stride; an average counts true pixels only; of
      tied maxima one has the whole gradient.
    """
    chex.assert_rank(images, 4)
    if size == 1:
        return images
    sized = {name: lambda images, option=option: option(images, size) for name, option in POOLS.items()}
    return choose(sized, kind, images)  # a size among the operands of a run-time branch would be traced


def upsample(images: Array, size: int, height: int, width: int) -> Array:
    """Repeat every pixel size x size times and crop to height x width: the mirror of `pool`'s windows.

    The paper's UPPOOL is not defined there; unpooling by indices would not exist for averages.
    """
    chex.assert_rank(images, 4)
    if size == 1:
        return images
    batch, rows, columns, channels = images.shape
    images = jnp.broadcast_to(images[:, :, None, :, None, :], (batch, rows, size, columns, size, channels))
    return images.reshape(batch, rows * size, columns * size, channels)[:, :height, :width]


def _windows(images: Array, size: int, reduce: Callable[..., Array], fill: float) -> Array:
    return reduce(_by_columns(reduce(_by_rows(images, size, fill), axis=2), size), axis=3)


def _by_rows(images: Array, size: int, fill: float) -> Array:
    """[B, H, W, C] -> [B, rows, size, W', C], H and W filled up to whole windows."""
    batch, height, width, channels = images.shape
    rows, columns = -(-height // size), -(-width // size)
    padding = [(0, 0), (0, rows * size - height), (0, columns * size - width), (0, 0)]
    images = jnp.pad(images, padding, constant_values=fill)
    return images.reshape(batch, rows, size, columns * size, channels)


def _by_columns(lines: Array, size: int) -> Array:
    """[B, rows, W', C] -> [B, rows, columns, size, C]."""
    batch, rows, width, channels = lines.shape
    return lines.reshape(batch, rows, width // size, size, channels)


def sum_pool(images: Array, size: int) -> Array:
    """The sum of every window of `pool`: what `upsample` is on the way back."""
    return _windows(images, size, jnp.sum, 0.0)


def average_pool(images: Array, size: int) -> Array:
    """The average of every window of `pool`, of its true pixels."""
    return sum_pool(images, size) / sum_pool(jnp.ones((1, *images.shape[1:3], 1), images.dtype), size)


def _max_pool(images: Array, size: int) -> Array:
    return _maxima(images, size, *images.shape[1:3])


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _maxima(images: Array, size: int, height: int, width: int) -> Array:
    return _windows(images, size, jnp.max, -jnp.inf)


class Places(NamedTuple):
    """Where maxima lie: at one pixel of each window, by construction. Comparing pixels with the maximum would miss it
    wherever a compiler computes a pixel twice and rounds it differently."""

    row: Array  # [B, rows, W', C] int16, within its window, of the maximum of each column
    column: Array  # [B, rows, columns, C] int16, the one that has the window's maximum


def _maxima_forward(images: Array, size: int, height: int, width: int) -> tuple[Array, Places]:
    by_rows = _by_rows(images, size, -jnp.inf)
    by_columns = _by_columns(jnp.max(by_rows, axis=2), size)
    places = (jnp.argmax(by_rows, axis=2), jnp.argmax(by_columns, axis=3))
    return jnp.max(by_columns, axis=3), Places(*(place.astype(jnp.int16) for place in places))


def _maxima_backward(size: int, height: int, width: int, places: Places, gradient: Array) -> tuple[Array]:
    batch, rows, columns, channels = gradient.shape
    place = jnp.arange(size, dtype=places.row.dtype)[:, None]
    to_columns = jnp.where(place[None, None, None] == places.column[:, :, :, None], gradient[:, :, :, None], 0)
    to_columns = to_columns.reshape(batch, rows, 1, columns * size, channels)
    to_pixels = jnp.where(place[None, None, :, None] == places.row[:, :, None], to_columns, 0)
    return (to_pixels.reshape(batch, rows * size, columns * size, channels)[:, :height, :width],)


_maxima.defvjp(_maxima_forward, _maxima_backward)

POOLS = Choices("pool", {"max": _max_pool, "average": average_pool})
"""Name -> function (images [B, H, W, C], size) -> [B, ceil(H / size), ceil(W / size), C], size > 1.

It sees every image and every channel by itself: the sequential executor cuts channels into blocks.
"""


# ---- NORMA -----------------------------------------------------------------------------------------------------


class Moments(NamedTuple):
    """Mean and variance of every channel before batch normalisation."""

    mean: Array  # [C]
    variance: Array  # [C]


class Norm(NamedTuple):
    """A normalisation, and what comes with it."""

    apply: Callable[[Array], Array]  # [B, H, W, C] -> the same shape, every channel by itself
    scaled: bool = True  # whether a scale per channel is trained after it: one more parameter
    # (images, moments) -> images: the same by given statistics, for one that looks at the batch; None where images are
    # normalised one by one.
    frozen: Callable[[Array, Moments], Array] | None = None
    # "batch" or "image" where it does nothing but bring channels to mean 0 and variance 1 over them: an executor then
    # does so in the same pass over the numbers as what follows.
    over: str | None = None


def normalise(images: Array, kind: str | OneOf | Array, moments: Moments | None = None) -> Array:
    """Bring channels to mean 0, variance 1: over the batch, per image, or not at all. No parameters.

    Args:
      images: [B, H, W, C].
      kind: a name among `NORMS`, or a choice at run time.
      moments: frozen statistics for a normalisation that looks at the batch; by default those of this batch.

    Returns:
      [B, H, W, C]. Instance normalisation of a single pixel would erase it and is the identity there.
    """
    chex.assert_rank(images, 4)

    def meaning(norm: Norm) -> Callable[[Array], Array]:
        return norm.apply if moments is None or norm.frozen is None else lambda images: norm.frozen(images, moments)

    return choose({name: meaning(norm) for name, norm in NORMS.items()}, kind, images)


def batch_moments(images: Array) -> Moments:
    """Mean and variance of every channel of [B, H, W, C]."""
    chex.assert_rank(images, 4)
    flat = images.reshape(1, -1, images.shape[-1])
    mean = channel_sum(flat) / flat.shape[1]
    variance = channel_sum(jnp.square(flat - mean)) / flat.shape[1]
    return Moments(mean[0, 0], variance[0, 0])


def channel_sum(flat: Array) -> Array:
    """[G, M, C] -> [G, 1, C], the sum over M as a product with ones."""
    ones = jnp.ones((flat.shape[0], 1, flat.shape[1]), flat.dtype)
    return jnp.matmul(ones, flat, precision=lax.Precision.HIGHEST)


@jax.custom_vjp
def _standardise(flat: Array) -> Array:
    """[G, M, C]: mean 0 and variance 1 over M within each of the G groups."""
    return _standardise_forward(flat)[0]


def _standardise_forward(flat: Array) -> tuple[Array, tuple[Array, Array]]:
    centred = flat - channel_sum(flat) / flat.shape[1]
    scale = lax.rsqrt(channel_sum(jnp.square(centred)) / flat.shape[1] + NORM_EPSILON)
    return centred * scale, (centred * scale, scale)


def _standardise_backward(residuals: tuple[Array, Array], gradient: Array) -> tuple[Array]:
    standard, scale = residuals
    size = gradient.shape[1]
    along = channel_sum(gradient * standard) / size
    return (scale * (gradient - channel_sum(gradient) / size - standard * along),)


_standardise.defvjp(_standardise_forward, _standardise_backward)


def _batch_norm(images: Array) -> Array:
    return _standardise(images.reshape(1, -1, images.shape[-1])).reshape(images.shape)


def _frozen_batch_norm(images: Array, moments: Moments) -> Array:
    return (images - moments.mean[None, None, None]) * lax.rsqrt(moments.variance + NORM_EPSILON)[None, None, None]


def _instance_norm(images: Array) -> Array:
    batch, height, width, channels = images.shape
    if height * width == 1:
        return images
    return _standardise(images.reshape(batch, height * width, channels)).reshape(images.shape)


NORMS = Choices(
    "norm",
    {
        "none": Norm(identity, scaled=False),
        "batch": Norm(_batch_norm, frozen=_frozen_batch_norm, over="batch"),
        "instance": Norm(_instance_norm, over="image"),
    },
)
"""Name -> `Norm`."""


# ---- ACT -------------------------------------------------------------------------------------------------------

ACTIVATIONS = Choices(
    "activation",
    {
        "sigmoid": jax.nn.sigmoid,
        "tanh": jnp.tanh,
        "relu": jax.nn.relu,
        "linear": identity,
        "softplus": jax.nn.softplus,
        "leaky_relu": jax.nn.leaky_relu,  # slope 0.01: the paper states none
        "relu6": jax.nn.relu6,
        "elu": jax.nn.elu,
    },
)
"""Name -> function of one number, element by element."""


def activate(images: Array, kind: str | OneOf | Array, scale: Array | None, offset: Array) -> Array:
    """ACT(images * scale + offset): the affine part of a normalisation, or a bias alone, then the activation.

    A convolution's bias can wait until here: pooling and upsampling commute with it, normalisation cancels it.

    Args:
      images: [B, H, W, C].
      kind: a name among `ACTIVATIONS`, or a choice at run time.
      scale: [C], or None for a bias alone.
      offset: [C].
    """
    chex.assert_rank([images, offset], [4, 1])
    if scale is None:
        return choose(ACTIVATIONS, kind, _bias(images, offset))
    return choose(ACTIVATIONS, kind, _affine(images, scale, offset))


@jax.custom_vjp
def _bias(images: Array, offset: Array) -> Array:
    return images + offset[None, None, None]


_bias.defvjp(
    lambda images, offset: (_bias(images, offset), None),
    lambda _, gradient: (gradient, channel_sum(gradient.reshape(1, -1, gradient.shape[-1]))[0, 0]),
)


@jax.custom_vjp
def _affine(images: Array, scale: Array, offset: Array) -> Array:
    return images * scale[None, None, None] + offset[None, None, None]


def _affine_forward(images: Array, scale: Array, offset: Array) -> tuple[Array, tuple[Array, Array]]:
    return _affine(images, scale, offset), (images, scale)


def _affine_backward(residuals: tuple[Array, Array], gradient: Array) -> tuple[Array, Array, Array]:
    images, scale = residuals
    flat = gradient.reshape(1, -1, gradient.shape[-1])
    to_scale = channel_sum(flat * images.reshape(flat.shape))[0, 0]
    return gradient * scale[None, None, None], to_scale, channel_sum(flat)[0, 0]


_affine.defvjp(_affine_forward, _affine_backward)


# ---- latent vector ---------------------------------------------------------------------------------------------


def project(images: Array, kernel: Array) -> Array:
    """Global average pool, then a linear map: [B, H, W, C], [C, d] -> [B, d].

    The papers do not say how a convolutional map becomes the vector that the hypotheses need.
    """
    chex.assert_rank([images, kernel], [4, 2])
    batch, height, width, channels = images.shape
    mean = channel_sum(images.reshape(batch, height * width, channels))[:, 0] / (height * width)
    return jnp.matmul(mean, kernel, precision=lax.Precision.HIGHEST)
