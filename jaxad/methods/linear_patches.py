"""A linear autoencoder of patches: principal components of features, and what they leave of a patch.

    s(patch) = |r|^2 / F        r = (f - mean) - V V^T (f - mean)        V = the first K principal directions

The optimum of a linear autoencoder with K hidden units is the span of V (Baldi & Hornik, Neural Networks 1989), so
nothing is trained: one eigendecomposition of a matrix of the features' size. It is what kernels of one pixel and linear
activations come to in the search space of AutoAD, on features.

Use it where fitting has to be quick and what is normal may be anywhere in an image: one pass, and unlike PaDiM it
expects nothing of a place.
"""

import dataclasses
from typing import Any, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import lax

from jaxad.methods.common.on_features import on_features
from jaxad.methods.common.patch_features import FeatureConfig
from jaxad.methods.registry import detector
from jaxad.nn.objectives.aggregates import AGGREGATES
from jaxad.types import Array, Batch, Detector, Key

EXACT = lax.Precision.HIGHEST


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearPatchesConfig:
    """What is fitted, and to which features."""

    features: FeatureConfig = dataclasses.field(default_factory=FeatureConfig)
    """Features of patches."""
    components: int = 64
    """Principal directions K that normal patches may vary in; at most one less than there are features."""
    aggregate: Literal["mean", "max", "top"] = "top"
    """How a map becomes the image's score: its mean, its maximum, or the mean of its largest 1 %."""
    blur: float = 4 / 224
    """Smoothing of anomaly maps: standard deviation as a share of the image's longer side."""

    def check(self) -> None:
        """Raise ValueError for values out of range; `linear_patches` does so, too."""
        self.features.check()
        if self.components < 1:
            raise ValueError(f"components is {self.components}; the least is 1")
        if self.aggregate not in ("mean", "max", "top"):
            raise ValueError(f"aggregate is {self.aggregate!r}; choose one of mean, max, top")
        if not 0 <= self.blur < 1:
            raise ValueError(f"blur is {self.blur}; give a share of the image's side from 0 to 1")


class LinearPatchesState(NamedTuple):
    """All that fitting and scoring need."""

    count: Array  # float32, patches seen
    total: Array  # [F] their sum
    squares: Array  # [F, F] sum of their outer products
    mean: Array  # [F]
    axes: Array  # [F, K] orthonormal columns


class LinearPatchesInfo(NamedTuple):
    """One step: scalars."""

    patches: Array  # float32, seen so far


TINY = LinearPatchesConfig(components=6, features=FeatureConfig(backbone="random", width=8))


@detector(
    "linear_patches",
    "Linear autoencoder of patches, by principal components (Baldi & Hornik, 1989).",
    config=LinearPatchesConfig,
    tiny=TINY,
)
def linear_patches(config: LinearPatchesConfig | None = None, **fields: Any) -> Detector:
    """The detector of a config, of its fields (`linear_patches(components=16)`), or of one with changed fields.

    `step` sums up products of features, whatever number of images there are; `calibrate` finds the directions. Images
    that are seen twice count twice: one pass over the training images is all there is to learn.
    """
    config = dataclasses.replace(config or LinearPatchesConfig(), **fields)
    config.check()
    return on_features(_linear_on_maps(config), config.features, blur=config.blur)


def _linear_on_maps(config: LinearPatchesConfig) -> Detector:
    """The same, of feature maps [B, h, w, F]."""

    def init(key: Key, maps: Array) -> LinearPatchesState:
        chex.assert_rank(maps, 4)
        features = maps.shape[3]
        nothing = LinearPatchesState(jnp.float32(0), jnp.zeros(features), jnp.zeros((features, features)), None, None)
        seen = add(nothing, maps)
        mean, axes = directions(seen, config.components)
        return nothing._replace(mean=mean, axes=axes)

    def step(key: Key, state: LinearPatchesState, batch: Batch) -> tuple[LinearPatchesState, LinearPatchesInfo]:
        state = add(state, batch.images)
        return state, LinearPatchesInfo(state.count)

    def calibrate(state: LinearPatchesState, maps: Array) -> LinearPatchesState:
        mean, axes = directions(state, config.components)
        # A loaded detector has seen nothing, and stays as it was.
        known = state.count > 0
        return state._replace(mean=jnp.where(known, mean, state.mean), axes=jnp.where(known, axes, state.axes))

    def score_map(state: LinearPatchesState, maps: Array) -> Array:
        rows = maps.reshape(-1, maps.shape[3]) - state.mean[None]
        kept = jnp.matmul(rows, state.axes, precision=EXACT)
        rest = rows - jnp.matmul(kept, state.axes.T, precision=EXACT)
        return jnp.mean(jnp.square(rest), 1).reshape(maps.shape[:3])

    def score(state: LinearPatchesState, maps: Array) -> Array:
        return jax.vmap(AGGREGATES[config.aggregate] or jnp.mean)(score_map(state, maps))

    return Detector(init, step, calibrate, score, score_map, transient=("count", "total", "squares"))


def add(state: LinearPatchesState, maps: Array) -> LinearPatchesState:
    """The state after some more patches."""
    rows = maps.reshape(-1, maps.shape[3])
    return state._replace(
        count=state.count + rows.shape[0],
        total=state.total + jnp.sum(rows, 0),
        squares=state.squares + jnp.matmul(rows.T, rows, precision=EXACT),
    )


def directions(state: LinearPatchesState, components: int) -> tuple[Array, Array]:
    """Mean [F] and the first principal directions [F, K] of the patches that were seen."""
    count = jnp.maximum(state.count, 1)
    mean = state.total / count
    covariance = state.squares / count - jnp.outer(mean, mean)
    axes = jnp.linalg.eigh(covariance)[1]  # ascending
    return mean, axes[:, ::-1][:, : min(components, axes.shape[0] - 1)]
