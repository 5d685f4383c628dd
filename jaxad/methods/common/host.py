"""What the classical detectors share: the image buffer, and the way to scikit-learn and back."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxad.methods.common.image_buffer import ImageBuffer, empty, remember
from jaxad.types import Array, Batch, Detector, Key

TOGETHER = 256  # images that are scored by one program: what was fitted is read once for all, tens of MB for some


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageBufferConfig:
    """The image buffer of a detector that is fitted rather than trained."""

    memory: int = 10_000
    """Images to fit to: the first ones seen."""
    side: int = 32
    """Images with a longer side are reduced to it."""

    def check(self) -> None:
        """Raise ValueError for values out of range; the constructor does so, too."""
        for name in ("memory", "side"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; the least is 1")


class ClassicalState(NamedTuple):
    """All that fitting and scoring need."""

    fitted: Any  # a NamedTuple of arrays: what scikit-learn found
    seed: Array  # uint32, of the estimator's own randomness
    buffer: ImageBuffer  # images seen, of use until `calibrate`


class ClassicalInfo(NamedTuple):
    """One step: scalars."""

    remembered: Array  # int32, images in the buffer


class Estimator(NamedTuple):
    """An estimator of scikit-learn as three functions."""

    like: Callable[[int, int], Any]  # (capacity M, features D) -> shapes and types of what is fitted
    fit: Callable[[np.ndarray, int], Any]  # on the host: (rows [n, D] float32, 2 <= n <= M, seed) -> fitted, NumPy
    score: Callable[[Any, Array], Array]  # (fitted, rows [B, D]) -> [B]


def as_detector(config: ImageBufferConfig, estimator: Estimator, together: int = TOGETHER) -> Detector:
    """The detector of an estimator. `init` fits it to its example images, so that every state can score."""

    def fit_to(rows: Array, count: Array, seed: Array) -> Any:
        like = estimator.like(config.memory, rows.shape[1])
        # One call of the host for the whole fit; under vmap one after another, as estimators know no batches.
        return jax.pure_callback(on_host(estimator.fit, like), like, rows, count, seed, vmap_method="sequential")

    def init(key: Key, images: Array) -> ClassicalState:
        rows = features(images, config.side)
        seen = rows[: config.memory]
        seed = jax.random.bits(key, (), jnp.uint32)
        fitted = fit_to(seen, jnp.int32(len(seen)), seed)
        return ClassicalState(fitted, seed, empty(config.memory, rows.shape[1:]))

    def step(key: Key, state: ClassicalState, batch: Batch) -> tuple[ClassicalState, ClassicalInfo]:
        buffer = remember(state.buffer, features(batch.images, config.side))
        return state._replace(buffer=buffer), ClassicalInfo(buffer.count)

    def calibrate(state: ClassicalState, images: Array) -> ClassicalState:
        chex.assert_rank(images, 4)
        buffer = state.buffer
        fitted = fit_to(buffer.rows, buffer.count, state.seed)
        # A loaded detector remembers nothing, and stays as it was fitted.
        keep = buffer.count == 0
        return state._replace(fitted=jax.tree.map(lambda a, b: jnp.where(keep, a, b), state.fitted, fitted))

    def score(state: ClassicalState, images: Array) -> Array:
        return estimator.score(state.fitted, features(images, config.side))

    return Detector(init, step, calibrate, score, transient=("buffer",), together=together)


def reduced(images: Array, side: int) -> Array:
    """Images [B, H, W, C] with neither side longer than `side`, aspect ratio kept to a pixel."""
    chex.assert_rank(images, 4)
    batch, height, width, channels = images.shape
    if max(height, width) <= side:
        return images
    scale = side / max(height, width)
    shape = (batch, max(1, round(height * scale)), max(1, round(width * scale)), channels)
    return jax.image.resize(images, shape, "linear", antialias=True, precision=jax.lax.Precision.HIGHEST)


def features(images: Array, side: int) -> Array:
    """Pixels of images [B, H, W, C] as rows [B, D]."""
    return reduced(images, side).reshape(images.shape[0], -1)


def on_host(fit: Callable[[np.ndarray, int], Any], like: Any) -> Callable[..., Any]:
    """What a callback runs, of (rows [M, D], of which the first `count` count, count, seed): arrays as `like` says."""

    def call(rows: Any, count: Any, seed: Any) -> Any:
        count = int(count)
        if count == 0:
            return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
        rows = np.asarray(rows, np.float32)[:count]
        if count == 1:  # some estimators refuse a single image; it counts twice
            rows = np.repeat(rows, 2, 0)
        fitted = fit(rows, int(seed))
        return jax.tree.map(lambda leaf, array: np.asarray(array, leaf.dtype), like, fitted)

    return call


def padded(array: Any, length: int, fill: float = 0.0) -> np.ndarray:
    """A NumPy array with its first axis filled up to `length`."""
    array = np.asarray(array)
    return np.pad(array, [(0, length - len(array))] + [(0, 0)] * (array.ndim - 1), constant_values=fill)
