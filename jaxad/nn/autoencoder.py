"""The convolutional autoencoder of AutoAD (Eq. 2), for any architecture of the search space.

    f^i(x) = ACT(NORMA(POOL(CONV(x))))        encoder layer i = 1..N
    g^i(x) = UPPOOL(ACT(NORMA(DECONV(x))))    decoder layer i = N..1, the mirror of f^i

The decoder has no tokens of its own: g^i uses the kernel, pooling size, normalisation and activation of layer i
and returns the size and channels that f^i received.

A departure: Eq. 2 upsamples before NORMA. Repeating pixels commutes with ACT and, where nothing is cropped, with
NORMA, so doing it last is the same for less work, but for a latent of one pixel: repeated, then normalised over the
image, it would be zero, and all reconstructions alike.

The network is written once, against a table of operations, so that the same lines run as one differentiable function
(`PLAIN`) or as a chain of shared compiled kernels.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import lax

from jaxad.nn import layers as nn
from jaxad.nn.architecture import Architecture, Layer
from jaxad.nn.conv import conv
from jaxad.nn.cost import PROJECTION_DIM as LATENT_SIZE
from jaxad.nn.cost import feature_sizes
from jaxad.types import Array, Key, Params

NO_NORM = list(nn.NORMS).index("none")


class Ops(NamedTuple):
    """What the network asks of whoever runs it; images may be arrays or anything else that the ops agree on."""

    conv: Callable[..., Any]  # (images, kernel)
    pool: Callable[..., Any]  # (images, kind, size)
    upsample: Callable[..., Any]  # (images, size, height, width)
    normalise: Callable[..., Any]  # (images, kind)
    activate: Callable[..., Any]  # (images, kind, scale, offset)
    project: Callable[..., Any]  # (images, kernel, bias)


def encode(ops: Ops, params: Params, layers: Sequence[Any], images: Any) -> Any:
    """f: images to the latent map. `layers` have the attributes of `space.Layer`."""
    for layer, weights in zip(layers, params["encoder"]):
        images = ops.conv(images, weights["kernel"])
        images = ops.pool(images, layer.pool, layer.pool_kernel)
        images = _finish(ops, layer, weights, images)
    return images


def decode(ops: Ops, params: Params, layers: Sequence[Any], sizes: Sequence[tuple[int, int]], latent: Any) -> Any:
    """g: latent map to reconstruction. `sizes` (H, W) are what the encoder layers received, from `sizes_of`."""
    for layer, weights, (height, width) in reversed(list(zip(layers, params["decoder"], sizes))):
        latent = ops.conv(latent, weights["kernel"])
        latent = _finish(ops, layer, weights, latent)
        latent = ops.upsample(latent, layer.pool_kernel, height, width)
    return latent


def latent_vector(ops: Ops, params: Params, latent: Any) -> Any:
    """The vector [B, d] of a latent map, which the hypotheses look at."""
    return ops.project(latent, params["projection"]["kernel"], params["projection"]["bias"])


def _finish(ops: Ops, layer: Any, weights: Params, images: Any) -> Any:
    images = ops.normalise(images, layer.norm)
    if isinstance(layer.norm, str):
        scale = None if layer.norm == "none" else weights["scale"]
    else:
        scale = jnp.where(layer.norm == NO_NORM, 1.0, weights["scale"])
    return ops.activate(images, layer.activation, scale, weights["offset"])


class Output(NamedTuple):
    """What a forward pass gives."""

    reconstruction: Array  # [B, H, W, C]
    latent: Array  # [B, d]
    moments: tuple[nn.Moments, ...]  # of every batch normalisation, in the order they were met


def apply(
    params: Params,
    layers: Sequence[Any],
    images: Array,
    *,
    moments: Sequence[nn.Moments] | None = None,
    with_decoder: bool = True,
) -> Output:
    """Run the autoencoder on a batch as one differentiable function.

    Args:
      params: from `init`, or a slice of shared weights.
      layers: `Architecture.layers`, or objects with the same attributes whose pool, norm and activation are
        integer arrays (see `layers.choose`).
      images: [B, H, W, C].
      moments: statistics of batch normalisation to use; by default each batch's own, which are returned.
      with_decoder: False returns the images in place of a reconstruction, for callers that need latents only.
    """
    chex.assert_rank(images, 4)
    frozen = None if moments is None else iter(moments)
    seen = []

    def normalise(features: Array, kind: str | Array) -> Array:
        if not isinstance(kind, str) or kind != "batch":
            return nn.normalise(features, kind)
        if frozen is not None:
            return nn.normalise(features, kind, next(frozen))
        seen.append(nn.batch_moments(lax.stop_gradient(features)))
        return nn.normalise(features, kind)

    ops = PLAIN._replace(normalise=normalise)
    latent = encode(ops, params, layers, images)
    vector = latent_vector(ops, params, latent)
    if with_decoder:
        images = decode(ops, params, layers, sizes_of(layers, *images.shape[1:3]), latent)
    return Output(images, vector, tuple(seen))


def sizes_of(layers: Sequence[Any], height: int, width: int) -> list[tuple[int, int]]:
    """(H, W) of what each encoder layer receives, the image first."""
    sizes = [(height, width)]
    for layer in layers[:-1]:
        sizes.append(tuple(-(-size // layer.pool_kernel) for size in sizes[-1]))
    return sizes


def init(key: Key, architecture: Architecture, image_shape: Sequence[int]) -> Params:
    """Fresh weights: kernels N(0, 1 / fan-in), scales one, offsets zero.

    Args:
      key: consumed.
      image_shape: (H, W, C).

    Returns:
      {"encoder": [...], "decoder": [...], "projection": {...}}; each layer holds kernel [k, k, in, out], offset
      [out] and, if it normalises, scale [out].
    """
    channels = [channels for _, _, channels in feature_sizes(architecture, image_shape)]
    pairs = list(zip(architecture.layers, channels, channels[1:]))

    def layer_params(layer: Layer, inner: int, outer: int) -> Params:
        params = {"kernel": jax.ShapeDtypeStruct((layer.kernel, layer.kernel, inner, outer), jnp.float32)}
        if layer.norm != "none":
            params["scale"] = jnp.ones(outer)
        return params | {"offset": jnp.zeros(outer)}

    return _draw_kernels(
        key,
        {
            "encoder": [layer_params(layer, before, after) for layer, before, after in pairs],
            "decoder": [layer_params(layer, after, before) for layer, before, after in pairs],
            "projection": {
                "kernel": jax.ShapeDtypeStruct((channels[-1], LATENT_SIZE), jnp.float32),
                "bias": jnp.zeros(LATENT_SIZE),
            },
        },
    )


def _draw_kernels(key: Key, params: Params) -> Params:
    """Fill in the shapes. One draw for all: each draw of its own would take a second to compile."""
    leaves, structure = jax.tree.flatten(params)
    counts = [math.prod(leaf.shape) if isinstance(leaf, jax.ShapeDtypeStruct) else 0 for leaf in leaves]
    numbers = jax.random.normal(key, (sum(counts),))
    starts = itertools.accumulate(counts, initial=0)
    filled = [
        numbers[start : start + count].reshape(leaf.shape) / math.sqrt(math.prod(leaf.shape[:-1])) if count else leaf
        for leaf, start, count in zip(leaves, starts, counts)
    ]
    return jax.tree.unflatten(structure, filled)


def _project(images: Array, kernel: Array, bias: Array) -> Array:
    return nn.project(images, kernel) + bias[None]


PLAIN = Ops(conv, nn.pool, nn.upsample, nn.normalise, nn.activate, _project)
