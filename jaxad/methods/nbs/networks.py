"""The networks of neural batch sampling (Chu 2020, Tables 4.1 to 4.3), for any patch size and width.

    sampler      [conv3 stride 2, ReLU, norm] x 5; dense, ReLU; dense          windows -> logits of nine actions
    autoencoder  conv encoder to a code and back, one shortcut (Conv5 to Deconv4)   patches -> patches
    predictor    [conv3 dilation 1, 2, 4, 8, BN, LeakyReLU]; conv1             loss profiles -> logits of pixels

Normalisation is batch normalisation in all three tables. Here it means: in the sampler, which acts on one window at a
time, over the pixels of that window, so that the policy that is updated is the one that acted; in the autoencoder
always over the batch at hand, as in the thesis; in the predictor over the batch in training, and by running averages
later. Convolutions that a normalisation follows at once have no bias, which it would cancel.

Strides and dilations are written as reshapes around matrix products and stride-1 convolutions, whose gradients are fast
also inside compiled loops (see `jaxad.nn.conv`).
"""

import math
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxad._utils.random import uniform_like
from jaxad.nn import layers as nn
from jaxad.nn.conv import conv
from jaxad.nn.layers import Moments
from jaxad.nn.resampling import doubling_conv, halving_conv
from jaxad.types import Array, Key, Params

SAMPLER_WIDTHS, SAMPLER_DENSE = (16, 32, 32, 64, 64), 256
ENCODER = ((4, 64), (3, 64), (4, 128), (3, 128), (4, 256), (3, 128), (3, 64))  # (kernel, channels); 4 halves
DECODER = ((3, 128), (3, 256), (4, 256), (3, 128), (4, 128), (3, 64))  # (kernel, channels); 4 doubles
SHORTCUT_FROM, SHORTCUT_TO = 4, 2  # the output of ENCODER[4] joins the input of DECODER[2]
PREDICTOR_WIDTHS, DILATIONS = (32, 16, 8, 4), (1, 2, 4, 8)
HALVINGS = 3  # of the encoder: the side of a patch is a multiple of 8
LEAK = 0.2  # slope of LeakyReLU


def scaled(width: int, multiplier: float) -> int:
    """A number of channels, at least 1."""
    return max(1, round(width * multiplier))


# ---- sampler ---------------------------------------------------------------------------------------------------


