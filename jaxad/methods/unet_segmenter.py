"""A U-Net that is shown where defects are (Ronneberger et al. 2015): the supervised baseline of few-label segmentation.

    s(x) = max over pixels of m(x),   m(x) = U-Net(x), logits of "this pixel is anomalous"
    L    = mean cross entropy + w (1 - Dice),   Dice = (2 sum p y + 1) / (sum p + sum y + 1) over all pixels of a batch

It needs a mask for every image it trains on: `Batch.masks`, 1 = anomalous pixel. A handful will do (Chu 2020 has five),
as every step turns, flips, shifts and shears them anew, images and masks alike. What no mask shows it does not learn to
find. The paper has cross entropy alone, its pixels weighted; the overlap (Milletari et al. 2016) keeps defects of a few
pixels from being outvoted, and wants no weights. A pixel is more likely anomalous than not where its logit is above 0.

Use it where the defects to come look like a few that have masks.
"""

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from jaxad._utils.validate import check_multipliers
from jaxad.methods.registry import detector
from jaxad.nn.network import make_network
from jaxad.nn.unet import UNet
from jaxad.training.augment import random_transforms, warp
from jaxad.types import Array, Batch, Detector, Key, Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class UNetSegmenterConfig:
    """What is trained, and how."""

    labels: ClassVar[str] = "masks"  # what it is taught by, see `jaxad.types.Detector`

    width: float = 0.5
    """Channels, as a share of 32 at the first level and twice as many at each next one (the paper: 2)."""
    levels: int = 4
    """Resolutions (the paper: 5); sides of images are multiples of 2^(levels - 1)."""
    overlap_weight: float = 1.0
    """Weight w of the overlap in the loss; 0 for cross entropy alone."""
    augment: bool = True
    """Turn, flip, shift and shear images and masks at random in every step."""
    steps: int = 1000
    """Training steps."""
    learning_rate: float = 1e-3
    """Learning rate of Adam, falling to 0 along a cosine over the training; the paper has no schedule that a short
    training could be a part of."""

    def __post_init__(self) -> None:
        for name in ("levels", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; the least is 1")
        check_multipliers(width=self.width)
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate is {self.learning_rate}; give a number above 0")
        if not 0 <= self.overlap_weight < math.inf:
            raise ValueError(f"overlap_weight is {self.overlap_weight}; give a number from 0 upwards")


class UNetSegmenterState(NamedTuple):
    """All that training and scoring need."""

    variables: Params  # {"params", "batch_stats"}: weights, and averages of every normalisation, for scoring
    opt_state: optax.OptState


class UNetSegmenterInfo(NamedTuple):
    """One training step: scalars."""

    loss: Array
    cross_entropy: Array  # mean over pixels
    overlap: Array  # Dice, in (0, 1]


TINY = UNetSegmenterConfig(width=0.5, levels=2, steps=30, learning_rate=1e-2)


@detector(
    "unet_segmenter",
    "A U-Net that is taught masks of defects (Ronneberger et al., MICCAI 2015).",
    config=UNetSegmenterConfig,
    tiny=TINY,
)
def unet_segmenter(config: UNetSegmenterConfig | None = None, **fields: Any) -> Detector:
    """The detector of a config, of its fields (`unet_segmenter(width=0.25)`), or of a config with changed fields.

    `init` raises ValueError for images that cannot be halved often enough, `step` for a batch without masks.
    `calibrate` changes nothing: normalisation is by running averages of the training batches.
    """
    config = dataclasses.replace(config or UNetSegmenterConfig(), **fields)
    network = make_network(UNet(multiplier=config.width, levels=config.levels, dense=False, outputs=1))
    optimiser = optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.steps))

    def init(key: Key, images: Array) -> UNetSegmenterState:
        chex.assert_rank(images, 4)
        variables = network.init(key, images)
        return UNetSegmenterState(variables, optimiser.init(variables["params"]))

    def step(key: Key, state: UNetSegmenterState, batch: Batch) -> tuple[UNetSegmenterState, UNetSegmenterInfo]:
        chex.assert_rank(batch.images, 4)
        if batch.masks is None:
            raise ValueError("masks is None; a segmenter needs the mask of every training image: give masks to fit")
        chex.assert_shape(batch.masks, batch.images.shape[:3])
        images, masks = batch.images, (batch.masks > 0).astype(jnp.float32)
        if config.augment:
            transforms = random_transforms(key, images.shape[0])
            images, masks = warp(images, transforms), warp(masks[..., None], transforms, nearest=True)[..., 0]

        def loss_of(params: Params) -> tuple[Array, tuple[UNetSegmenterInfo, Params]]:
            made, variables = network.apply({**state.variables, "params": params}, 2 * images - 1, train=True)
            logits = made[..., 0]
            entropy, dice = cross_entropy(logits, masks), overlap(logits, masks)
            loss = entropy + config.overlap_weight * (1 - dice)
            return loss, (UNetSegmenterInfo(loss, entropy, dice), variables)

        params = state.variables["params"]
        (_, (info, variables)), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, opt_state = optimiser.update(gradients, state.opt_state, params)
        return UNetSegmenterState({**variables, "params": optax.apply_updates(params, updates)}, opt_state), info

    def calibrate(state: UNetSegmenterState, images: Array) -> UNetSegmenterState:
        chex.assert_rank(images, 4)
        return state

    def score(state: UNetSegmenterState, images: Array) -> Array:
        return jnp.max(score_map(state, images), (1, 2))

    def score_map(state: UNetSegmenterState, images: Array) -> Array:
        chex.assert_rank(images, 4)
        return network.apply(state.variables, 2 * images - 1)[..., 0]

    return Detector(init, step, calibrate, score, score_map, transient=("opt_state",))


def cross_entropy(logits: Array, masks: Array) -> Array:
    """Mean over all pixels, scalar: logits [B, H, W], masks [B, H, W] of 0 and 1."""
    chex.assert_equal_shape([logits, masks])
    return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, masks))


def overlap(logits: Array, masks: Array) -> Array:
    """Dice of probabilities and masks, all pixels of a batch pooled: scalar in (0, 1], 1 where both are empty."""
    chex.assert_equal_shape([logits, masks])
    probabilities = jax.nn.sigmoid(logits)
    return (2 * jnp.sum(probabilities * masks) + 1) / (jnp.sum(probabilities) + jnp.sum(masks) + 1)
