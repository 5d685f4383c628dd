"""A dictionary of normal patches (Napoletano et al., Sensors 2018): k-means of features, reduced by PCA.

    s(patch) = mean distance of PCA(f(patch)) to the m nearest of K centroids

The score of an image is that of its worst patch. scikit-learn fits PCA and k-means; all else is JAX. Departures:
patches are the places of a network's feature map (the paper cuts patches of 16x16 pixels out and runs its network on
each); the number of nearest centroids is a setting.

Use it as the small form of a memory bank, with tens of centroids in place of thousands of patches. On photographs it
stayed behind the other detectors of features (docs/results.md).
"""

import dataclasses
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxad.methods.common.host import on_host, padded
from jaxad.methods.common.image_buffer import ImageBuffer, empty, places_of, remember
from jaxad.methods.common.nearest import index, nearest
from jaxad.methods.common.on_features import on_features
from jaxad.methods.common.patch_features import FeatureConfig
from jaxad.methods.patchcore import rows_of
from jaxad.methods.registry import detector
from jaxad.types import Array, Batch, Detector, Key

MOST = 50_000  # patches that are fitted to, drawn at random where there are more


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureDictionaryConfig:
    """What is fitted, and to which features."""

    features: FeatureConfig = dataclasses.field(default_factory=FeatureConfig)
    """Features of patches."""
    memory: int = 256
    """Images to fit to: the first ones seen."""
    patches: int = 256
    """Patches of each of them that are kept to fit to, drawn at random where there are more."""
    components: int = 64
    """Principal components at most."""
    variance: float = 0.95
    """Share of the variance that the components keep (the paper)."""
    clusters: int = 50
    """Centroids K."""
    neighbours: int = 3
    """Nearest centroids m."""
    blur: float = 4 / 224
    """Smoothing of anomaly maps: standard deviation as a share of the image's longer side."""

    def check(self) -> None:
        """Raise ValueError for values out of range; `feature_dictionary` does so, too."""
        self.features.check()
        for name in ("memory", "patches", "components", "clusters"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; the least is 1")
        if not 1 <= self.neighbours <= self.clusters:
            raise ValueError(f"neighbours is {self.neighbours}; give 1 to clusters, which is {self.clusters}")
        if not 0 < self.variance <= 1:
            raise ValueError(f"variance is {self.variance}; give a share above 0, up to 1")
        if not 0 <= self.blur < 1:
            raise ValueError(f"blur is {self.blur}; give a share of the image's side from 0 to 1")


class Dictionary(NamedTuple):
    """What was fitted."""

    axes: Array  # [q, F], zeros where fewer keep enough of the variance
    centroids: Array  # [K, q]
    clusters: Array  # int32, of the centroids, those that there are


class FeatureDictionaryState(NamedTuple):
    """All that fitting and scoring need."""

    fitted: Dictionary
    seed: Array  # uint32, of k-means
    buffer: ImageBuffer  # patches of images seen [M, p, F], of use until `calibrate`


class FeatureDictionaryInfo(NamedTuple):
    """One step: scalars."""

    remembered: Array  # int32, images in the buffer


TINY = FeatureDictionaryConfig(memory=64, clusters=40, neighbours=1, features=FeatureConfig(backbone="random", width=8))


@detector(
    "feature_dictionary",
    "Dictionary of normal patches (Napoletano et al., Sensors 2018).",
    config=FeatureDictionaryConfig,
    tiny=TINY,
)
def feature_dictionary(config: FeatureDictionaryConfig | None = None, **fields: Any) -> Detector:
    """The detector of a config, of its fields, or of a config with changed fields.

    `step` remembers features of images, `calibrate` fits to them; the images given to `calibrate` are not looked at, so
    that a threshold on them stays honest. One pass over the training images suffices.
    """
    config = dataclasses.replace(config or FeatureDictionaryConfig(), **fields)
    config.check()
    return on_features(_dictionary_of_maps(config), config.features, blur=config.blur)


def _dictionary_of_maps(config: FeatureDictionaryConfig) -> Detector:
    """The same, of feature maps [B, h, w, F]."""

    def fit_to(patches: Array, valid: Array, seed: Array) -> Dictionary:
        like = _like(config, patches.shape[1])
        fit = on_host(lambda rows, seed: _fit(config, rows, seed), like)
        return jax.pure_callback(fit, like, patches, jnp.sum(valid), seed, vmap_method="sequential")

    def init(key: Key, maps: Array) -> FeatureDictionaryState:
        chex.assert_rank(maps, 4)
        seed = jax.random.bits(key, (), jnp.uint32)
        seen = places_of(maps[: config.memory], seed, config.patches)
        rows = seen.reshape(-1, maps.shape[3])
        fitted = fit_to(rows, jnp.ones(len(rows), bool), seed)
        return FeatureDictionaryState(fitted, seed, empty(config.memory, seen.shape[1:]))

    def step(key: Key, state: FeatureDictionaryState, batch: Batch) -> tuple[FeatureDictionaryState, Any]:
        buffer = remember(state.buffer, places_of(batch.images, state.seed, config.patches))
        return state._replace(buffer=buffer), FeatureDictionaryInfo(buffer.count)

    def calibrate(state: FeatureDictionaryState, maps: Array) -> FeatureDictionaryState:
        buffer = state.buffer
        fitted = fit_to(*rows_of(buffer), state.seed)
        # A loaded detector remembers nothing, and stays as it was fitted.
        keep = buffer.count == 0
        return state._replace(fitted=jax.tree.map(lambda a, b: jnp.where(keep, a, b), state.fitted, fitted))

    def score_map(state: FeatureDictionaryState, maps: Array) -> Array:
        """[B, h, w]: mean distance of each patch to its nearest centroids."""
        fitted, rows = state.fitted, maps.reshape(-1, maps.shape[3])
        rows = jnp.matmul(rows, fitted.axes.T, precision=lax.Precision.HIGHEST)
        found = nearest(index(fitted.centroids, fitted.clusters), rows, config.neighbours).distances
        there = jnp.isfinite(found)
        return (jnp.sum(jnp.where(there, found, 0.0), 1) / jnp.sum(there, 1)).reshape(maps.shape[:3])

    def score(state: FeatureDictionaryState, maps: Array) -> Array:
        return jnp.max(score_map(state, maps), (1, 2))

    return Detector(init, step, calibrate, score, score_map, transient=("buffer",))


def _like(config: FeatureDictionaryConfig, features: int) -> Dictionary:
    q = min(config.components, features)
    shapes = ((q, features), (config.clusters, q))
    return Dictionary(
        *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes), jax.ShapeDtypeStruct((), jnp.int32)
    )


def _fit(config: FeatureDictionaryConfig, rows: np.ndarray, seed: int) -> Dictionary:
    """On the host: standardised features of patches [P, F]."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(seed)
    if len(rows) > MOST:
        rows = rows[rng.choice(len(rows), MOST, replace=False)]
    rows = rows.astype(np.float64)
    most = min(config.components, *rows.shape)
    if not np.ptp(rows, 0).any():
        # Equal patches, as of black images, have no axes of their own; along any others what differs from them scores.
        rows, axes = rows[:1], np.linalg.qr(rng.standard_normal((rows.shape[1], most)))[0].T
    else:
        model = PCA(most, random_state=seed % 2**31).fit(rows)
        before = np.cumsum(model.explained_variance_ratio_) - model.explained_variance_ratio_
        axes = np.where((before < config.variance)[:, None], model.components_, 0.0)
    axes = padded(axes, min(config.components, rows.shape[1]))
    rows = rows @ axes.T
    clusters = min(config.clusters, len(np.unique(rows, axis=0)))
    centroids = KMeans(clusters, n_init=1, random_state=seed % 2**31).fit(rows).cluster_centers_
    return Dictionary(axes, padded(centroids, config.clusters), clusters)