def init_sampler(key: Key, window_shape: tuple[int, int, int], actions: int, multiplier: float = 1.0) -> Params:
    """Weights of the policy for windows [H, W, C]: {"convs": [...], "dense1", "dense2"}.

    The last layer starts at 0: all actions are equally likely.
    """
    height, width, channels = window_shape
    widths = [scaled(w, multiplier) for w in SAMPLER_WIDTHS]
    convs = [
        {**_normed(3, before, after), "bias": jnp.zeros(after)} for before, after in zip([channels, *widths], widths)
    ]
    height, width = (-(-n // 2 ** len(widths)) for n in (height, width))
    hidden = scaled(SAMPLER_DENSE, multiplier)
    shapes = {"convs": convs, "dense1": _dense(height * width * widths[-1], hidden)}
    last = {"kernel": jnp.zeros((hidden, actions)), "bias": jnp.zeros(actions)}
    return {**_draw(key, shapes), "dense2": last}


def act(params: Params, windows: Array) -> Array:
    """Logits [B, actions] of windows [B, H, W, C]; each window by itself."""
    chex.assert_rank(windows, 4)
    for layer in params["convs"]:
        windows = nn.activate(half_conv3(windows, layer["kernel"]), "relu", None, layer["bias"])
        windows = nn.activate(nn.normalise(windows, "instance"), "linear", layer["scale"], layer["offset"])
    features = windows.reshape(windows.shape[0], -1)
    for name, activation in (("dense1", jax.nn.relu), ("dense2", lambda x: x)):
        features = activation(features @ params[name]["kernel"] + params[name]["bias"][None])
    return features


# ---- autoencoder -----------------------------------------------------------------------------------------------


def init_autoencoder(key: Key, patch_shape: tuple[int, int, int], code: int, multiplier: float = 1.0) -> Params:
    """Weights for patches [S, S, C], S a multiple of 8, and codes of length `code`.

    {"encoder": [...], "code", "spread", "decoder": [...], "last"}: "code" is Conv 8, "spread" Deconv 1, "last" Deconv 8
    """
    check_patch(patch_shape)
    side, channels = patch_shape[0] // 2**HALVINGS, patch_shape[2]
    widths = [scaled(width, multiplier) for _, width in ENCODER]
    encoder = [_normed(size, before, after) for (size, _), before, after in zip(ENCODER, [channels, *widths], widths)]
    decoder, before = [], widths[-1]
    for index, (size, width) in enumerate(DECODER):
        before += widths[SHORTCUT_FROM] if index == SHORTCUT_TO else 0
        decoder.append(_normed(size, before, scaled(width, multiplier)))
        before = scaled(width, multiplier)
    shapes = {
        "encoder": encoder,
        "code": {"kernel": _shape(side, side, widths[-1], code), "bias": jnp.zeros(code)},
        "spread": _normed(side, code, widths[-1]),
        "decoder": decoder,
        "last": {"kernel": _shape(4, 4, before, channels), "bias": jnp.zeros(channels)},
    }
    return _draw(key, shapes)


def check_patch(patch_shape: tuple[int, ...]) -> None:
    """Raise ValueError for patches [H, W, C] that the autoencoder does not take."""
    height, width = patch_shape[:2]
    if height != width or height % 2**HALVINGS:
        raise ValueError(f"patches are {height}x{width}; the autoencoder takes squares of a multiple of 8 pixels")


def reconstruct(params: Params, patches: Array) -> Array:
    """What becomes of patches [B, S, S, C] on the way through their codes: the same shape, unbounded values."""
    chex.assert_rank(patches, 4)
    images, kept = patches, None
    for index, layer in enumerate(params["encoder"]):
        images = _normalised(_conv_or_half(images, layer["kernel"]), layer)
        kept = images if index == SHORTCUT_FROM else kept
    shape = images.shape
    kernel = params["code"]["kernel"]
    codes = images.reshape(shape[0], -1) @ kernel.reshape(-1, kernel.shape[-1]) + params["code"]["bias"][None]
    kernel = params["spread"]["kernel"]  # [S / 8, S / 8, code, channels], each place its own map of the code
    images = (codes @ kernel.transpose(2, 0, 1, 3).reshape(codes.shape[1], -1)).reshape(shape)
    images = _normalised(images, params["spread"])
    for index, layer in enumerate(params["decoder"]):
        images = jnp.concatenate([images, kept], -1) if index == SHORTCUT_TO else images
        images = _normalised(_conv_or_double(images, layer["kernel"]), layer)
    return nn.activate(doubling_conv(images, params["last"]["kernel"]), "linear", None, params["last"]["bias"])


# ---- predictor -------------------------------------------------------------------------------------------------


class Prediction(NamedTuple):
    """What the predictor says of pixels."""

    logits: Array  # [B, H, W], above 0 anomalous
    moments: tuple[Moments, ...]  # of every normalisation, in order; those of the batch unless others were given


def init_predictor(key: Key, length: int, multiplier: float = 1.0) -> Params:
    """Weights for loss profiles of `length`: {"convs": [...], "last"}."""
    widths = [scaled(width, multiplier) for width in PREDICTOR_WIDTHS]
    convs = [_normed(3, before, after) for before, after in zip([length, *widths], widths)]
    return _draw(key, {"convs": convs, "last": {"kernel": _shape(1, 1, widths[-1], 1), "bias": jnp.zeros(1)}})


def init_moments(params: Params) -> tuple[Moments, ...]:
    """Mean 0 and variance 1 of every normalisation of the predictor, as running averages start."""
    sizes = [layer["kernel"].shape[-1] for layer in params["convs"]]
    return tuple(Moments(jnp.zeros(size), jnp.ones(size)) for size in sizes)


def predict(params: Params, profiles: Array, moments: tuple[Moments, ...] | None = None) -> Prediction:
    """Logits of pixels from normalised loss profiles [B, H, W, length]; `moments` are frozen statistics."""
    chex.assert_rank(profiles, 4)
    images, seen = profiles, []
    for index, (layer, dilation) in enumerate(zip(params["convs"], DILATIONS)):
        images = dilated_conv(images, layer["kernel"], dilation)
        frozen = None if moments is None else moments[index]
        seen.append(nn.batch_moments(jax.lax.stop_gradient(images)) if frozen is None else frozen)
        images = _normalised(images, layer, frozen)
    images = nn.activate(conv(images, params["last"]["kernel"]), "linear", None, params["last"]["bias"])
    return Prediction(images[..., 0], tuple(seen))


# ---- convolutions ----------------------------------------------------------------------------------------------


def half_conv3(images: Array, kernel: Array) -> Array:
    """Cross-correlation with a 3x3 kernel, stride 2 and padding 1: [B, H, W, I] -> [B, ceil(H/2), ceil(W/2), O]."""
    _, height, width, _ = images.shape
    # An odd edge gets a row of the padding that is there anyway; the fourth tap of `halving_conv` is 0.
    images = jnp.pad(images, [(0, 0), (0, height % 2), (0, width % 2), (0, 0)])
    return halving_conv(images, jnp.pad(kernel, [(0, 1), (0, 1), (0, 0), (0, 0)]))


def dilated_conv(images: Array, kernel: Array, dilation: int) -> Array:
    """Cross-correlation with stride 1, taps `dilation` apart and output as large as the input: [B, H, W, I] -> O.

    Pixels `dilation` apart see only each other: every such set is an image of its own for a dense convolution.
    """
    if dilation == 1:
        return conv(images, kernel)
    batch, height, width, channels = images.shape
    rows, columns = -(-height // dilation), -(-width // dilation)
    padding = [(0, 0), (0, rows * dilation - height), (0, columns * dilation - width), (0, 0)]
    sets = jnp.pad(images, padding).reshape(batch, rows, dilation, columns, dilation, channels)
    sets = sets.transpose(2, 4, 0, 1, 3, 5).reshape(-1, rows, columns, channels)
    sets = conv(sets, kernel).reshape(dilation, dilation, batch, rows, columns, -1).transpose(2, 3, 0, 4, 1, 5)
    return sets.reshape(batch, rows * dilation, columns * dilation, -1)[:, :height, :width]


def _conv_or_half(images: Array, kernel: Array) -> Array:
    return halving_conv(images, kernel) if kernel.shape[0] == 4 else conv(images, kernel)


def _conv_or_double(images: Array, kernel: Array) -> Array:
    # A transposed convolution with stride 1 is a convolution; its kernel is stored as one.
    return doubling_conv(images, kernel) if kernel.shape[0] == 4 else conv(images, kernel)


# ---- pieces ----------------------------------------------------------------------------------------------------


def _normalised(images: Array, layer: Params, moments: Moments | None = None) -> Array:
    images = nn.normalise(images, "batch", moments)
    return jax.nn.leaky_relu(nn.activate(images, "linear", layer["scale"], layer["offset"]), LEAK)


def _shape(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _normed(size: int, before: int, after: int) -> dict[str, Any]:
    return {"kernel": _shape(size, size, before, after), "scale": jnp.ones(after), "offset": jnp.zeros(after)}


def _dense(before: int, after: int) -> dict[str, Any]:
    return {"kernel": _shape(before, after), "bias": jnp.zeros(after)}


def _draw(key: Key, tree: Any) -> Params:
    """Draw all kernels of a tree, uniform as Glorot & Bengio (2010) have it, in one draw."""
    leaves, structure = jax.tree.flatten(tree)
    wanted = [leaf for leaf in leaves if isinstance(leaf, jax.ShapeDtypeStruct)]
    drawn = iter(uniform_like(key, wanted, -1.0, 1.0))

    def limit(shape: tuple[int, ...]) -> float:
        return math.sqrt(6 / (math.prod(shape[:-2]) * (shape[-2] + shape[-1])))

    leaves = [limit(leaf.shape) * next(drawn) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf for leaf in leaves]
    return jax.tree.unflatten(structure, leaves)
