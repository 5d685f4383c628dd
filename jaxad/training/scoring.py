"""Scores and anomaly maps of any number of images, a batch at a time."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxad._utils.compile import kernel_options
from jaxad.data.batches import to_float
from jaxad.types import Array, Detector, State


def score_images(detector: Detector, state: State, images: Array | np.ndarray, batch_size: int = 256) -> np.ndarray:
    """Raw scores [N] float32 of images [N, H, W, C], uint8 or float32 in [0, 1]; higher = more anomalous.

    Images go to the device batch by batch; the last batch is filled up, so that one program serves all.
    """
    return _batched(detector.score, state, images, batch_size)


def map_images(detector: Detector, state: State, images: Array | np.ndarray, batch_size: int = 256) -> np.ndarray:
    """Anomaly maps [N, H, W] float32, as `score_images`; ValueError for a detector that does not localise."""
    if detector.score_map is None:
        raise ValueError("this detector has no anomaly maps; use its scores")
    return _batched(detector.score_map, state, images, batch_size)


def _batched(
    function: Callable[[State, Array], Array], state: State, images: Array | np.ndarray, batch_size: int
) -> np.ndarray:
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(f"images have shape {images.shape}; give [N, H, W, C] with at least one image")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; the least is 1")
    results = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        padding = [(0, batch_size - len(batch))] + [(0, 0)] * 3
        pad = jnp.pad if isinstance(images, jax.Array) else np.pad
        results.append(_compiled(function)(state, pad(batch, padding)))
    return np.concatenate(jax.device_get(results))[: len(images)]


@functools.lru_cache(maxsize=16)
def _compiled(function: Callable[[State, Array], Array]) -> Callable[[State, Array], Array]:
    return jax.jit(lambda state, images: function(state, to_float(images)), compiler_options=kernel_options())
