"""The convolutional autoencoder of AutoAD (Eq. 2), for any architecture of the search space.

    f^i(x) = ACT(NORMA(POOL(CONV(x))))        encoder layer i = 1..N
    g^i(x) = UPPOOL(ACT(NORMA(DECONV(x))))    decoder layer i = N..1, the mirror of f^i

The decoder has no tokens of its own: g^i uses the kernel, pooling size, normalisation and activation of layer i
and returns the size and channels that f^i received.

A departure: Eq. 2 upsamples before NORMA. Repeating pixels commutes with ACT and, where nothing is cropped, with
NORMA, so doing it last is the same for less work, but for a latent of one pixel: repeated, then normalised over the
image, it would be zero, and all reconstructions alike.

Actions beyond the paper's (see `nn.actions`) act where they say, mirrored as all else is.

The network is written once, against a table of operations, so that the same lines run as one differentiable function
(`PLAIN`) or as a chain of shared compiled kernels. It is no Flax module: a search calls it with slices of the shared
weights of a few hundred children a minute and, with kernels in the place of arrays, never as one program, where a
module would have to be built, bound and traced for every child. The stand-alone detector runs these lines too, so that
what was found and what is retrained cannot differ; a module of its own would be Eq. 2 written a second time.
"""

import functools
import itertools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import lax

from jaxad.nn import layers as nn
from jaxad.nn.actions import EXTRA_ACTIONS, Action
from jaxad.nn.architecture import Architecture, Layer
from jaxad.nn.choices import OneOf, at_run_time
from jaxad.nn.conv import conv
from jaxad.nn.cost import PROJECTION_DIM as LATENT_SIZE
from jaxad.nn.cost import feature_sizes
from jaxad.types import Array, Key, Params

# (action, choice) of the actions beyond the paper's, each choice a name or known at run time only.
Extra = Sequence[tuple[str, str | OneOf]]


class Ops(NamedTuple):
    """What the network asks of whoever runs it; images may be arrays or anything else that the ops agree on."""

    conv: Callable[..., Any]  # (images, kernel)
    pool: Callable[..., Any]  # (images, kind, size)
    upsample: Callable[..., Any]  # (images, size, height, width)
    normalise: Callable[..., Any]  # (images, kind)
    activate: Callable[..., Any]  # (images, kind, scale, offset)
    project: Callable[..., Any]  # (images, kernel, bias)
    act: Callable[..., Any]  # (action, choice, images, inputs of the layer or None, {name of a vector: vector})


def encode(ops: Ops, params: Params, layers: Sequence[Any], images: Any, extra: Extra = ()) -> Any:
    """f: images to the latent map. `layers` have the attributes of `Layer`, `extra` is that of the architecture."""
    images = _act(ops, extra, "image", images)
    for layer, weights in zip(layers, params["encoder"]):
        act = functools.partial(_act, ops, layer.extra, inputs=images if layer.extra else None, weights=weights)
        images = act("conv", ops.conv(images, weights["kernel"]))
        images = act("pool", ops.pool(images, layer.pool, layer.pool_kernel))
        images = _finish(ops, layer, weights, images, act)
    return _act(ops, extra, "latent", images)


def decode(
    ops: Ops,
    params: Params,
    layers: Sequence[Any],
    sizes: Sequence[tuple[int, int]],
    latent: Any,
    images: Any,
    extra: Extra = (),
) -> Any:
    """g: latent map to reconstruction. `sizes` (H, W) are what the encoder layers received, from `sizes_of`."""
    for layer, weights, (height, width) in reversed(list(zip(layers, params["decoder"], sizes))):
        act = functools.partial(_act, ops, layer.extra, inputs=latent if layer.extra else None, weights=weights)
        latent = act("conv", ops.conv(latent, weights["kernel"]))
        latent = _finish(ops, layer, weights, latent, act)
        latent = act("pool", ops.upsample(latent, layer.pool_kernel, height, width))
    return _act(ops, extra, "reconstruction", latent, images)


def latent_vector(ops: Ops, params: Params, latent: Any) -> Any:
    """The vector [B, d] of a latent map, which the hypotheses look at."""
    return ops.project(latent, params["projection"]["kernel"], params["projection"]["bias"])


