"""EfficientNet-lite0 (Tan & Le 2019; the lite variants: no squeeze-and-excitation, ReLU6), forward only.

    stem   conv3 stride 2 to 32 channels
    blocks 16 inverted residual blocks: conv1 up, depthwise conv, conv1 down, plus the input where shapes agree
    head   conv1 to 1280, mean over pixels, dense to the 1000 classes of ImageNet

Batch normalisation is folded into the convolutions. Padding is TensorFlow's "SAME", as in training.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxad.nn.convolution import Conv
from jaxad.nn.network import make_network
from jaxad.types import Array, Params

BN_EPSILON = 1e-3
STEM, HEAD, CLASSES, EXPANSION = 32, 1280, 1000, 6


class Block(NamedTuple):
    """One inverted residual block."""

    kernel: int
    stride: int
    channels: int


BLOCKS = (
    Block(3, 1, 16),
    *(Block(3, 2, 24), Block(3, 1, 24)),
    *(Block(5, 2, 40), Block(5, 1, 40)),
    *(Block(3, 2, 80), Block(3, 1, 80), Block(3, 1, 80)),
    *(Block(5, 1, 112), Block(5, 1, 112), Block(5, 1, 112)),
    *(Block(5, 2, 192), Block(5, 1, 192), Block(5, 1, 192), Block(5, 1, 192)),
    Block(3, 1, 320),
)


class InvertedResidual(nn.Module):
    """conv1 up, depthwise conv, conv1 down, plus the input where shapes agree (Sandler et al. 2018).

    Attributes:
      block: kernel, stride and channels.
      expansion: how many times more channels the middle has; 1 for no conv1 up.
    """

    block: Block
    expansion: int

    @nn.compact
    def __call__(self, images: Array) -> Array:
        kernel, stride, channels = self.block
        inner, width = images, images.shape[-1] * self.expansion
        if self.expansion > 1:
            inner = nn.relu6(Conv(width, (1, 1), name="up")(inner))
        depthwise = Conv(width, (kernel, kernel), stride, feature_group_count=width, name="depth")
        inner = Conv(channels, (1, 1), name="down")(nn.relu6(depthwise(inner)))
        return images + inner if inner.shape == images.shape else inner


class EfficientNetLite0(nn.Module):
    """The network of images [B, H, W, 3] in [0, 1]; batch normalisation is part of the convolutions.

    Attributes:
      blocks: how many of `BLOCKS` there are, from the first on.
    """

    blocks: int = len(BLOCKS)

    def setup(self) -> None:
        self.stem = Conv(STEM, (3, 3), 2)
        self.block = [
            InvertedResidual(block, EXPANSION if index else 1) for index, block in enumerate(BLOCKS[: self.blocks])
        ]
        self.head = Conv(HEAD, (1, 1))
        self.dense = nn.Dense(CLASSES)

    def stages(self, images: Array, *, train: bool = False) -> list[Array]:
        """What comes out of each block: [B, h, w, F]."""
        chex.assert_rank(images, 4)
        chex.assert_axis_dimension(images, 3, 3)
        images = nn.relu6(self.stem((images * 255 - 127) / 128))
        found = []
        for block in self.block:
            images = block(images)
            found.append(images)
        return found

    def classify(self, last: Array, *, train: bool = False) -> Array:
        """Logits [B, 1000] of the output [B, h, w, 320] of the last block."""
        chex.assert_rank(last, 4)
        return self.dense(jnp.mean(nn.relu6(self.head(last)), (1, 2)))

    def __call__(self, images: Array, *, train: bool = False) -> Array:
        """Logits [B, 1000]."""
        return self.classify(self.stages(images)[-1])


def shapes(blocks: int = len(BLOCKS)) -> Params:
    """Shapes of the params of stem and first blocks, as Flax has them, which takes a second to trace them."""

    def conv(kernel: int, inner: int, outer: int) -> Params:
        kinds = {"kernel": (kernel, kernel, inner, outer), "bias": (outer,)}
        return {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in kinds.items()}

    params, channels = {"stem": conv(3, 3, STEM)}, STEM
    for index, block in enumerate(BLOCKS[:blocks]):
        width = channels * EXPANSION if index else channels
        up = {"up": conv(1, channels, width)} if index else {}
        params[f"block_{index}"] = up | {"depth": conv(block.kernel, 1, width), "down": conv(1, width, block.channels)}
        channels = block.channels
    return params


def from_state_dict(arrays: Mapping[str, np.ndarray], blocks: int = len(BLOCKS)) -> Params:
    """Weights, as `shapes` has them, from those of the PyTorch file; with all blocks also "head" and "dense".

    Raises ValueError for arrays of another network.
    """

    def folded(conv: str, norm: str) -> Params:
        kernel = arrays[f"{conv}.weight"].transpose(2, 3, 1, 0)
        weight, bias, mean, variance = (
            arrays[f"{norm}.{name}"] for name in ("weight", "bias", "running_mean", "running_var")
        )
        scale = weight / np.sqrt(variance + BN_EPSILON)
        return {"kernel": kernel * scale, "bias": bias - mean * scale}

    try:
        params = {"stem": folded("_conv_stem", "_bn0")}
        for index in range(blocks):
            name = f"_blocks.{index}"
            up = {"up": folded(f"{name}._expand_conv", f"{name}._bn0")} if index else {}
            depth = folded(f"{name}._depthwise_conv", f"{name}._bn1")
            down = folded(f"{name}._project_conv", f"{name}._bn2")
            params[f"block_{index}"] = up | {"depth": depth, "down": down}
        if jax.tree.map(np.shape, params) != jax.tree.map(lambda leaf: leaf.shape, shapes(blocks)):
            raise ValueError("found other convolutions")
    except KeyError as error:
        raise ValueError(f"there is no {error.args[0]} among the weights; give those of EfficientNet-lite0") from error
    except ValueError as error:  # also of arrays that cannot be multiplied
        raise ValueError(f"the weights are not those of EfficientNet-lite0 ({error}); give another file") from error
    if blocks == len(BLOCKS):
        params["head"] = folded("_conv_head", "_bn1")
        params["dense"] = {"kernel": arrays["_fc.weight"].T, "bias": arrays["_fc.bias"]}
    return params


def stages(params: Params, images: Array, after: Sequence[int]) -> list[Array]:
    """What comes out of some blocks: [B, H, W, 3] in [0, 1] -> [B, h, w, F] each.

    Args:
      params: of at least so many blocks.
      after: numbers of blocks, ascending, from 0.
    """
    found = make_network(EfficientNetLite0(after[-1] + 1)).apply({"params": params}, images, method="stages")
    return [found[index] for index in after]


def classify(params: Params, images: Array) -> Array:
    """Logits [B, 1000] of images [B, H, W, 3] in [0, 1], best of 224x224."""
    return make_network(EfficientNetLite0()).apply({"params": params}, images)


def head(params: Params, last: Array) -> Array:
    """Logits [B, 1000] of the output [B, h, w, 320] of the last block."""
    return make_network(EfficientNetLite0()).apply({"params": params}, last, method="classify")
