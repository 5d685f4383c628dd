"""The networks of GANomaly (Akcay et al. 2018), which AGAD builds on: those of DCGAN (Radford et al. 2016).

    E   conv4 stride 2 to 64, LeakyReLU; [conv4 stride 2 to 128, 256 ..., BN, LeakyReLU]; all pixels to d
    G   E; d to all pixels, BN, ReLU; [transposed conv4 stride 2, BN, ReLU]; transposed conv4 stride 2, tanh
    D   E to D_z, 100 numbers; one number of them, the logit of being real

Images are [B, H, W, C] in [-1, 1]. They are halved as long as both sides are even and the shorter has at least 8
pixels, so that squares of 8, 16, 32 ... end in 4x4, as in the authors' code; other sides in up to 7 pixels. Numbers of
channels double from one halving to the next. No convolution has a bias (authors' code). Kernels start from N(0, 0.02),
scales from N(1, 0.02).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxad.nn.initializers import Draw, draw_normal
from jaxad.nn.layers import Moments
from jaxad.nn.norm import BatchNorm, Normalised, Statistics
from jaxad.nn.resampling import doubling_conv, halving_conv
from jaxad.types import Array, Key, Params

WIDTH = 64  # channels after the first halving
LEAST = 8  # pixels of a side that is still halved
LEAK = 0.2  # slope of LeakyReLU
SPREAD = 0.02  # standard deviation of initial weights


class Autoencoded(NamedTuple):
    """What G gives."""

    output: Array  # [B, H, W, C]
    codes: Array  # [B, d]
    moments: tuple[Moments, ...]


class Judgement(NamedTuple):
    """What D says of images."""

    logits: Array  # [B], of being real
    latent: Array  # [B, d], D_z
    features: Array  # [B, h, w, F], the layer before
    moments: tuple[Moments, ...]


def scaled(width: int, multiplier: float) -> int:
    """A number of channels, at least 1."""
    return max(1, round(width * multiplier))


def kernel(*shape: int) -> Draw:
    """A kernel as DCGAN starts it."""
    return Draw(shape, SPREAD)


def affine(width: int) -> dict[str, Any]:
    """The affine part of a normalisation as DCGAN starts it."""
    return {"scale": Draw((width,), SPREAD, 1.0), "offset": jnp.zeros(width)}


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


def _encoder(image_shape: Sequence[int], latent_dim: int, multiplier: float) -> dict[str, Any]:
    count = halvings(image_shape)
    widths = [scaled(WIDTH * 2**level, multiplier) for level in range(count)]
    blocks = [{"kernel": kernel(4, 4, a, b)} for a, b in zip([image_shape[2], *widths], widths)]
    for block, width in zip(blocks[1:], widths[1:]):
        block["norm"] = affine(width)
    sides = [side // 2**count for side in image_shape[:2]]
    return {"blocks": blocks, "dense": {"kernel": kernel(*sides, widths[-1], latent_dim)}}


def init_encoder(key: Key, image_shape: Sequence[int], latent_dim: int = 100, multiplier: float = 1.0) -> Params:
    """Weights of E for images [H, W, C]: {"blocks": [...], "dense"}."""
    return draw_normal(key, _encoder(image_shape, latent_dim, multiplier))


def encode(params: Params, images: Array, statistics: Statistics | tuple[Moments, ...] | None = None) -> Normalised:
    """Codes [B, d] of images."""
    norm = BatchNorm(statistics)
    return Normalised(_project(params, _features(params, images, norm)), norm.seen)


def _features(params: Params, images: Array, norm: BatchNorm) -> Array:
    chex.assert_rank(images, 4)
    for block in params["blocks"]:
        images = halving_conv(images, block["kernel"])
        if "norm" in block:
            images = norm(images, block["norm"], "linear")
        images = jax.nn.leaky_relu(images, LEAK)
    return images


def _project(params: Params, features: Array) -> Array:
    weights = params["dense"]["kernel"]
    flat = features.astype(weights.dtype).reshape(features.shape[0], -1)
    return (flat @ weights.reshape(-1, weights.shape[-1])).astype(jnp.float32)


def init_autoencoder(key: Key, image_shape: Sequence[int], latent_dim: int = 100, multiplier: float = 1.0) -> Params:
    """Weights of G for images [H, W, C]: {"encoder", "decoder": {"dense", "norm", "blocks": [...]}}."""
    encoder = _encoder(image_shape, latent_dim, multiplier)
    *sides, deepest, _ = encoder["dense"]["kernel"].shape
    # The widths of the encoder backwards; the last block makes the image.
    widths = [block["kernel"].shape[3] for block in encoder["blocks"]][::-1]
    blocks = [{"kernel": kernel(4, 4, a, b)} for a, b in zip(widths, [*widths[1:], image_shape[2]])]
    for block, width in zip(blocks[:-1], widths[1:]):
        block["norm"] = affine(width)
    decoder = {"dense": {"kernel": kernel(*sides, deepest, latent_dim)}, "norm": affine(deepest), "blocks": blocks}
    return draw_normal(key, {"encoder": encoder, "decoder": decoder})


def autoencode(
    params: Params, images: Array, statistics: Statistics | tuple[Moments, ...] | None = None
) -> Autoencoded:
    """Images in [-1, 1] made of the codes of images."""
    norm = BatchNorm(statistics)
    codes = _project(params["encoder"], _features(params["encoder"], images, norm))
    decoder = params["decoder"]
    weights = decoder["dense"]["kernel"]
    made = codes.astype(weights.dtype) @ weights.reshape(-1, weights.shape[-1]).T
    made = norm(made.astype(jnp.float32).reshape(-1, *weights.shape[:3]), decoder["norm"], "relu")
    for block in decoder["blocks"]:
        made = doubling_conv(made, block["kernel"])
        made = norm(made, block["norm"], "relu") if "norm" in block else jnp.tanh(made)
    return Autoencoded(made, codes, norm.seen)


def init_discriminator(key: Key, image_shape: Sequence[int], latent_dim: int = 100, multiplier: float = 1.0) -> Params:
    """Weights of D for images [H, W, C]: {"encoder", "logit"}."""
    encoder = _encoder(image_shape, latent_dim, multiplier)
    return draw_normal(key, {"encoder": encoder, "logit": {"kernel": kernel(latent_dim, 1)}})


def discriminate(
    params: Params, images: Array, statistics: Statistics | tuple[Moments, ...] | None = None
) -> Judgement:
    """How real images look to D, and what it sees in them."""
    norm = BatchNorm(statistics)
    features = _features(params["encoder"], images, norm)
    latent = _project(params["encoder"], features)
    return Judgement((latent @ params["logit"]["kernel"])[:, 0], latent, features, norm.seen)