def _finish(ops: Ops, layer: Any, weights: Params, images: Any, act: Callable[[str, Any], Any]) -> Any:
    images = act("norm", ops.normalise(images, layer.norm))
    return act("activation", ops.activate(images, layer.activation, _scale(layer.norm, weights), weights["offset"]))


def _scale(norm: str | OneOf | Array, weights: Params) -> Any:
    """The scale that follows a normalisation; None, or at run time ones, where none does."""
    if isinstance(norm, str):
        return weights["scale"] if nn.NORMS[norm].scaled else None
    names, index = at_run_time(nn.NORMS, norm)
    without = [index == place for place, name in enumerate(names) if not nn.NORMS[name].scaled]
    return jnp.where(functools.reduce(operator.or_, without), 1.0, weights["scale"]) if without else weights["scale"]


def _act(ops: Ops, extra: Extra, place: str, images: Any, inputs: Any = None, weights: Params | None = None) -> Any:
    """What the actions beyond the paper's that act at a place make of images."""
    for name, choice in extra:
        action = EXTRA_ACTIONS[name]
        if action.after == place:
            names = {vector for step in action.choices.values() for vector in step.vectors}
            vectors = {v: weights[action.key(v)] for v in sorted(names) if action.key(v) in (weights or {})}
            images = ops.act(action, choice, images, inputs if action.sees_inputs else None, vectors)
    return images


class Output(NamedTuple):
    """What a forward pass gives."""

    reconstruction: Array  # [B, H, W, C]
    latent: Array  # [B, d]
    moments: tuple[nn.Moments, ...]  # of every normalisation over the batch, or that may be one, in the order met


def apply(
    params: Params,
    layers: Sequence[Any],
    images: Array,
    *,
    extra: Extra = (),
    moments: Sequence[nn.Moments] | None = None,
    with_decoder: bool = True,
) -> Output:
    """Run the autoencoder on a batch as one differentiable function.

    Args:
      params: from `init`, or a slice of shared weights.
      layers: `Architecture.layers`, or objects with the same attributes whose pool, norm, activation and choices in
        `extra` are known at run time only (see `choices.OneOf`).
      images: [B, H, W, C].
      extra: `Architecture.extra`, or the same with choices at run time.
      moments: statistics of batch normalisation to use; by default each batch's own, which are returned.
      with_decoder: False returns the images in place of a reconstruction, for callers that need latents only.
    """
    chex.assert_rank(images, 4)
    frozen = None if moments is None else iter(moments)
    seen = []

    def normalise(features: Array, kind: str | OneOf | Array) -> Array:
        if isinstance(kind, str) and nn.NORMS[kind].frozen is None:
            return nn.normalise(features, kind)
        if frozen is not None:
            return nn.normalise(features, kind, next(frozen))
        seen.append(nn.batch_moments(lax.stop_gradient(features)))
        return nn.normalise(features, kind)

    ops = PLAIN._replace(normalise=normalise)
    latent = encode(ops, params, layers, images, extra)
    vector = latent_vector(ops, params, latent)
    if with_decoder:
        images = decode(ops, params, layers, sizes_of(layers, *images.shape[1:3]), latent, images, extra)
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
      [out], if it normalises scale [out], and the vectors [out] of actions beyond the paper's, as "action.vector".
    """
    channels = [channels for _, _, channels in feature_sizes(architecture, image_shape)]
    pairs = list(zip(architecture.layers, channels, channels[1:]))

    def layer_params(layer: Layer, inner: int, outer: int) -> Params:
        kernel = jax.ShapeDtypeStruct((layer.kernel, layer.kernel, inner, outer), jnp.float32)
        return {"kernel": kernel} | {name: jnp.full(outer, value, jnp.float32) for name, value in layer.vectors.items()}

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


def _apply(action: Action, choice: str | OneOf, images: Array, inputs: Array | None, vectors: Params) -> Array:
    return action.apply(choice, images, inputs, vectors)


PLAIN = Ops(conv, nn.pool, nn.upsample, nn.normalise, nn.activate, _project, _apply)
