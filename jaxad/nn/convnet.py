"""A plain convolutional encoder and its mirror, of which the baselines are made.

    encoder    [conv k, BN, + offset, LeakyReLU, pool 2] for every width; dense                images -> vectors
    decoder    dense; [repeat pixels 2x2, conv k, BN, + offset, LeakyReLU] back again; conv k  vectors -> images

Batch normalisation, which has no parameters, and offsets may be left out. Images have any size and channels; an odd
side is halved upwards. Convolutions have stride 1: their gradients are the ones that compile well everywhere (see
`jaxad.nn.conv`); where a paper has strides, pooling and repeating take their place.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import lax

from jaxad._utils.random import normal_like
from jaxad.data.batches import batches, window
from jaxad.nn import layers as nn
from jaxad.nn.conv import conv
from jaxad.nn.layers import Moments
from jaxad.types import Array, Key, Params


class Encoded(NamedTuple):
    """What the encoder gives."""

    output: Array  # [B, outputs]
    features: Array  # [B, h, w, widths[-1]], the map before the dense layer
    moments: tuple[Moments, ...]  # of every normalisation, in order; those of the batch unless others were given


class Decoded(NamedTuple):
    """What the decoder gives."""

    images: Array  # [B, H, W, C], of any size: the last layer is linear
    moments: tuple[Moments, ...]


def sizes(image_shape: Sequence[int], levels: int) -> list[tuple[int, int]]:
    """(H, W) of an image [H, W, C], and of its map after each level; ValueError for an image that is too small."""
    height, width = image_shape[:2]
    if min(height, width) < 2**levels:
        raise ValueError(f"images are {height}x{width}; {levels} levels halve them to nothing: give fewer widths")
    found = [(height, width)]
    for _ in range(levels):
        found.append(tuple(-(-side // 2) for side in found[-1]))
    return found


def init_encoder(
    key: Key, image_shape: Sequence[int], widths: Sequence[int], outputs: int, *, kernel: int = 3, offsets: bool = True
) -> Params:
    """Weights for images [H, W, C]: {"blocks": [{"kernel", "offset"}, ...], "dense": {"kernel", "offset"}}."""
    height, width = sizes(image_shape, len(widths))[-1]
    before = [image_shape[2], *widths]
    shapes = {
        "blocks": [_weights(kernel, kernel, a, b, offsets=offsets) for a, b in zip(before, widths)],
        "dense": _weights(height * width * widths[-1], outputs, offsets=offsets, gain=1.0),
    }
    return _drawn(key, shapes)


def encode(
    params: Params,
    images: Array,
    *,
    norm: bool = False,
    leak: float = 0.2,
    pool: str = "average",
    moments: tuple[Moments, ...] | None = None,
) -> Encoded:
    """Run the encoder on images [B, H, W, C]; `moments` are frozen statistics, by default the batch's own."""
    chex.assert_rank(images, 4)
    norms = _Norms(norm, moments)
    for block in params["blocks"]:
        images = _activated(norms(conv(images, block["kernel"])), block, leak)
        images = nn.pool(images, pool, 2)
    output = images.reshape(images.shape[0], -1) @ params["dense"]["kernel"]
    if "offset" in params["dense"]:
        output = output + params["dense"]["offset"][None]
    return Encoded(output, images, norms.seen)


def init_decoder(
    key: Key, image_shape: Sequence[int], widths: Sequence[int], inputs: int, *, kernel: int = 3
) -> Params:
    """Weights that lead back to images [H, W, C]; `widths` are those of the encoder, in its order."""
    height, width = sizes(image_shape, len(widths))[-1]
    inner = [*widths[::-1], widths[0]]
    shapes = {
        "dense": _weights(inputs, height * width * inner[0]),
        "blocks": [_weights(kernel, kernel, a, b) for a, b in itertools.pairwise(inner)],
        "last": _weights(kernel, kernel, inner[-1], image_shape[2], gain=1.0),
    }
    return _drawn(key, shapes)


