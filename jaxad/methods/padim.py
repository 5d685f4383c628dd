"""PaDiM (Defard et al., ICPR 2020): at each place of the image a Gaussian of what is normal there.

    s(i, j) = sqrt((f_ij - mu_ij)^T S_ij^-1 (f_ij - mu_ij))     S_ij = sample covariance + epsilon I       (Eqs. 1, 2)

f keeps a random choice of the features, the same at all places. The score of an image is that of its worst place.

Departure: features are standardised first, by default at each place (`features.standardise`), so that epsilon is a
share of a feature's own variance and not of the largest.

Use it for things that are photographed alike, as it expects the same at the same place. Of photographs it is what
searches mostly return (docs/results.md).
"""

import dataclasses
import math
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import solve_triangular

from jaxad.methods.common.on_features import on_features
from jaxad.methods.common.patch_features import FeatureConfig
from jaxad.methods.registry import detector
from jaxad.types import Array, Batch, Detector, Key

EXACT = lax.Precision.HIGHEST


@dataclasses.dataclass(frozen=True, kw_only=True)
class PaDiMConfig:
    """What is fitted, and to which features."""

    features: FeatureConfig = dataclasses.field(default_factory=FeatureConfig)
    """Features of patches."""
    dimensions: int = 100
    """Features that are kept, drawn at random where there are more (the paper: 100 of 448)."""
    epsilon: float = 0.01
    """What is added to the variances (the paper)."""
    blur: float = 4 / 224
    """Smoothing of anomaly maps: standard deviation as a share of the image's longer side (the paper: 4 of 224)."""

    def check(self) -> None:
        """Raise ValueError for values out of range; `padim` does so, too."""
        self.features.check()
        if self.dimensions < 1:
            raise ValueError(f"dimensions is {self.dimensions}; the least is 1")
        if not 0 < self.epsilon < math.inf:
            raise ValueError(f"epsilon is {self.epsilon}; give a number above 0, such as 0.01")
        if not 0 <= self.blur < 1:
            raise ValueError(f"blur is {self.blur}; give a share of the image's side from 0 to 1")


class PaDiMState(NamedTuple):
    """All that fitting and scoring need; P places, D dimensions."""

    chosen: Array  # [D] int32, indices of features
    count: Array  # float32, images seen
    total: Array  # [P, D] their sum
    squares: Array  # [P, D, D] sum of their outer products
    mean: Array  # [P, D]
    factor: Array  # [P, D, D] lower Cholesky factors of the covariances


class PaDiMInfo(NamedTuple):
    """One step: scalars."""

    images: Array  # float32, seen so far


TINY = PaDiMConfig(dimensions=12, features=FeatureConfig(backbone="random", width=8))


@detector("padim", "PaDiM, a Gaussian at each place (Defard et al., ICPR 2020).", config=PaDiMConfig, tiny=TINY)
def padim(config: PaDiMConfig | None = None, **fields: Any) -> Detector:
    """The detector of a config, of its fields (`padim(dimensions=50)`), or of a config with changed fields.

    `step` sums up features and their products, whatever number of images there are; `calibrate` makes Gaussians of
    that. Images that are seen twice count twice: one pass over the training images is all there is to learn.
    """
    config = dataclasses.replace(config or PaDiMConfig(), **fields)
    config.check()
    return on_features(_gaussians_of_maps(config), config.features, blur=config.blur)


def _gaussians_of_maps(config: PaDiMConfig) -> Detector:
    """The same, of feature maps [B, h, w, F]."""

    def init(key: Key, maps: Array) -> PaDiMState:
        chex.assert_rank(maps, 4)
        features = maps.shape[3]
        chosen = jax.random.permutation(key, features)[: config.dimensions].astype(jnp.int32)
        size, dimensions = maps.shape[1] * maps.shape[2], chosen.size
        total, squares = jnp.zeros((size, dimensions)), jnp.zeros((size, dimensions, dimensions))
        nothing = PaDiMState(chosen, jnp.float32(0), total, squares, total, squares)
        mean, factor = gaussians(add(nothing, maps), config.epsilon)
        return nothing._replace(mean=mean, factor=factor)

    def step(key: Key, state: PaDiMState, batch: Batch) -> tuple[PaDiMState, PaDiMInfo]:
        state = add(state, batch.images)
        return state, PaDiMInfo(state.count)

    def calibrate(state: PaDiMState, maps: Array) -> PaDiMState:
        mean, factor = gaussians(state, config.epsilon)
        # A loaded detector has seen nothing, and stays as it was.
        known = state.count > 0
        return state._replace(mean=jnp.where(known, mean, state.mean), factor=jnp.where(known, factor, state.factor))

    def score_map(state: PaDiMState, maps: Array) -> Array:
        return mahalanobis(state.mean, state.factor, places(state, maps)).reshape(maps.shape[:3])

    def score(state: PaDiMState, maps: Array) -> Array:
        return jnp.max(score_map(state, maps), (1, 2))

    return Detector(init, step, calibrate, score, score_map, transient=("count", "total", "squares"))


def places(state: PaDiMState, maps: Array) -> Array:
    """The chosen features of maps [B, h, w, F] as rows of places: [B, P, D]."""
    return maps.reshape(maps.shape[0], -1, maps.shape[3])[..., state.chosen]


def add(state: PaDiMState, maps: Array) -> PaDiMState:
    """The state after some more images."""
    rows = places(state, maps)
    return state._replace(
        count=state.count + rows.shape[0],
        total=state.total + jnp.sum(rows, 0),
        squares=state.squares + jnp.einsum("bpi,bpj->pij", rows, rows, precision=EXACT),
    )


def gaussians(state: PaDiMState, epsilon: float) -> tuple[Array, Array]:
    """Means [P, D] and Cholesky factors [P, D, D] of the regularised sample covariances of what was seen."""
    count = jnp.maximum(state.count, 1)
    mean = state.total / count
    away = state.squares - count * mean[:, :, None] * mean[:, None]
    covariances = away / jnp.maximum(count - 1, 1)
    return mean, jnp.linalg.cholesky(covariances + epsilon * jnp.eye(mean.shape[1])[None])


def mahalanobis(mean: Array, factor: Array, rows: Array) -> Array:
    """Distances [B, P] of rows [B, P, D] from the Gaussian of their place."""
    chex.assert_rank([mean, factor, rows], [2, 3, 3])
    away = (rows - mean[None]).transpose(1, 2, 0)  # [P, D, B]
    return jnp.sqrt(jnp.sum(jnp.square(solve_triangular(factor, away, lower=True)), 1)).T
