"""The centroid hypothesis (AutoAD, Table I; Deep SVDD, Ruff et al. 2018): normal lies in one small sphere."""

import dataclasses
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxad.nn.objectives.base import Hypothesis, check, require_not_negative
from jaxad.types import Array, Key


@dataclasses.dataclass(frozen=True, kw_only=True)
class CentroidConfig:
    """Settings of the centroid hypothesis; nu and the margin of the centre from Deep-SVDD-PyTorch."""

    nu: float = 0.1  # fraction of training instances that may lie outside
    warmup_steps: int = 10
    margin: float = 0.1  # no coordinate of the centre is closer to 0

    def __post_init__(self) -> None:
        if not 0 < self.nu <= 1:
            raise ValueError(f"nu={self.nu} is outside (0, 1]: it is the fraction of instances allowed outside")
        require_not_negative(self, "warmup_steps", "margin")


class CentroidParams(NamedTuple):
    """The centre of the sphere; set once, never trained."""

    centre: Array  # [d]


class CentroidStats(NamedTuple):
    """The squared radius that holds all but nu of the training latents."""

    squared_radius: Array  # scalar


def centroid(config: CentroidConfig | None = None) -> Hypothesis:
    """Anomalies lie outside a small sphere that holds most latents (soft-boundary Deep SVDD).

    Loss: R^2 + mean_i max(0, |z_i - c|^2 - R^2) / nu; score: |z - c|^2 - R^2. c is the mean of the first
    latents, coordinates closer to 0 than 0.1 pushed to +-0.1 (a zero centre invites collapse). R^2 is the
    1 - nu quantile of the batch's |z - c|^2, a constant to the gradient; 0 before `warmup_steps`.
    Departures: the mean and 1 / nu are Deep SVDD's (AutoAD prints a bare sum); no weight decay; warm-up of 10
    steps instead of 10 epochs, as children of a search see about one epoch.
    """
    config = config or CentroidConfig()

    def squared(params: CentroidParams, z: Array) -> Array:
        return jnp.sum(jnp.square(z - jax.lax.stop_gradient(params.centre)[None]), axis=1)

    def init(key: Key, z: Array) -> CentroidParams:
        chex.assert_rank(z, 2)
        mean = jnp.mean(z, axis=0)
        pushed = jnp.where(mean < 0, -config.margin, config.margin)
        return CentroidParams(jnp.where(jnp.abs(mean) < config.margin, pushed, mean))

    def loss(params: CentroidParams, z: Array, errors: Array, step: Array) -> Array:
        check(z, errors)
        distances = squared(params, z)
        radius = jnp.quantile(jax.lax.stop_gradient(distances), 1 - config.nu)
        radius = jnp.where(step >= config.warmup_steps, radius, 0.0)
        return radius + jnp.mean(jnp.maximum(distances - radius, 0.0)) / config.nu

    def fit(params: CentroidParams, z: Array) -> CentroidStats:
        chex.assert_rank(z, 2)
        return CentroidStats(jnp.quantile(squared(params, z), 1 - config.nu))

    def score(params: CentroidParams, stats: CentroidStats, z: Array, errors: Array) -> Array:
        check(z, errors)
        return squared(params, z) - stats.squared_radius

    return Hypothesis(init, loss, fit, score)
