"""Detectors that look at an image's nearest neighbours among those of training: kNN and the local outlier factor.

kNN    s(x) = distance to the k-th neighbour, or the mean over k       (Ramaswamy et al., SIGMOD 2000)
LOF    s(x) = mean over the neighbours o of lrd(o) / lrd(x),
       lrd(x) = 1 / mean over o of max(k-distance(o), |x - o|)         (Breunig et al., SIGMOD 2000, Eqs. 6 and 7)
"""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxad.methods.common.host import Estimator, ImageBufferConfig, as_detector, padded
from jaxad.methods.common.nearest import Index, index_like, index_on_host, nearest
from jaxad.methods.registry import detector
from jaxad.types import Array, Detector


@dataclasses.dataclass(frozen=True, kw_only=True)
class NearestNeighboursConfig(ImageBufferConfig):
    """What is looked at; the defaults are PyOD's."""

    neighbours: int = 5
    """Neighbours k; all where fewer images are remembered."""
    reduce: Literal["largest", "mean"] = "largest"
    """What scores of the distances to the neighbours: the largest, or their mean."""

    def check(self) -> None:
        """Raise ValueError for values out of range; `nearest_neighbours` does so, too."""
        super().check()
        _check_neighbours(self.neighbours, self.memory)
        if self.reduce not in ("largest", "mean"):
            raise ValueError(f"reduce is {self.reduce!r}; choose one of largest, mean")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalOutlierFactorConfig(ImageBufferConfig):
    """What is looked at; the default is scikit-learn's."""

    neighbours: int = 20
    """Neighbours k; all others where fewer images are remembered."""

    def check(self) -> None:
        """Raise ValueError for values out of range; `local_outlier_factor` does so, too."""
        super().check()
        _check_neighbours(self.neighbours, self.memory)


class Densities(NamedTuple):
    """The images of training, and how densely others lie about each."""

    index: Index  # of M images
    reach: Array  # [M], distance to the k-th neighbour
    density: Array  # [M], lrd
    neighbours: Array  # int32, k where there were enough images


@detector(
    "nearest_neighbours",
    "Distance to the nearest training images, of pixels (Ramaswamy et al., SIGMOD 2000).",
    config=NearestNeighboursConfig,
    tiny=NearestNeighboursConfig(memory=64),
)
def nearest_neighbours(config: NearestNeighboursConfig | None = None, **fields: Any) -> Detector:
    """Distance to the nearest images of training. There is nothing to fit, so scikit-learn has no part in it.

    Use it first: it takes seconds, and on small and aligned images it is hard to beat (docs/results.md).
    """
    config = dataclasses.replace(config or NearestNeighboursConfig(), **fields)
    config.check()

    def fit(rows: np.ndarray, seed: int) -> Index:
        return index_on_host(rows[: config.memory], config.memory)

    def score(fitted: Index, rows: Array) -> Array:
        found = nearest(fitted, rows, config.neighbours)
        used = jnp.minimum(config.neighbours, fitted.count)
        if config.reduce == "largest":
            return jnp.take(found.distances, used - 1, axis=1)
        return _mean(found.distances, used)

    return as_detector(config, Estimator(index_like, fit, score))


@detector(
    "local_outlier_factor",
    "Local outlier factor of pixels (Breunig et al., SIGMOD 2000).",
    config=LocalOutlierFactorConfig,
    tiny=LocalOutlierFactorConfig(memory=64, neighbours=15),
)
def local_outlier_factor(config: LocalOutlierFactorConfig | None = None, **fields: Any) -> Detector:
    """scikit-learn's LocalOutlierFactor for new images (`novelty=True`).

    Use it where normal images lie closer to each other in some regions than in others, so that no one distance fits.
    """
    config = dataclasses.replace(config or LocalOutlierFactorConfig(), **fields)
    config.check()
    capacity = max(config.memory, 2)  # a single image counts twice

    def like(_: int, features: int) -> Densities:
        column, whole = jax.ShapeDtypeStruct((capacity,), jnp.float32), jax.ShapeDtypeStruct((), jnp.int32)
        return Densities(index_like(capacity, features), column, column, whole)

    def fit(rows: np.ndarray, seed: int) -> Densities:
        from sklearn.neighbors import LocalOutlierFactor

        k = min(config.neighbours, len(rows) - 1)
        factor = LocalOutlierFactor(n_neighbors=k, novelty=True).fit(rows)
        distances, indices = factor.kneighbors()
        reach = distances[:, -1]
        density = 1 / (np.mean(np.maximum(distances, reach[indices]), 1) + 1e-10)  # scikit-learn's guard
        columns = (padded(column, capacity) for column in (reach, density))
        return Densities(index_on_host(rows, capacity), *columns, k)

    def score(fitted: Densities, rows: Array) -> Array:
        found = nearest(fitted.index, rows, min(config.neighbours, capacity))
        reached = jnp.maximum(found.distances, fitted.reach[found.indices])
        density = 1 / (_mean(reached, fitted.neighbours) + 1e-10)
        return _mean(fitted.density[found.indices], fitted.neighbours) / density

    return as_detector(config, Estimator(like, fit, score))


def _mean(values: Array, count: Array) -> Array:
    """Mean of the first `count` columns of [B, k]."""
    used = jnp.arange(values.shape[1]) < count
    return jnp.sum(jnp.where(used[None], values, 0.0), 1) / count


def _check_neighbours(neighbours: int, memory: int) -> None:
    if not 1 <= neighbours <= memory:
        raise ValueError(f"neighbours is {neighbours}; give 1 to memory, which is {memory}")
