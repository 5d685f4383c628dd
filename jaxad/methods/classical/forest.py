"""Isolation forest (Liu et al., ICDM 2008): anomalies are cut off from the rest after few random cuts.

    s(x) = 2^(-E[h(x)] / c(n)),  c(n) = 2 (ln(n - 1) + 0.5772) - 2 (n - 1) / n                    (Eqs. 1 and 2)

h(x) is the depth of the leaf that x falls into, plus c(images of training in that leaf).
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxad.methods.common.host import Estimator, ImageBufferConfig, as_detector, padded
from jaxad.methods.registry import detector
from jaxad.types import Array, Detector


@dataclasses.dataclass(frozen=True, kw_only=True)
class IsolationForestConfig(ImageBufferConfig):
    """What is fitted; the defaults are scikit-learn's."""

    trees: int = 100
    """Trees of the forest."""
    samples: int = 256
    """Images that each tree is grown on, drawn anew; all where there are fewer."""

    def check(self) -> None:
        """Raise ValueError for values out of range; `isolation_forest` does so, too."""
        super().check()
        if self.trees < 1:
            raise ValueError(f"trees is {self.trees}; the least is 1")
        if self.samples < 2:
            raise ValueError(f"samples is {self.samples}; a tree needs at least 2 images")


class Forest(NamedTuple):
    """The trees, node by node; a leaf is its own child."""

    feature: Array  # [T, nodes] int32, which pixel to look at
    threshold: Array  # [T, nodes] float32, goes left up to here
    left: Array  # [T, nodes] int32
    right: Array  # [T, nodes] int32
    length: Array  # [T, nodes] float32, h of a leaf
    expected: Array  # scalar, c of the images that a tree was grown on


TINY = IsolationForestConfig(memory=64, trees=50, samples=32)


@detector(
    "isolation_forest",
    "Isolation forest of pixels (Liu et al., ICDM 2008).",
    config=IsolationForestConfig,
    tiny=TINY,
)
def isolation_forest(config: IsolationForestConfig | None = None, **fields: Any) -> Detector:
    """scikit-learn's IsolationForest; the score is s(x) in (0, 1)."""
    config = dataclasses.replace(config or IsolationForestConfig(), **fields)
    config.check()
    samples = min(config.samples, max(config.memory, 2))
    # scikit-learn stops growing at this depth.
    depth = math.ceil(math.log2(samples))
    nodes = 2 * samples - 1

    def like(capacity: int, features: int) -> Forest:
        table = (config.trees, nodes)
        whole, real = jax.ShapeDtypeStruct(table, jnp.int32), jax.ShapeDtypeStruct(table, jnp.float32)
        return Forest(whole, real, whole, whole, real, jax.ShapeDtypeStruct((), jnp.float32))

    def fit(rows: np.ndarray, seed: int) -> Forest:
        from sklearn.ensemble import IsolationForest

        size = min(samples, len(rows))
        forest = IsolationForest(n_estimators=config.trees, max_samples=size, random_state=seed).fit(rows)
        trees = [_table(estimator.tree_, nodes) for estimator in forest.estimators_]
        return Forest(*(np.stack(column) for column in zip(*trees)), _average_path(np.array([size]))[0])

    def score(forest: Forest, rows: Array) -> Array:
        tree = jnp.arange(config.trees)[None]

        def descend(_: Array, node: Array) -> Array:
            values = jnp.take_along_axis(rows, forest.feature[tree, node], 1)
            return jnp.where(values <= forest.threshold[tree, node], forest.left[tree, node], forest.right[tree, node])

        leaves = lax.fori_loop(0, depth, descend, jnp.zeros((rows.shape[0], config.trees), jnp.int32))
        lengths = jnp.mean(forest.length[tree, leaves], 1)
        return jnp.exp2(-lengths / forest.expected)

    return as_detector(config, Estimator(like, fit, score))


def _table(tree: Any, nodes: int) -> tuple[np.ndarray, ...]:
    """The first five fields of a `Forest` for one tree of scikit-learn."""
    leaf, itself = tree.children_left < 0, np.arange(tree.node_count)
    left = np.where(leaf, itself, tree.children_left)
    right = np.where(leaf, itself, tree.children_right)
    depth = np.zeros(tree.node_count)
    for node in np.flatnonzero(~leaf):  # parents stand before their children
        depth[[left[node], right[node]]] = depth[node] + 1
    # The next float32 below: then comparing a float32 pixel with it gives what comparing with the float64 gives.
    threshold = tree.threshold.astype(np.float32)
    threshold = np.where(threshold > tree.threshold, np.nextafter(threshold, np.float32(-np.inf)), threshold)
    length = depth + _average_path(tree.n_node_samples)
    table = (np.where(leaf, 0, tree.feature), np.where(leaf, 0.0, threshold), left, right, length)
    return tuple(padded(column, nodes) for column in table)


def _average_path(images: np.ndarray) -> np.ndarray:
    """c of Eq. 1 for so many images [...]."""
    n = np.maximum(images, 3).astype(np.float64)
    many = 2 * (np.log(n - 1) + np.euler_gamma) - 2 * (n - 1) / n
    return np.where(images <= 1, 0.0, np.where(images == 2, 1.0, many))
