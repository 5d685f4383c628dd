"""The networks of AMA: a convolutional encoder, and the residual generator and critic of SNGAN (Miyato et al. 2018).

    E   [conv4 stride 2, BN, LeakyReLU] until 4x4; conv4 to d                             images -> codes
    G   dense to 4x4; residual blocks, each twice as large; BN, ReLU, conv3, tanh         codes -> images
    D   residual blocks down to 8x8; ReLU; sum over pixels = features; dense to a number  pairs -> values

Images are square, 4 * 2^n pixels wide (n >= 1), in [-1, 1]. Widths are those of the AMA authors' code for 32x32 (E 64,
128, 256; G 256; D 128) times a multiplier; larger images get more blocks of the last width, smaller ones fewer.

Convolutions compute in the number type of their kernels (`weights.convolve_in`), all between them in float32.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxad.nn import layers as nn
from jaxad.nn.conv import conv
from jaxad.nn.initializers import draw_uniform, glorot
from jaxad.nn.layers import Moments
from jaxad.nn.norm import BatchNorm, Normalised
from jaxad.nn.resampling import halving_conv
from jaxad.types import Array, Key, Params

ENCODER_WIDTHS, GENERATOR_WIDTH, CRITIC_WIDTH = (64, 128, 256), 256, 128
SMALLEST = 4  # side of the feature maps between encoder and code, and between code and generator
LEAK = 0.2  # slope of LeakyReLU
CRITIC_BLOCKS = 4  # of the authors' critic; larger images get more


# ---- sizes -----------------------------------------------------------------------------------------------------


def next_size(size: int) -> int:
    """The smallest side of at least `size` pixels that the networks take: 8, 16, 32, 64 ..."""
    return SMALLEST * 2 ** max(1, math.ceil(math.log2(size / SMALLEST)))


def doublings(image_shape: tuple[int, ...]) -> int:
    """n of an image [H, W, C] of 4 * 2^n pixels a side; ValueError for other shapes."""
    height, width = image_shape[:2]
    if height != width or height != next_size(height):
        side = next_size(max(height, width))
        raise ValueError(f"images are {height}x{width}; the networks take squares of 8, 16, 32 ...: resize to {side}")
    return round(math.log2(height / SMALLEST))


def scaled(width: int, multiplier: float) -> int:
    """A number of channels, at least 1."""
    return max(1, round(width * multiplier))


def _encoder_widths(levels: int, multiplier: float) -> list[int]:
    return [scaled(ENCODER_WIDTHS[min(level, len(ENCODER_WIDTHS) - 1)], multiplier) for level in range(levels)]


def _critic_blocks(side: int) -> list[bool]:
    """Whether each block halves the image: the first always, the others while more than 8 pixels are left."""
    halving = max(1, round(math.log2(side / 8)))
    return [True] * halving + [False] * max(CRITIC_BLOCKS - halving, 2)


# ---- encoder ---------------------------------------------------------------------------------------------------


def init_encoder(key: Key, image_shape: tuple[int, int, int], latent_dim: int, multiplier: float = 1.0) -> Params:
    """Weights of E for images [H, W, C]: {"blocks": [...], "dense": ...}."""
    widths = _encoder_widths(doublings(image_shape), multiplier)
    blocks = [
        {"kernel": glorot(1.0, 4, 4, before, after), "norm": _affine(after)}
        for before, after in zip([image_shape[2], *widths], widths)
    ]
    dense = glorot(1.0, SMALLEST, SMALLEST, widths[-1], latent_dim)
    return draw_uniform(key, {"blocks": blocks, "dense": {"kernel": dense}})


def encode(params: Params, images: Array, moments: tuple[Moments, ...] | None = None) -> Normalised:
    """Codes [B, d] of images [B, H, W, C]; `moments` are frozen statistics, by default the batch's own."""
    chex.assert_rank(images, 4)
    norm = BatchNorm(moments)
    for block in params["blocks"]:
        images = norm(halving_conv(images, block["kernel"]), block["norm"], "linear")
        images = jax.nn.leaky_relu(images, LEAK)
    kernel = params["dense"]["kernel"]
    codes = _as(images, kernel).reshape(images.shape[0], -1) @ kernel.reshape(-1, kernel.shape[-1])
    return Normalised(codes.astype(jnp.float32), norm.seen)


# ---- generator -------------------------------------------------------------------------------------------------


