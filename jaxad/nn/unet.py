"""U-Net (Ronneberger et al. 2015) and UNet++ (Zhou et al. 2020): images to images or maps of the same size.

A node X(i, j) of level i and column j is two 3x3 convolutions. Column 0 goes down, with a 2x2 max-pool between levels;
all others come up, on a 2x2 transposed convolution of stride 2:

    X(i, 0) = conv2(pool(X(i-1, 0)))
    X(i, j) = conv2([X(i, 0), ..., X(i, j-1), up(X(i+1, j-1))])        UNet++, all j up to levels - 1 - i
    X(i, j) = conv2([X(i, 0), up(X(i+1, j-1))])                        U-Net, j = levels - 1 - i alone
    output  = conv1(X(0, levels - 1)), of a generator its tanh         no deep supervision

Level i has 32 * 2^i channels times a multiplier. With batch normalisation a node is conv, BN, ReLU, twice, and its
convolutions have no biases, which normalisation would cancel (their gradients would be rounding, of which Adam makes
steps); without, conv with bias and ReLU. Kernels start from N(0, 0.02), scales from N(1, 0.02), as GANomaly's.
"""

from collections.abc import Sequence
from typing import Any

import chex
import jax.numpy as jnp

from jaxad.nn import layers as nn
from jaxad.nn.conv import conv
from jaxad.nn.dcgan import affine, kernel, scaled
from jaxad.nn.initializers import draw_normal
from jaxad.nn.layers import Moments
from jaxad.nn.norm import BatchNorm, Normalised, Statistics
from jaxad.nn.resampling import patch_doubling
from jaxad.types import Array, Key, Params

WIDTH = 32  # channels of the first level
LEVELS = 5


def check_shape(image_shape: Sequence[int], levels: int = LEVELS) -> None:
    """ValueError for images [H, W, C] that cannot be pooled through all levels."""
    step = 2 ** (levels - 1)
    height, width = image_shape[:2]
    if height % step or width % step:
        raise ValueError(f"images are {height}x{width}; {levels} levels need multiples of {step}: resize, or fewer")


def init_unet(
    key: Key,
    image_shape: Sequence[int],
    multiplier: float = 1.0,
    *,
    levels: int = LEVELS,
    dense: bool = True,
    batch_norm: bool = True,
    outputs: int | None = None,
) -> Params:
    """Weights for images [H, W, C]: {"nodes": {"i,j": {"up", "convs": [...]}}, "out"}; UNet++ if `dense`.

    The output has as many channels as the images, or `outputs`.
    """
    check_shape(image_shape, levels)
    widths = [scaled(WIDTH * 2**level, multiplier) for level in range(levels)]

    def convs(before: int, width: int) -> list[dict[str, Any]]:
        extra = (lambda: {"norm": affine(width)}) if batch_norm else (lambda: {"bias": jnp.zeros(width)})
        return [{"kernel": kernel(3, 3, channels, width)} | extra() for channels in (before, width)]

    nodes: dict[str, Any] = {
        _name(i, 0): {"convs": convs(before, width)}
        for i, (before, width) in enumerate(zip([image_shape[2], *widths], widths))
    }
    for i, j in _coming_up(levels, dense):
        skips = j if dense else 1
        up = {"kernel": kernel(2, 2, widths[i + 1], widths[i]), "bias": jnp.zeros(widths[i])}
        nodes[_name(i, j)] = {"up": up, "convs": convs((skips + 1) * widths[i], widths[i])}
    channels = image_shape[2] if outputs is None else outputs
    out = {"kernel": kernel(1, 1, widths[0], channels), "bias": jnp.zeros(channels)}
    return draw_normal(key, {"nodes": nodes, "out": out})


def generate(params: Params, images: Array, statistics: Statistics | tuple[Moments, ...] | None = None) -> Normalised:
    """Images [B, H, W, C] in [-1, 1] made of images."""
    made = transform(params, images, statistics)
    return made._replace(output=jnp.tanh(made.output))


def transform(params: Params, images: Array, statistics: Statistics | tuple[Moments, ...] | None = None) -> Normalised:
    """Maps [B, H, W, outputs] of images [B, H, W, C], unbounded."""
    chex.assert_rank(images, 4)
    norm, nodes = BatchNorm(statistics), params["nodes"]
    levels = sum(name.endswith(",0") for name in nodes)
    dense = len(nodes) == levels * (levels + 1) // 2  # with two levels both are the same network
    made = {(0, 0): _node(nodes[_name(0, 0)], images, norm)}
    for i in range(1, levels):
        made[i, 0] = _node(nodes[_name(i, 0)], _pool(made[i - 1, 0]), norm)
    for i, j in _coming_up(levels, dense):
        node = nodes[_name(i, j)]
        up = _bias(patch_doubling(made[i + 1, j - 1], node["up"]["kernel"]), node["up"])
        skips = [made[i, k] for k in range(j if dense else 1)]
        made[i, j] = _node(node, jnp.concatenate([*skips, up], -1), norm)
    out = params["out"]
    return Normalised(_bias(_conv(made[0, levels - 1], out["kernel"]), out), norm.seen)


def _coming_up(levels: int, dense: bool) -> list[tuple[int, int]]:
    """Nodes (level, column) beyond column 0, each after those it is made of."""
    columns = range(1, levels)
    if dense:
        return [(i, j) for j in columns for i in range(levels - j)]
    return [(levels - 1 - j, j) for j in columns]


def _name(level: int, column: int) -> str:
    return f"{level},{column}"


def _node(params: Params, images: Array, norm: BatchNorm) -> Array:
    for layer in params["convs"]:
        images = _conv(images, layer["kernel"])
        if "norm" in layer:
            images = norm(images, layer["norm"], "relu")
        else:
            images = nn.activate(images, "relu", None, layer["bias"])
    return images


def _pool(images: Array) -> Array:
    """Maximum over windows of 2x2: [B, H, W, C] -> [B, H/2, W/2, C]; of equal pixels the first gets the gradient."""
    # A window's winner is found by comparing pixels with each other. `layers.pool` compares them with the maximum, and
    # here, behind a normalisation, XLA may compute them anew for that with another rounding: then nobody wins.
    batch, height, width, channels = images.shape
    pairs = images.reshape(batch, height // 2, 2, width, channels)
    images = jnp.where(pairs[:, :, 0] >= pairs[:, :, 1], pairs[:, :, 0], pairs[:, :, 1])
    pairs = images.reshape(batch, height // 2, width // 2, 2, channels)
    return jnp.where(pairs[:, :, :, 0] >= pairs[:, :, :, 1], pairs[:, :, :, 0], pairs[:, :, :, 1])


def _conv(images: Array, weights: Array) -> Array:
    return conv(images.astype(weights.dtype), weights).astype(jnp.float32)


def _bias(images: Array, params: Params) -> Array:
    return nn.activate(images, "linear", None, params["bias"])
