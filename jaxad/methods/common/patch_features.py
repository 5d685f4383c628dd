"""Features of patches: what a fixed network says of each place of an image and its surroundings.

    random               two or more convolutions with random weights, of the images' own size and channels
    efficientnet_lite0   stages 28x28x40 and 14x14x112 (of 224x224 images) of a network trained on ImageNet

As in PatchCore (Roth et al., CVPR 2022, Eqs. 2 and 3) every place is averaged with its neighbours, 3x3, and coarser
stages are enlarged to the finest and put beside it. Random features need no weights, and are much weaker.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxad.nn import efficientnet, layers, pretrained
from jaxad.nn.convolution import Conv
from jaxad.nn.initializers import kaiming_normal
from jaxad.nn.network import make_network
from jaxad.nn.standard import AXES
from jaxad.types import Array, Detector, Key, Network, Params, Stage

BACKBONES = ("random", "efficientnet_lite0")
LEVELS = ("both", "shallow", "deep")
STAGES = (4, 10)  # blocks of EfficientNet whose output is used
SMALLEST = 32  # pixels of a side that make sense to EfficientNet: one place of its coarsest stage used, and more


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """Which features. Made with backbone "auto", it has the best that is on this machine, and its name."""

    backbone: Literal["auto", "random", "efficientnet_lite0"] = "auto"
    """The network: efficientnet_lite0, trained on ImageNet, random, or auto, the first where its weights are here."""
    use: Literal["both", "shallow", "deep"] = "both"
    """Its finest stage (shallow), its coarsest (deep), or all beside each other."""
    standardise: Literal["place", "channel"] = "place"
    """By which mean and deviation of the training images: those of each place, or of all places of a channel."""
    side: int | None = None
    """Images are first resized to squares of this side; None leaves them. EfficientNet was trained on 224."""
    width: int = 32
    """Channels of the first random convolution; each further one has twice as many."""
    levels: int = 2
    """Random convolutions, each followed by halving the image."""

    def __post_init__(self) -> None:
        if self.backbone == "auto":
            # Settled at once: what is saved has to say what it was trained on.
            object.__setattr__(self, "backbone", best_backbone())

    def check(self) -> None:
        """Raise ValueError for values out of range."""
        if self.backbone not in BACKBONES:
            raise ValueError(f"backbone is {self.backbone!r}; choose one of {', '.join(BACKBONES)}")
        if self.use not in LEVELS:
            raise ValueError(f"use is {self.use!r}; choose one of {', '.join(LEVELS)}")
        if self.standardise not in AXES:
            raise ValueError(f"standardise is {self.standardise!r}; choose one of {', '.join(AXES)}")
        for name in ("side", "width", "levels"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; the least is 1")


def best_backbone() -> str:
    """ "efficientnet_lite0" where its weights are on this machine, otherwise "random"."""
    return "efficientnet_lite0" if pretrained.is_there("efficientnet_lite0") else "random"


class RandomConvolutions(nn.Module):
    """Convolutions with random weights, each followed by halving the image: maps [B, h, w, F] of every level.

    Kernels from N(0, 2 / fan-in) keep the size of what passes them (He et al. 2015).

    Attributes:
      width: channels of the first level; each further one has twice as many.
      levels: how many there are.
    """

    width: int
    levels: int

    @nn.compact
    def __call__(self, images: Array, *, train: bool = False) -> list[Array]:
        found = []
        for level in range(self.levels):
            convolve = Conv(self.width * 2**level, (3, 3), use_bias=False, kernel_init=kaiming_normal())
            images = layers.pool(nn.relu(convolve(images)), "average", 2)
            found.append(images)
        return found


def make_features(config: FeatureConfig) -> Network:
    """The features of a config as a network that is never trained.

    Returns:
      init: (key, images [B, H, W, C]) -> params; ValueError for weights or images that are not to be had.
      apply: (params, images [B, H, W, C] in [0, 1]) -> features [B, h, w, F] of all places.
    """
    stage = make_feature_stage(config, None)
    return Network(stage.init, lambda params, images: stage.assemble(stage.outputs(params, images)))


def make_feature_stage(config: FeatureConfig, inner: Detector | None) -> Stage:
    """The features of a config as the fixed first part of a detector, of which `inner` is the rest.

    Configs that differ by `use` and `standardise` alone have stages of one name: the network runs once for all of them.
    """
    config.check()
    random = make_network(RandomConvolutions(config.width, config.levels))
    is_random = config.backbone == "random"

    def init(key: Key, images: Array) -> Params:
        images = _resized(images, config.side)
        size = "x".join(str(side) for side in images.shape[1:3])
        if is_random:
            if min(images.shape[1:3]) < 2**config.levels:
                raise ValueError(f"images are {size}; {config.levels} levels halve them to nothing: set levels lower")
            return random.init(key, images)["params"]
        if min(images.shape[1:3]) < SMALLEST:
            raise ValueError(f"images are {size}; {config.backbone} needs {SMALLEST}: set side to 224, or less")
        if images.shape[3] not in (1, 3):
            raise ValueError(f"images have {images.shape[3]} channels; {config.backbone} takes 1 or 3: use random ones")
        pretrained.find(config.backbone)
        # Not a constant of the program: a saved detector brings its weights along, and is loaded without the file.
        blocks = STAGES[-1] + 1
        return jax.pure_callback(lambda: _loaded(config.backbone, blocks), efficientnet.shapes(blocks))

    def outputs(params: Params, images: Array) -> tuple[Array, ...]:
        chex.assert_rank(images, 4)
        images = _resized(images, config.side)
        if is_random:
            return tuple(random.apply({"params": params}, images))
        if images.shape[3] == 1:
            images = jnp.repeat(images, 3, 3)
        return tuple(efficientnet.stages(params, images, STAGES))

    def assemble(stages: tuple[Array, ...]) -> Array:
        used = {"both": stages, "shallow": stages[:1], "deep": stages[-1:]}[config.use]
        return _beside(used)

    size = f"width {config.width}, levels {config.levels}" if is_random else f"blocks {STAGES}"
    name = f"{config.backbone}, side {config.side}, {size}"
    return Stage(name, init, outputs, assemble, inner, standardise=config.standardise)


def _beside(stages: Sequence[Array]) -> Array:
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