def init_generator(key: Key, image_shape: tuple[int, int, int], latent_dim: int, multiplier: float = 1.0) -> Params:
    """Weights of G for images [H, W, C]: {"dense", "blocks": [...], "norm", "conv"}."""
    width = scaled(GENERATOR_WIDTH, multiplier)
    # Without biases, which the authors' blocks have: normalisation cancels them, so that their gradients are rounding,
    # of which Adam would make steps of full size that the running averages lag behind.
    block = {
        "norm1": _affine(width), "conv1": {"kernel": glorot(math.sqrt(2), 3, 3, width, width)},
        "norm2": _affine(width), "conv2": {"kernel": glorot(math.sqrt(2), 3, 3, width, width)},
        "shortcut": {"kernel": glorot(1.0, 1, 1, width, width)},
    }  # fmt: skip
    pixels = SMALLEST * SMALLEST
    shapes = {
        "dense": {"kernel": glorot(1.0, latent_dim, pixels * width), "bias": jnp.zeros(pixels * width)},
        "blocks": [block for _ in range(doublings(image_shape))],
        "norm": _affine(width),
        "conv": _conv_weights(1.0, 3, width, image_shape[2]),
    }
    return draw_uniform(key, shapes)


def generate(params: Params, codes: Array, moments: tuple[Moments, ...] | None = None) -> Normalised:
    """Images [B, H, W, C] in [-1, 1] of codes [B, d]; `moments` as in `encode`."""
    chex.assert_rank(codes, 2)
    norm = BatchNorm(moments)
    images = codes @ params["dense"]["kernel"] + params["dense"]["bias"][None]
    images = images.reshape(codes.shape[0], SMALLEST, SMALLEST, -1)
    for block in params["blocks"]:
        side = 2 * images.shape[1]
        inner = nn.upsample(norm(images, block["norm1"], "relu"), 2, side, side)
        inner = _conv(norm(_conv(inner, block["conv1"]), block["norm2"], "relu"), block["conv2"])
        # Repeating pixels commutes with a 1x1 convolution: last is the same for a quarter of the work.
        images = inner + nn.upsample(_conv(images, block["shortcut"]), 2, side, side)
    images = norm(images, params["norm"], "relu")
    return Normalised(jnp.tanh(_conv(images, params["conv"])), norm.seen)


# ---- critic ----------------------------------------------------------------------------------------------------


def init_critic(key: Key, pair_shape: tuple[int, int, int], multiplier: float = 1.0) -> Params:
    """Weights of D for stacked pairs [H, W, 2C] (or images [H, W, C]): {"blocks": [...], "dense"}."""
    doublings(pair_shape)
    width, before, blocks = scaled(CRITIC_WIDTH, multiplier), pair_shape[2], []
    for halves in _critic_blocks(pair_shape[0]):
        block = {
            "conv1": _conv_weights(math.sqrt(2), 3, before, width),
            "conv2": _conv_weights(math.sqrt(2), 3, width, width),
        }
        blocks.append(block | ({"shortcut": _conv_weights(1.0, 1, before, width)} if halves else {}))
        before = width
    return draw_uniform(key, {"blocks": blocks, "dense": {"kernel": glorot(1.0, width, 1)}})


class Judgement(NamedTuple):
    """What the critic says of pairs."""

    values: Array  # [B]
    features: Array  # [B, F], the layer before: f of Eq. 5


def judge(params: Params, pairs: Array) -> Judgement:
    """Values and features of pairs [B, H, W, 2C]. Each is judged by itself: there is no batch normalisation."""
    chex.assert_rank(pairs, 4)
    images = pairs
    for index, block in enumerate(params["blocks"]):
        inner = images if index == 0 else jax.nn.relu(images)
        inner = _conv(jax.nn.relu(_conv(inner, block["conv1"])), block["conv2"])
        if "shortcut" in block:  # a block that halves; pooling commutes with a 1x1 convolution, so it comes first
            inner, images = nn.pool(inner, "average", 2), _conv(nn.pool(images, "average", 2), block["shortcut"])
        images = images + inner
    features = jnp.sum(jax.nn.relu(images), (1, 2))
    return Judgement((features @ params["dense"]["kernel"])[:, 0], features)


# ---- pieces ----------------------------------------------------------------------------------------------------


def _conv(images: Array, params: Params) -> Array:
    images = conv(_as(images, params["kernel"]), params["kernel"]).astype(jnp.float32)
    return nn.activate(images, "linear", None, params["bias"]) if "bias" in params else images


def _as(images: Array, kernel: Array) -> Array:
    return images.astype(kernel.dtype)


def _conv_weights(gain: float, size: int, before: int, after: int) -> Mapping[str, Any]:
    return {"kernel": glorot(gain, size, size, before, after), "bias": jnp.zeros(after)}


def _affine(width: int) -> Params:
    return {"scale": jnp.ones(width), "offset": jnp.zeros(width)}
