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

from collections.abc import Callable, Sequence
from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp

from jaxad.nn import layers
from jaxad.nn.convolution import Conv, conv_transpose
from jaxad.nn.initializers import normal
from jaxad.nn.normalization import MOMENTUM, BatchNorm
from jaxad.types import Array

WIDTH = 32  # channels of the first level
LEVELS = 5
KERNEL_INIT, SCALE_INIT = normal(0.02), normal(0.02, 1.0)


def check_shape(image_shape: Sequence[int], levels: int = LEVELS) -> None:
    """ValueError for images [H, W, C] that cannot be pooled through all levels."""
    step = 2 ** (levels - 1)
    height, width = image_shape[:2]
    if height % step or width % step:
        raise ValueError(f"images are {height}x{width}; {levels} levels need multiples of {step}: resize, or fewer")


class Node(nn.Module):
    """X(i, j): two convolutions, of what comes from the same level and from the one below.

    Attributes:
      width: channels of the result.
      batch_norm, momentum, dtype: as those of `UNet`.
    """

    width: int
    batch_norm: bool = True
    momentum: float = MOMENTUM
    dtype: str | None = None

    @nn.compact
    def __call__(
        self, skips: Sequence[Array], below: Array | None = None, *, train: bool, frozen: Array | None = None
    ) -> Array:
        """Features [B, H, W, width].

        Args:
          skips: features [B, H, W, C] of the same level, at least one.
          below: features [B, H/2, W/2, C'] of the next level; None in column 0.
          train, frozen: as those of `UNet`.
        """
        options: dict[str, Any] = {"kernel_init": KERNEL_INIT, "dtype": self.dtype}
        if below is not None:
            skips = [*skips, conv_transpose(self.width, 2, name="up", **options)(below)]
        features = jnp.concatenate(skips, -1)
        for index in range(2):
            conv = Conv(self.width, (3, 3), use_bias=not self.batch_norm, name=f"conv{index}", **options)
            features = conv(features)
            if self.batch_norm:
                norm = BatchNorm(not train, self.momentum, scale_init=SCALE_INIT, name=f"norm{index}")
                features = norm(features, frozen=frozen)
            features = nn.relu(features)
        return features


class UNet(nn.Module):
    """U-Net, or UNet++ if dense.

    Attributes:
      multiplier: of all numbers of channels; 1 is as above.
      levels: resolutions; sides of images are multiples of 2^(levels - 1).
      dense: UNet++.
      batch_norm: whether nodes normalise.
      outputs: channels of the result; by default those of the images.
      activation: of the result, such as `jnp.tanh`; none by default.
      momentum: of running averages, see `normalization.BatchNorm`.
      dtype: number type of products of convolutions, such as "bfloat16"; all else is float32.

    Example:
      >>> import jax
      >>> from jaxad.nn.network import make_network
      >>> images = jnp.ones((2, 8, 8, 3))
      >>> network = make_network(UNet(multiplier=0.1, levels=3, dense=False, outputs=1))
      >>> variables = network.init(jax.random.key(0), images)
      >>> network.apply(variables, images).shape
      (2, 8, 8, 1)
    """

    multiplier: float = 1.0
    levels: int = LEVELS
    dense: bool = True
    batch_norm: bool = True
    outputs: int | None = None
    activation: Callable[[Array], Array] | None = None
    momentum: float = MOMENTUM
    dtype: str | None = None

    @nn.compact
    def __call__(self, images: Array, *, train: bool, frozen: Array | None = None) -> Array:
        """Maps [B, H, W, outputs] of images [B, H, W, C].

        Args:
          train: whether normalisation is by the batch's own statistics.
          frozen: [B] booleans, the images for which it is not, see `normalization.BatchNorm`.

        Raises:
          ValueError: sides that cannot be halved often enough.
        """
        chex.assert_rank(images, 4)
        check_shape(images.shape[1:], self.levels)
        made = {}

        def make(i: int, j: int, *inputs: Any) -> None:
            width = scaled(WIDTH * 2**i, self.multiplier)
            node = Node(width, self.batch_norm, self.momentum, self.dtype, name=f"node_{i}_{j}")
            made[i, j] = node(*inputs, train=train, frozen=frozen)

        make(0, 0, [images])
        for i in range(1, self.levels):
            make(i, 0, [layers.pool(made[i - 1, 0], "max", 2)])
        for j in range(1, self.levels):
            for i in range(self.levels - j) if self.dense else [self.levels - 1 - j]:
                make(i, j, [made[i, k] for k in range(j if self.dense else 1)], made[i + 1, j - 1])
        outputs = images.shape[-1] if self.outputs is None else self.outputs
        last = Conv(outputs, (1, 1), kernel_init=KERNEL_INIT, dtype=self.dtype, name="out")(made[0, self.levels - 1])
        return last if self.activation is None else self.activation(last)


def scaled(width: int, multiplier: float) -> int:
    """A number of channels, at least 1."""
    return max(1, round(width * multiplier))