def decode(
    params: Params,
    vectors: Array,
    image_shape: Sequence[int],
    *,
    norm: bool = False,
    leak: float = 0.2,
    moments: tuple[Moments, ...] | None = None,
) -> Decoded:
    """Run the decoder on vectors [B, inputs]; `image_shape` is [H, W, C]."""
    chex.assert_rank(vectors, 2)
    norms = _Norms(norm, moments)
    *larger, (height, width) = sizes(image_shape, len(params["blocks"]))
    images = vectors @ params["dense"]["kernel"] + params["dense"]["offset"][None]
    images = jax.nn.leaky_relu(images.reshape(len(vectors), height, width, -1), leak)
    for block, (height, width) in zip(params["blocks"], larger[::-1]):
        images = conv(nn.upsample(images, 2, height, width), block["kernel"])
        images = _activated(norms(images), block, leak)
    images = nn.activate(conv(images, params["last"]["kernel"]), "linear", None, params["last"]["offset"])
    return Decoded(images, norms.seen)


def population_moments(
    of_batch: Callable[[Array], tuple[Moments, ...]], images: Array, batch_size: int
) -> tuple[Moments, ...]:
    """Statistics of all images from those of batches [B, H, W, C] float32 of equal size, about `batch_size`.

    Means over batches ("precise batch norm", Wu & Johnson 2021). Images may be uint8.
    """
    images = jnp.asarray(images)  # NumPy arrays cannot be indexed by traced numbers
    count = batches(images.shape[0], batch_size)
    size = batches(images.shape[0], count)  # of equal size: hardly any image is counted twice
    parts = lax.map(lambda index: of_batch(window(images, index, size)), jnp.arange(count))
    # The variance of a mixture: within batches plus between them, which no cancellation can make negative.
    return tuple(Moments(jnp.mean(p.mean, 0), jnp.mean(p.variance, 0) + jnp.var(p.mean, 0)) for p in parts)


def check_widths(widths: Any) -> None:
    """ValueError unless these are numbers of channels."""
    if not widths or any(not isinstance(width, int) or width < 1 for width in widths):
        raise ValueError(f"widths are {widths}; give the channels of each level, from 1 upwards")


class _Norms:
    """Batch normalisation; keeps the moments it met."""

    def __init__(self, norm: bool, moments: tuple[Moments, ...] | None) -> None:
        self._norm, self._given, self.seen = norm, moments, ()

    def __call__(self, images: Array) -> Array:
        if not self._norm:
            return images
        if self._given is None:
            moments, frozen = nn.batch_moments(lax.stop_gradient(images)), None
        else:
            moments = frozen = self._given[len(self.seen)]
        self.seen += (moments,)
        return nn.normalise(images, "batch", frozen)


def _activated(images: Array, block: Params, leak: float) -> Array:
    if "offset" in block:
        images = nn.activate(images, "linear", None, block["offset"])
    return jax.nn.leaky_relu(images, leak)


class _Draw(NamedTuple):
    """A kernel still to be drawn: normal, variance gain^2 / fan-in."""

    shape: tuple[int, ...]
    gain: float


def _weights(*shape: int, offsets: bool = True, gain: float = math.sqrt(2)) -> dict[str, Any]:
    return {"kernel": _Draw(shape, gain)} | ({"offset": jnp.zeros(shape[-1])} if offsets else {})


def _drawn(key: Key, tree: Any) -> Params:
    """Draw all kernels of a tree at once: each draw of its own would take a second to compile."""
    leaves, structure = jax.tree.flatten(tree, is_leaf=lambda leaf: isinstance(leaf, _Draw))
    draws = [leaf for leaf in leaves if isinstance(leaf, _Draw)]
    numbers = iter(normal_like(key, [jax.ShapeDtypeStruct(draw.shape, jnp.float32) for draw in draws]))
    filled = [
        next(numbers) * (leaf.gain / math.sqrt(math.prod(leaf.shape[:-1]))) if isinstance(leaf, _Draw) else leaf
        for leaf in leaves
    ]
    return jax.tree.unflatten(structure, filled)
