"""Features of patches: what a fixed network says of each place of an image and its surroundings.

    random               two or more convolutions with random weights, of the images' own size and channels
    efficientnet_lite0   stages 28x28x40 and 14x14x112 (of 224x224 images) of a network trained on ImageNet

As in PatchCore (Roth et al., CVPR 2022, Eqs. 2 and 3) every place is averaged with its neighbours, 3x3, and coarser
stages are enlarged to the finest and put beside it. Random features need no weights, and are much weaker.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxad._utils.random import normal_like
from jaxad.nn import efficientnet, pretrained
from jaxad.nn import layers as nn
from jaxad.nn.conv import conv
from jaxad.types import Array, Key, Params

BACKBONES = ("random", "efficientnet_lite0")
STAGES = (4, 10)  # blocks of EfficientNet whose output is used
SMALLEST = 32  # pixels of a side that make sense to EfficientNet: one place of its coarsest stage used, and more


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """Which features."""

    backbone: Literal["random", "efficientnet_lite0"] = "random"
    """The network."""
    side: int | None = None
    """Images are first resized to squares of this side; None leaves them. EfficientNet was trained on 224."""
    width: int = 32
    """Channels of the first random convolution; each further one has twice as many."""
    levels: int = 2
    """Random convolutions, each followed by halving the image."""

    def check(self) -> None:
        """Raise ValueError for values out of range."""
        if self.backbone not in BACKBONES:
            raise ValueError(f"backbone is {self.backbone!r}; choose one of {', '.join(BACKBONES)}")
        for name in ("side", "width", "levels"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; the least is 1")


class Features(NamedTuple):
    """A network of patch features."""

    init: Callable[[Key, Array], Params]  # (key, images [B, H, W, C]) -> params, never trained
    apply: Callable[[Params, Array], Array]  # (params, images [B, H, W, C] in [0, 1]) -> [B, h, w, F]


def make_features(config: FeatureConfig) -> Features:
    """The features of a config. Raises ValueError, in `init`, for weights or images that are not to be had."""
    config.check()

    def init(key: Key, images: Array) -> Params:
        images = _resized(images, config.side)
        if config.backbone == "random":
            return _draw(key, config, images.shape[1:])
        if min(images.shape[1:3]) < SMALLEST:
            size = "x".join(str(side) for side in images.shape[1:3])
            raise ValueError(f"images are {size}; {config.backbone} needs {SMALLEST}: set side to 224, or less")
        if images.shape[3] not in (1, 3):
            raise ValueError(f"images have {images.shape[3]} channels; {config.backbone} takes 1 or 3: use random ones")
        pretrained.find(config.backbone)
        # Not a constant of the program: a saved detector brings its weights along, and is loaded without the file.
        blocks = STAGES[-1] + 1
        return jax.pure_callback(lambda: _loaded(config.backbone, blocks), efficientnet.shapes(blocks))

    def apply(params: Params, images: Array) -> Array:
        chex.assert_rank(images, 4)
        images = _resized(images, config.side)
        if config.backbone == "random":
            return _beside(_random_stages(params, images))
        if images.shape[3] == 1:
            images = jnp.repeat(images, 3, 3)
        return _beside(efficientnet.stages(params, images, STAGES))

    return Features(init, apply)


def _draw(key: Key, config: FeatureConfig, image_shape: tuple[int, ...]) -> Params:
    """Kernels N(0, 2 / fan-in), which keep the size of what passes them (He et al. 2015)."""
    if min(image_shape[:2]) < 2**config.levels:
        size = "x".join(str(side) for side in image_shape[:2])
        raise ValueError(f"images are {size}; {config.levels} levels halve them to nothing: set levels lower")
    channels = [image_shape[2], *(config.width * 2**level for level in range(config.levels))]
    wanted = [jax.ShapeDtypeStruct((3, 3, a, b), jnp.float32) for a, b in itertools.pairwise(channels)]
    return [kernel * np.sqrt(2 / np.prod(kernel.shape[:3])).astype(np.float32) for kernel in normal_like(key, wanted)]


def _random_stages(params: Params, images: Array) -> list[Array]:
    found = []
    for kernel in params:
        images = nn.pool(jax.nn.relu(conv(images, kernel)), "average", 2)
        found.append(images)
    return found


def _beside(stages: list[Array]) -> Array:
    """Stages [B, h, w, F] of several sizes as one of the first's size."""
    shape = stages[0].shape[:3]
    enlarged = [jax.image.resize(_smoothed(stage), (*shape, stage.shape[3]), "linear") for stage in stages]
    return jnp.concatenate(enlarged, 3)


def _smoothed(images: Array) -> Array:
    """Mean over 3x3 places, of those that there are."""

    def total(images: Array) -> Array:
        return lax.reduce_window(images, 0.0, lax.add, (1, 3, 3, 1), (1, 1, 1, 1), "SAME")

    return total(images) / total(jnp.ones((1, *images.shape[1:3], 1)))


def _resized(images: Array, side: int | None) -> Array:
    if side is None or images.shape[1:3] == (side, side):
        return images
    return jax.image.resize(images, (images.shape[0], side, side, images.shape[3]), "linear", antialias=True)


def _loaded(backbone: str, blocks: int) -> Any:
    params = efficientnet.from_state_dict(pretrained.load(backbone), blocks)
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params)
