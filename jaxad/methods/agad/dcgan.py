"""The networks of GANomaly (Akcay et al. 2018), which AGAD builds on: those of DCGAN (Radford et al. 2016).

    E   conv4 stride 2 to 64, LeakyReLU; [conv4 stride 2 to 128, 256 ..., BN, LeakyReLU]; all pixels to d
    G   E; d to all pixels, BN, ReLU; [transposed conv4 stride 2, BN, ReLU]; transposed conv4 stride 2, tanh
    D   E to D_z, 100 numbers; one number of them, the logit of being real

Images are [B, H, W, C] in [-1, 1]. They are halved as long as both sides are even and the shorter has at least 8
pixels, so that squares of 8, 16, 32 ... end in 4x4, as in the authors' code; other sides in up to 7 pixels. Numbers of
channels double from one halving to the next. No convolution has a bias (authors' code). Kernels start from N(0, 0.02),
scales from N(1, 0.02).
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax.numpy as jnp

from jaxad.nn.convolution import Conv, conv_transpose
from jaxad.nn.normalization import MOMENTUM, BatchNorm
from jaxad.nn.unet import KERNEL_INIT, SCALE_INIT, scaled
from jaxad.types import Array

WIDTH = 64  # channels after the first halving
LEAST = 8  # pixels of a side that is still halved
LEAK = 0.2  # slope of LeakyReLU


class Reconstruction(NamedTuple):
    """What G gives."""

    images: Array  # [B, H, W, C]
    codes: Array | None  # [B, d]


class DiscriminatorOutput(NamedTuple):
    """What D gives."""

    logits: Array  # [B], of being real
    latent: Array  # [B, d], D_z
    features: Array  # [B, h, w, F], the layer before


def halvings(image_shape: Sequence[int]) -> int:
    """How often images [H, W, C] are halved; ValueError for those that cannot be."""
    height, width = image_shape[:2]
    count = 0
    while min(height, width) >= LEAST and height % 2 == width % 2 == 0:
        height, width, count = height // 2, width // 2, count + 1
    if count == 0 or min(height, width) >= LEAST:
        sides = f"{image_shape[0]}x{image_shape[1]}"
        raise ValueError(f"images are {sides}, which cannot be halved down to 4 to 7 pixels: resize to 8, 16, 32 ...")
    return count


class _Module(nn.Module):
    """What the networks have in common.

    Attributes:
      latent_dim: d.
      multiplier: of all numbers of channels; 1 is the published size.
      momentum: of running averages, see `normalization.BatchNorm`.
      dtype: number type of products, such as "bfloat16"; all else is float32.
    """

    latent_dim: int = 100
    multiplier: float = 1.0
    momentum: float = MOMENTUM
    dtype: str | None = None

    def settings(self) -> dict[str, Any]:
        """For a network within this one."""
        names = ("latent_dim", "multiplier", "momentum", "dtype")
        return {name: getattr(self, name) for name in names}

    def widths(self, image_shape: Sequence[int]) -> list[int]:
        """Channels after each halving of images [H, W, C]."""
        return [scaled(WIDTH * 2**level, self.multiplier) for level in range(halvings(image_shape))]


class Encoder(_Module):
    """E: codes [B, d] of images, and the features [B, h, w, F] that they are made of."""

    @nn.compact
    def __call__(self, images: Array, *, train: bool, frozen: Array | None = None) -> tuple[Array, Array]:
        """`train` and `frozen` as those of `normalization.BatchNorm`; ValueError for sides that cannot be halved."""
        chex.assert_rank(images, 4)
        conv = functools.partial(Conv, use_bias=False, kernel_init=KERNEL_INIT, dtype=self.dtype)
        features = images
        for level, width in enumerate(self.widths(images.shape[1:])):
            features = conv(width, (4, 4), strides=2, padding=1, name=f"conv{level}")(features)
            if level:
                norm = BatchNorm(not train, self.momentum, scale_init=SCALE_INIT, name=f"norm{level}")
                features = norm(features, frozen=frozen)
            features = nn.leaky_relu(features, LEAK)
        codes = conv(self.latent_dim, features.shape[1:3], padding="VALID", name="codes")(features)
        return codes.reshape(len(codes), -1), features


class Decoder(_Module):
    """Images [B, H, W, C] in [-1, 1] of codes [B, d].

    Attributes:
      image_shape: (H, W, C).
    """

    image_shape: tuple[int, int, int] = (32, 32, 3)

    @nn.compact
    def __call__(self, codes: Array, *, train: bool, frozen: Array | None = None) -> Array:
        """`train` and `frozen` as those of `normalization.BatchNorm`."""

        def norm(name: str, features: Array) -> Array:
            norm = BatchNorm(not train, self.momentum, scale_init=SCALE_INIT, name=name)
            return nn.relu(norm(features, frozen=frozen))

        widths = self.widths(self.image_shape)[::-1]
        shape = (*(side // 2 ** len(widths) for side in self.image_shape[:2]), widths[0])
        options: dict[str, Any] = {"use_bias": False, "kernel_init": KERNEL_INIT, "dtype": self.dtype}
        features = nn.Dense(math.prod(shape), name="dense", **options)(codes)
        features = norm("norm", features.reshape(-1, *shape))
        for level, width in enumerate(widths[1:]):
            features = norm(f"norm{level}", conv_transpose(width, 4, name=f"conv{level}", **options)(features))
        last = conv_transpose(self.image_shape[2], 4, name=f"conv{len(widths) - 1}", **options)
        return jnp.tanh(last(features))


class Autoencoder(_Module):
    """G: images made of the codes of images."""

    @nn.compact
    def __call__(self, images: Array, *, train: bool, frozen: Array | None = None) -> Reconstruction:
        """`train` and `frozen` as those of `normalization.BatchNorm`; ValueError for sides that cannot be halved."""
        codes, _ = Encoder(**self.settings(), name="encoder")(images, train=train, frozen=frozen)
        decoder = Decoder(**self.settings(), image_shape=images.shape[1:], name="decoder")
        return Reconstruction(decoder(codes, train=train, frozen=frozen), codes)


class Discriminator(_Module):
    """D: how real images look, and what it sees in them."""

    @nn.compact
    def __call__(self, images: Array, *, train: bool, frozen: Array | None = None) -> DiscriminatorOutput:
        """`train` and `frozen` as those of `normalization.BatchNorm`; ValueError for sides that cannot be halved."""
        latent, features = Encoder(**self.settings(), name="encoder")(images, train=train, frozen=frozen)
        logits = nn.Dense(1, use_bias=False, kernel_init=KERNEL_INIT, name="logit")(latent)
        return DiscriminatorOutput(logits[:, 0], latent, features)
