"""The networks of neural batch sampling (Chu 2020, Tables 4.1 to 4.3), for any patch size and width.

    sampler      [conv3 stride 2, ReLU, norm] x 5; dense, ReLU; dense          windows -> logits of nine actions
    autoencoder  conv encoder to a code and back, one shortcut (Conv5 to Deconv4)   patches -> patches
    predictor    [conv3 dilation 1, 2, 4, 8, BN, LeakyReLU]; conv1             loss profiles -> logits of pixels

Normalisation is batch normalisation in all three tables. Here it means: in the sampler, which acts on one window at a
time, over the pixels of that window, so that the policy that is updated is the one that acted; in the autoencoder
always over the batch at hand, as in the thesis; in the predictor over the batch in training, and by running averages
later. Convolutions that a normalisation follows at once have no bias, which it would cancel.
"""

from typing import NamedTuple

import chex
import flax.linen as nn
import jax.numpy as jnp

from jaxad.methods.nbs.config import NBSConfig
from jaxad.methods.nbs.environment import ACTIONS
from jaxad.nn.convolution import Conv, conv_transpose
from jaxad.nn.initializers import glorot_uniform, uniform
from jaxad.nn.network import make_network
from jaxad.nn.normalization import BatchNorm, InstanceNorm
from jaxad.types import Array, Network

SAMPLER_WIDTHS, SAMPLER_DENSE = (16, 32, 32, 64, 64), 256
ENCODER = ((4, 64), (3, 64), (4, 128), (3, 128), (4, 256), (3, 128), (3, 64))  # (kernel, channels); 4 halves
DECODER = ((3, 128), (3, 256), (4, 256), (3, 128), (4, 128), (3, 64))  # (kernel, channels); 4 doubles
SHORTCUT_FROM, SHORTCUT_TO = 4, 2  # the output of ENCODER[4] joins the input of DECODER[2]
PREDICTOR_WIDTHS, DILATIONS = (32, 16, 8, 4), (1, 2, 4, 8)
HALVINGS = 3  # of the encoder: the side of a patch is a multiple of 8
LEAK = 0.2  # slope of LeakyReLU

GLOROT = glorot_uniform()


def scaled(width: int, multiplier: float) -> int:
    """A number of channels, at least 1."""
    return max(1, round(width * multiplier))


class Sampler(nn.Module):
    """The policy: windows [B, H, W, C] -> logits [B, actions], each window by itself.

    Its last layer starts at 0: all actions are equally likely.
    """

    actions: int = ACTIONS
    width: float = 1.0  # multiplier of the numbers of channels

    @nn.compact
    def __call__(self, windows: Array, *, train: bool = False) -> Array:
        chex.assert_rank(windows, 4)
        for number, width in enumerate(SAMPLER_WIDTHS, 1):
            conv = Conv(
                scaled(width, self.width), (3, 3), strides=2, padding=1, kernel_init=GLOROT, name=f"conv{number}"
            )
            windows = InstanceNorm(name=f"conv{number}_norm")(nn.relu(conv(windows)))
        features = windows.reshape(windows.shape[0], -1)
        features = nn.relu(nn.Dense(scaled(SAMPLER_DENSE, self.width), kernel_init=GLOROT, name="dense1")(features))
        return nn.Dense(self.actions, kernel_init=nn.initializers.zeros, name="dense2")(features)


class Autoencoder(nn.Module):
    """What becomes of patches [B, S, S, C] on the way through their codes: the same shape, unbounded values.

    S is a multiple of 8. There are no running averages: statistics are always those of the batch.
    """

    code: int  # length of a code
    width: float = 1.0

    @nn.compact
    def __call__(self, patches: Array, *, train: bool = False) -> Array:
        chex.assert_rank(patches, 4)
        check_patch(patches.shape[1:])

        def normalised(images: Array, name: str) -> Array:
            images = BatchNorm(track_running_stats=False, name=f"{name}_norm")(images)
            return nn.leaky_relu(images, LEAK)

        images, kept = patches, None
        for index, (size, width) in enumerate(ENCODER):
            name = f"conv{index + 1}"
            options = {"strides": 2, "padding": 1} if size == 4 else {}
            conv = Conv(
                scaled(width, self.width), (size, size), use_bias=False, kernel_init=GLOROT, name=name, **options
            )
            images = normalised(conv(images), name)
            kept = images if index == SHORTCUT_FROM else kept

        batch, side, _, channels = images.shape
        bottleneck = Conv(self.code, (side, side), padding="VALID", kernel_init=GLOROT, name="conv8")
        codes = bottleneck(images)[:, 0, 0]
        # Deconv1, a transposed convolution of 1x1 pixel: each place has its own map of the code.
        limit = (6 / (side**2 * (self.code + channels))) ** 0.5
        spread = nn.Dense(side**2 * channels, use_bias=False, kernel_init=uniform(limit), name="deconv1")
        images = normalised(spread(codes).reshape(batch, side, side, channels), "deconv1")

        for index, (size, width) in enumerate(DECODER):
            name, width = f"deconv{index + 2}", scaled(width, self.width)
            images = jnp.concatenate([images, kept], -1) if index == SHORTCUT_TO else images
            options = {"use_bias": False, "kernel_init": GLOROT, "name": name}
            # A transposed convolution with stride 1 is a convolution.
            deconv = conv_transpose(width, 4, **options) if size == 4 else Conv(width, (3, 3), **options)
            images = normalised(deconv(images), name)
        return conv_transpose(patches.shape[-1], 4, kernel_init=GLOROT, name="deconv8")(images)


def check_patch(patch_shape: tuple[int, ...]) -> None:
    """Raise ValueError for patches [H, W, C] that the autoencoder does not take."""
    height, width = patch_shape[:2]
    if height != width or height % 2**HALVINGS:
        raise ValueError(f"patches are {height}x{width}; the autoencoder takes squares of a multiple of 8 pixels")


class Predictor(nn.Module):
    """Logits [B, H, W] of pixels, above 0 anomalous, from normalised loss profiles [B, H, W, length]."""

    width: float = 1.0

    @nn.compact
    def __call__(self, profiles: Array, *, train: bool = False) -> Array:
        chex.assert_rank(profiles, 4)
        images = profiles
        for number, (width, dilation) in enumerate(zip(PREDICTOR_WIDTHS, DILATIONS, strict=True), 1):
            options = {"kernel_dilation": dilation, "use_bias": False, "kernel_init": GLOROT, "name": f"conv{number}"}
            images = Conv(scaled(width, self.width), (3, 3), **options)(images)
            images = nn.leaky_relu(BatchNorm(not train, name=f"conv{number}_norm")(images), LEAK)
        return Conv(1, (1, 1), kernel_init=GLOROT, name="conv5")(images)[..., 0]


class Networks(NamedTuple):
    """The three networks, each as pure functions of its variables {"params", perhaps "batch_stats"}."""

    sampler: Network
    autoencoder: Network
    predictor: Network


def make_networks(config: NBSConfig) -> Networks:
    """The networks of a config."""
    return Networks(
        make_network(Sampler(ACTIONS, config.sampler_width)),
        make_network(Autoencoder(config.code, config.width)),
        make_network(Predictor(config.predictor_width)),
    )
