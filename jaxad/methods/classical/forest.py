"""Isolation forest (Liu et al., ICDM 2008): anomalies are cut off from the rest after few random cuts.

    s(x) = 2^(-E[h(x)] / c(n)),  c(n) = 2 (ln(n - 1) + 0.5772) - 2 (n - 1) / n                    (Eqs. 1 and 2)

h(x) is the depth of the leaf that x falls into, plus c(images of training in that leaf). A tree is grown as
scikit-learn grows it: each node cuts its images by one of the pixels in which they differ, drawn at random, at a value
between the least and the largest of them, down to a depth of log2(images of the tree). All trees grow level by level
together, as NumPy is slow at one node and quick at many.

Use it as a baseline that knows no distances: each cut looks at one pixel, so images are reduced, and should be aligned.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxad.methods.common.host import Estimator, ImageBufferConfig, as_detector
from jaxad.methods.registry import detector
from jaxad.types import Array, Detector

DRAWS = 64  # of a pixel at random, before one of those in which the images of a node differ is looked for


@dataclasses.dataclass(frozen=True, kw_only=True)
class IsolationForestConfig(ImageBufferConfig):
    """What is fitted; the defaults but for the side are scikit-learn's."""

    side: int = 12
    """Images with a longer side are reduced to it. On small photographs with painted defects a forest finds a little
    more at 12 than at 32, and on clothes and digits as much."""
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
    """A forest as scikit-learn's IsolationForest grows it; the score is s(x) in (0, 1)."""
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
        size = min(samples, len(rows))
        return grown(rows, config.trees, size, nodes, np.random.default_rng(seed))

    def score(forest: Forest, rows: Array) -> Array:
        tree = jnp.arange(config.trees)[None]

        def descend(_: Array, node: Array) -> Array:
            values = jnp.take_along_axis(rows, forest.feature[tree, node], 1)
            return jnp.where(values <= forest.threshold[tree, node], forest.left[tree, node], forest.right[tree, node])

        leaves = lax.fori_loop(0, depth, descend, jnp.zeros((rows.shape[0], config.trees), jnp.int32))
        lengths = jnp.mean(forest.length[tree, leaves], 1)
        return jnp.exp2(-lengths / forest.expected)

    return as_detector(config, Estimator(like, fit, score))


def grown(rows: np.ndarray, trees: int, size: int, nodes: int, rng: np.random.Generator) -> Forest:
    """A forest of NumPy arrays with room for `nodes` in a tree, each grown on `size` of the rows [n, D]."""
    # All trees' nodes in a row, tree by tree; where an image is, is the number of its node there.
    feature, threshold = np.zeros(trees * nodes, np.int32), np.zeros(trees * nodes, np.float32)
    left = np.tile(np.arange(nodes, dtype=np.int32), trees)
    right, length = left.copy(), np.zeros(trees * nodes)
    image = np.concatenate([rng.choice(len(rows), size, replace=False) for _ in range(trees)])
    place = np.repeat(np.arange(trees, dtype=np.int32) * nodes, size)
    used, deepest = np.ones(trees, np.int32), math.ceil(math.log2(size))
    for depth in range(deepest + 1):
        order = np.argsort(place, kind="stable")
        image, place = image[order], place[order]
        starts = np.flatnonzero(np.diff(place, prepend=-1))
        at, counts = place[starts], np.diff(starts, append=len(place))
        length[at] = depth + _average_path(counts)
        if depth == deepest:
            break
        cut, feature[at], threshold[at] = _cuts(rows, image, starts, counts, rng)
        tree = at[cut] // nodes
        first = used[tree] + 2 * (np.arange(len(tree)) - np.searchsorted(tree, tree))
        left[at[cut]], right[at[cut]] = first, first + 1
        used += 2 * np.bincount(tree, minlength=trees).astype(np.int32)
        goes_on = np.repeat(cut, counts)
        image, place = image[goes_on], place[goes_on]
        goes_right = rows[image, feature[place]] > threshold[place]
        place = place // nodes * nodes + np.where(goes_right, right[place], left[place])
    columns = (column.reshape(trees, nodes) for column in (feature, threshold, left, right, length))
    return Forest(*columns, _average_path(np.array([size]))[0])


def _cuts(
    rows: np.ndarray, image: np.ndarray, starts: np.ndarray, counts: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of nodes, each with `counts` of the images from `starts` on: whether it is cut, by which pixel, where [nodes]."""
    feature, threshold = np.zeros(len(starts), np.int32), np.zeros(len(starts), np.float32)
    cut, left = np.zeros(len(starts), bool), np.flatnonzero(counts > 1)

    def try_pixels(nodes: np.ndarray, pixels: np.ndarray) -> None:
        begins = np.cumsum(counts[nodes]) - counts[nodes]
        within = np.arange(counts[nodes].sum()) + np.repeat(starts[nodes] - begins, counts[nodes])
        values = rows[image[within], np.repeat(pixels, counts[nodes])]
        least, most = np.minimum.reduceat(values, begins), np.maximum.reduceat(values, begins)
        at = least + rng.random(len(nodes), np.float32) * (most - least)
        feature[nodes], threshold[nodes] = pixels, np.where(at < most, at, least)  # some image goes to the right
        cut[nodes] = least < most

    for _ in range(DRAWS):  # equal pixels are drawn again, so that of those that differ each is as likely
        if not left.size:
            break
        try_pixels(left, rng.integers(0, rows.shape[1], len(left)))
        left = left[~cut[left]]
    for node in left:
        part = rows[image[starts[node] : starts[node] + counts[node]]]
        differing = np.flatnonzero(part.max(0) > part.min(0))
        if differing.size:
            try_pixels(np.array([node]), rng.choice(differing, 1))
    return cut, np.where(cut, feature, 0), np.where(cut, threshold, 0)


def _average_path(images: np.ndarray) -> np.ndarray:
    """c of Eq. 1 for so many images [...]."""
    n = np.maximum(images, 3).astype(np.float64)
    many = 2 * (np.log(n - 1) + np.euler_gamma) - 2 * (n - 1) / n
    return np.where(images <= 1, 0.0, np.where(images == 2, 1.0, many))
