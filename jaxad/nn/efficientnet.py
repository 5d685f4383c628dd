"""EfficientNet-lite0 (Tan & Le 2019; the lite variants: no squeeze-and-excitation, ReLU6), forward only.

    stem   conv3 stride 2 to 32 channels
    blocks 16 inverted residual blocks: conv1 up, depthwise conv, conv1 down, plus the input where shapes agree
    head   conv1 to 1280, mean over pixels, dense to the 1000 classes of ImageNet

Batch normalisation is folded into the convolutions. Padding is TensorFlow's "SAME", as in training.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

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


def shapes(blocks: int = len(BLOCKS)) -> Params:
    """Shapes of the weights of stem and first blocks: {"stem", "blocks": [{"up", "depth", "down"}, ...]}."""

    def conv(*shape: int) -> Params:
        wanted = {"kernel": shape, "offset": shape[-1:]}
        return {name: jax.ShapeDtypeStruct(size, jnp.float32) for name, size in wanted.items()}

    before, params = STEM, {"stem": conv(3, 3, 3, STEM), "blocks": []}
    for index, block in enumerate(BLOCKS[:blocks]):
        inner = before * (EXPANSION if index else 1)
        up = {"up": conv(1, 1, before, inner)} if index else {}
        depth = conv(block.kernel, block.kernel, 1, inner)
        params["blocks"].append(up | {"depth": depth, "down": conv(1, 1, inner, block.channels)})
        before = block.channels
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
        return {"kernel": kernel * scale, "offset": bias - mean * scale}

    try:
        params = {"stem": folded("_conv_stem", "_bn0"), "blocks": []}
        for index in range(blocks):
            name = f"_blocks.{index}"
            up = {"up": folded(f"{name}._expand_conv", f"{name}._bn0")} if index else {}
            depth = folded(f"{name}._depthwise_conv", f"{name}._bn1")
            down = folded(f"{name}._project_conv", f"{name}._bn2")
            params["blocks"].append(up | {"depth": depth, "down": down})
        if jax.tree.map(np.shape, params) != jax.tree.map(lambda leaf: leaf.shape, shapes(blocks)):
            raise ValueError("found other convolutions")
    except KeyError as error:
        raise ValueError(f"there is no {error.args[0]} among the weights; give those of EfficientNet-lite0") from error
    except ValueError as error:  # also of arrays that cannot be multiplied
        raise ValueError(f"the weights are not those of EfficientNet-lite0 ({error}); give another file") from error
    if blocks == len(BLOCKS):
        params["head"] = folded("_conv_head", "_bn1")
        params["dense"] = {"kernel": arrays["_fc.weight"].T, "offset": arrays["_fc.bias"]}
    return params


def stages(params: Params, images: Array, after: Sequence[int]) -> list[Array]:
    """What comes out of some blocks: [B, H, W, 3] in [0, 1] -> [B, h, w, F] each.

    Args:
      params: of at least so many blocks.
      after: numbers of blocks, ascending, from 0.
    """
    chex.assert_rank(images, 4)
    chex.assert_axis_dimension(images, 3, 3)
    images = jax.nn.relu6(_conv((images * 255 - 127) / 128, params["stem"], 2))
    found = []
    for index, (block, weights) in enumerate(zip(BLOCKS[: after[-1] + 1], params["blocks"])):
        inner = jax.nn.relu6(_conv(images, weights["up"])) if "up" in weights else images
        inner = jax.nn.relu6(_conv(inner, weights["depth"], block.stride, groups=inner.shape[-1]))
        inner = _conv(inner, weights["down"])
        same = block.stride == 1 and inner.shape == images.shape
        images = images + inner if same else inner
        if index in after:
            found.append(images)
    return found


def classify(params: Params, images: Array) -> Array:
    """Logits [B, 1000] of images [B, H, W, 3] in [0, 1], best of 224x224."""
    return head(params, *stages(params, images, [len(BLOCKS) - 1]))


def head(params: Params, last: Array) -> Array:
    """Logits [B, 1000] of the output [B, h, w, 320] of the last block."""
    chex.assert_rank(last, 4)
    pooled = jnp.mean(jax.nn.relu6(_conv(last, params["head"])), (1, 2))
    return pooled @ params["dense"]["kernel"] + params["dense"]["offset"][None]


def _conv(images: Array, weights: Params, stride: int = 1, groups: int = 1) -> Array:
    images = lax.conv_general_dilated(
        images,
        weights["kernel"],
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )
    return images + weights["offset"][None, None, None]
