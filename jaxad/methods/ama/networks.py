"""The networks of AMA: a convolutional encoder, and the residual generator and critic of SNGAN (Miyato et al. 2018).

    E   [conv4 stride 2, BN, LeakyReLU] until 4x4; conv4 to d                             images -> codes
    G   dense to 4x4; residual blocks, each twice as large; BN, ReLU, conv3, tanh         codes -> images
    D   residual blocks down to 8x8; ReLU; sum over pixels = features; dense to a number  pairs -> values

Images are square, 4 * 2^n pixels wide (n >= 1), in [-1, 1]. Widths are those of the AMA authors' code for 32x32 (E 64,
128, 256; G 256; D 128) times a multiplier; larger images get more blocks of the last width, smaller ones fewer.

Convolutions may compute in a shorter number type (`dtype`), all between them is float32.
"""

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from jaxad.nn import layers
from jaxad.nn.convolution import Conv
from jaxad.nn.initializers import glorot_uniform
from jaxad.nn.network import make_network
from jaxad.nn.normalization import BatchNorm
from jaxad.types import Array, Network, Params

ENCODER_WIDTHS, GENERATOR_WIDTH, CRITIC_WIDTH = (64, 128, 256), 256, 128
SMALLEST = 4  # side of the feature maps between encoder and code, and between code and generator
LEAK = 0.2  # slope of LeakyReLU
CRITIC_BLOCKS = 4  # of the authors' critic; larger images get more

GLOROT, IN_BLOCK = glorot_uniform(), glorot_uniform(math.sqrt(2))  # SNGAN has the larger gain inside residual blocks


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


# ---- networks --------------------------------------------------------------------------------------------------


class Encoder(nn.Module):
    """E: images [B, H, W, C] in [-1, 1] -> codes [B, d]."""

    latent_dim: int
    width: float = 1.0  # multiplier of the numbers of channels
    dtype: Any = None  # of convolutions

    @nn.compact
    def __call__(self, images: Array, *, train: bool = False) -> Array:
        def conv(width: int, name: str, **options: Any) -> Conv:
            options |= {"use_bias": False, "kernel_init": GLOROT, "dtype": self.dtype}
            return Conv(width, (4, 4), name=name, **options)

        for index, width in enumerate(_encoder_widths(doublings(images.shape[1:]), self.width)):
            images = conv(width, f"conv{index}", strides=2, padding=1)(images)
            images = nn.leaky_relu(BatchNorm(not train, name=f"norm{index}")(images), LEAK)
        return conv(self.latent_dim, "dense", padding="VALID")(images)[:, 0, 0]


class GeneratorBlock(nn.Module):
    """A residual block that doubles the side of feature maps [B, H, W, F].

    Its convolutions have no biases, which the authors' have: normalisation cancels them, so that their gradients are
    rounding, of which Adam would make steps of full size that the running averages lag behind.
    """

    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array, *, train: bool = False) -> Array:
        width, side = images.shape[-1], 2 * images.shape[1]

        def conv(size: int, init: Any, name: str) -> Conv:
            return Conv(width, (size, size), use_bias=False, kernel_init=init, dtype=self.dtype, name=name)

        inner = layers.upsample(nn.relu(BatchNorm(not train, name="norm1")(images)), 2, side, side)
        inner = nn.relu(BatchNorm(not train, name="norm2")(conv(3, IN_BLOCK, "conv1")(inner)))
        inner = conv(3, IN_BLOCK, "conv2")(inner)
        # Repeating pixels commutes with a 1x1 convolution: last is the same for a quarter of the work.
        return inner + layers.upsample(conv(1, GLOROT, "shortcut")(images), 2, side, side)


class Generator(nn.Module):
    """G: codes [B, d] -> images [B, S, S, C] in [-1, 1]."""

    image_shape: tuple[int, ...]  # [S, S, C]
    width: float = 1.0
    dtype: Any = None

    @nn.compact
    def __call__(self, codes: Array, *, train: bool = False) -> Array:
        width = scaled(GENERATOR_WIDTH, self.width)
        images = nn.Dense(SMALLEST * SMALLEST * width, kernel_init=GLOROT, name="dense")(codes)
        images = images.reshape(-1, SMALLEST, SMALLEST, width)
        for index in range(doublings(self.image_shape)):
            images = GeneratorBlock(self.dtype, name=f"block{index}")(images, train=train)
        images = nn.relu(BatchNorm(not train, name="norm")(images))
        return jnp.tanh(Conv(self.image_shape[2], (3, 3), kernel_init=GLOROT, dtype=self.dtype, name="conv")(images))


class Criticism(NamedTuple):
    """What the critic says of pairs."""

    values: Array  # [B]
    features: Array  # [B, F], the layer before: f of Eq. 5


class CriticBlock(nn.Module):
    """A residual block of the critic, which may halve the side of its feature maps."""

    width: int
    halves: bool
    first: bool  # it sees the images themselves, which are not rectified
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array) -> Array:
        def conv(size: int, init: Any, name: str) -> Conv:
            return Conv(self.width, (size, size), kernel_init=init, dtype=self.dtype, name=name)

        inner = images if self.first else nn.relu(images)
        inner = conv(3, IN_BLOCK, "conv2")(nn.relu(conv(3, IN_BLOCK, "conv1")(inner)))
        if self.halves:  # pooling commutes with a 1x1 convolution, so it comes first
            inner = layers.pool(inner, "average", 2)
            images = conv(1, GLOROT, "shortcut")(layers.pool(images, "average", 2))
        return images + inner


class Critic(nn.Module):
    """D: stacked pairs [B, H, W, 2C] (or images) -> `Criticism`. Each is judged by itself, without normalisation."""

    width: float = 1.0
    dtype: Any = None

    @nn.compact
    def __call__(self, pairs: Array, *, train: bool = False) -> Criticism:
        doublings(pairs.shape[1:])
        images, width = pairs, scaled(CRITIC_WIDTH, self.width)
        for index, halves in enumerate(_critic_blocks(pairs.shape[1])):
            images = CriticBlock(width, halves, index == 0, self.dtype, name=f"block{index}")(images)
        features = jnp.sum(nn.relu(images), (1, 2))
        values = nn.Dense(1, use_bias=False, kernel_init=GLOROT, name="dense")(features)
        return Criticism(values[:, 0], features)


def image_shape_of(generator: Params) -> tuple[int, int, int]:
    """(S, S, C) of the images that a generator with these params makes."""
    side = SMALLEST * 2 ** sum(name.startswith("block") for name in generator)
    return side, side, generator["conv"]["bias"].shape[0]


class Networks(NamedTuple):
    """The three networks, each as pure functions of its variables {"params", perhaps "batch_stats"}."""

    encoder: Network
    generator: Network
    critic: Network


def make_networks(
    image_shape: tuple[int, ...], latent_dim: int, width: float = 1.0, compute: str = "float32"
) -> Networks:
    """E, G and D for images [H, W, C].

    Args:
      latent_dim: d.
      width: multiplier of all numbers of channels.
      compute: number type of the convolutions, "float32" or "bfloat16".
    """
    dtype = None if compute == "float32" else jnp.dtype(compute)
    return Networks(
        make_network(Encoder(latent_dim, width, dtype)),
        make_network(Generator(tuple(image_shape), width, dtype)),
        make_network(Critic(width, dtype)),
    )
