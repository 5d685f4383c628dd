"""A plain convolutional encoder and its mirror, of which the baselines are made.

    encoder    [conv k, BN, + bias, LeakyReLU, pool 2] for every width; dense                images -> vectors
    decoder    dense; [repeat pixels 2x2, conv k, BN, + bias, LeakyReLU] back again; conv k  vectors -> images

Batch normalisation, which has no scale, and biases may be left out. Images have any size and channels; an odd side is
halved upwards. Convolutions have stride 1: their gradients are the ones that compile well everywhere (see
`jaxad.nn.conv`); where a paper has strides, pooling and repeating take their place.

Statistics of batch normalisation are those of the last batch (momentum 0), which `jaxad.nn.normalization.recalibrated`
makes those of all images.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import chex
import flax.linen as nn

from jaxad.nn import layers
from jaxad.nn.convolution import Conv
from jaxad.nn.initializers import kaiming_normal
from jaxad.nn.normalization import BatchNorm
from jaxad.types import Array


class Encoded(NamedTuple):
    """What the encoder gives."""

    output: Array  # [B, outputs]
    features: Array  # [B, h, w, widths[-1]], the map before the dense layer


class Autoencoded(NamedTuple):
    """What the autoencoder gives."""

    output: Array  # [B, H, W, C], of any size: the last layer is linear
    codes: Array  # [B, d]


class ConvBlock(nn.Module):
    """Convolution, batch normalisation, bias, LeakyReLU, pooling: [B, H, W, I] -> [B, H, W or half, features]."""

    features: int
    kernel: int
    use_bias: bool
    use_norm: bool
    leak: float
    pool: str | None = None

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> Array:
        convolution_bias = self.use_bias and not self.use_norm  # a normalisation would take it away again
        sides = (self.kernel, self.kernel)
        images = Conv(self.features, sides, use_bias=convolution_bias, kernel_init=kaiming_normal())(images)
        if self.use_norm:
            images = BatchNorm(not train, momentum=0.0, use_scale=False, use_bias=self.use_bias)(images)
        if self.pool == "max":  # it may change places with a function that grows, to the bit: a quarter of the work
            return nn.leaky_relu(layers.pool(images, "max", 2), self.leak)
        images = nn.leaky_relu(images, self.leak)
        return layers.pool(images, self.pool, 2) if self.pool else images


class Encoder(nn.Module):
    """Vectors of images [B, H, W, C].

    Attributes:
      widths: channels of the blocks, each of which is followed by halving the images.
      outputs: length of the vectors.
      kernel: side of the convolutions' kernels, odd.
      use_bias: whether anything shifts what passes.
      use_norm: whether blocks have batch normalisation.
      leak: slope of LeakyReLU below 0.
      pool: "average" or "max".
    """

    widths: tuple[int, ...]
    outputs: int
    kernel: int = 3
    use_bias: bool = True
    use_norm: bool = False
    leak: float = 0.2
    pool: str = "average"

    @nn.compact
    def __call__(self, images: Array, *, train: bool = False) -> Encoded:
        chex.assert_rank(images, 4)
        sizes(images.shape[1:], len(self.widths))
        for width in self.widths:
            block = ConvBlock(width, self.kernel, self.use_bias, self.use_norm, self.leak, self.pool)
            images = block(images, train=train)
        dense = nn.Dense(self.outputs, use_bias=self.use_bias, kernel_init=kaiming_normal(1.0))
        return Encoded(dense(images.reshape(len(images), -1)), images)


class Decoder(nn.Module):
    """Images [B, H, W, C] of vectors [B, d], of any size: the last layer is linear.

    Attributes:
      image_shape: (H, W, C).
      widths: those of the encoder, in its order.
      kernel, use_norm, leak: as there.
    """

    image_shape: tuple[int, ...]
    widths: tuple[int, ...]
    kernel: int = 3
    use_norm: bool = False
    leak: float = 0.2

    @nn.compact
    def __call__(self, vectors: Array, *, train: bool = False) -> Array:
        chex.assert_rank(vectors, 2)
        *larger, (height, width) = sizes(self.image_shape, len(self.widths))
        deepest, *inner = (*self.widths[::-1], self.widths[0])
        images = nn.Dense(height * width * deepest, kernel_init=kaiming_normal())(vectors)
        images = nn.leaky_relu(images.reshape(len(vectors), height, width, deepest), self.leak)
        for features, (height, width) in zip(inner, larger[::-1], strict=True):
            images = layers.upsample(images, 2, height, width)
            images = ConvBlock(features, self.kernel, True, self.use_norm, self.leak)(images, train=train)
        return Conv(self.image_shape[2], (self.kernel, self.kernel), kernel_init=kaiming_normal(1.0))(images)


class Autoencoder(nn.Module):
    """An encoder and its mirror, without normalisation: images [B, H, W, C] of themselves.

    Attributes:
      widths: channels of the blocks.
      latent_dim: length of the codes.
    """

    widths: tuple[int, ...]
    latent_dim: int

    @nn.compact
    def __call__(self, images: Array, *, train: bool = False) -> Autoencoded:
        codes = Encoder(self.widths, self.latent_dim, name="encoder")(images, train=train).output
        return Autoencoded(Decoder(images.shape[1:], self.widths, name="decoder")(codes, train=train), codes)


def sizes(image_shape: Sequence[int], levels: int) -> list[tuple[int, int]]:
    """(H, W) of an image [H, W, C], and of its map after each level; ValueError for an image that is too small."""
    height, width = image_shape[:2]
    if min(height, width) < 2**levels:
        raise ValueError(f"images are {height}x{width}; {levels} levels halve them to nothing: give fewer widths")
    found = [(height, width)]
    for _ in range(levels):
        found.append(tuple(-(-side // 2) for side in found[-1]))
    return found


def check_widths(widths: Any) -> None:
    """ValueError unless these are numbers of channels."""
    if not widths or any(not isinstance(width, int) or width < 1 for width in widths):
        raise ValueError(f"widths are {widths}; give the channels of each level, from 1 upwards")
