"""Scores and anomaly maps of any number of images, a batch at a time."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxad._utils.compile import kernel_options
from jaxad.data.batches import to_float
from jaxad.training.staged import is_remembering, maps_of, stage_batch
from jaxad.types import Array, Detector, Stage, State


def score_images(detector: Detector, state: State, images: Array | np.ndarray, batch_size: int = 256) -> np.ndarray:
    """How anomalous images are.

    Args:
      detector: that has been trained.
      state: trained and calibrated.
      images: [N, H, W, C], uint8 or float32 in [0, 1], of the shape it was trained on.
      batch_size: images that are scored together; they go to the device batch by batch, and the last batch is filled
        up, so that one program serves all. No score depends on it but by rounding.

    Returns:
      Raw scores [N] float32, higher = more anomalous, neither clamped nor rescaled: only scores of one state compare.
      What is anomalous says a threshold, see `jaxad.evaluate`.

    Raises:
      ValueError: images of another form than [N, H, W, C], or a batch size below 1.

    >>> import jax, jaxad
    >>> task = jaxad.load_task("digits")
    >>> detector = jaxad.detectors()["pca"].build(components=8)
    >>> state, _ = jaxad.fit(detector, jax.random.key(0), task.train.images, steps=4, batch_size=32)
    >>> state = jaxad.calibrate(detector, state, task.train.images)
    >>> scores, labels = jaxad.score_images(detector, state, task.test.images), task.test.labels
    >>> bool(scores[labels == 1].mean() > scores[labels == 0].mean())
    True
    """
    return _batched(detector, detector.score, state, images, batch_size)


def map_images(detector: Detector, state: State, images: Array | np.ndarray, batch_size: int = 256) -> np.ndarray:
    """Where images are anomalous.

    Args:
      detector: that has been trained and has a `score_map`.
      state, images, batch_size: as in `jaxad.score_images`.

    Returns:
      Raw anomaly maps [N, H, W] float32, higher = more anomalous.

    Raises:
      ValueError: a detector that does not localise; what `jaxad.score_images` refuses.

    >>> import jax, jaxad
    >>> images = jaxad.load_task("digits").train.images
    >>> detector = jaxad.detectors()["conv_autoencoder"].build(widths=(8,), latent_dim=16)
    >>> state, _ = jaxad.fit(detector, jax.random.key(0), images, steps=20, batch_size=32)
    >>> jaxad.map_images(detector, state, images[:5]).shape
    (5, 8, 8)
    """
    if detector.score_map is None:
        raise ValueError("this detector has no anomaly maps; use its scores")
    return _batched(detector, detector.score_map, state, images, batch_size)


def _batched(
    detector: Detector,
    function: Callable[[State, Array], Array],
    state: State,
    images: Array | np.ndarray,
    batch_size: int,
) -> np.ndarray:
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(f"images have shape {images.shape}; give [N, H, W, C] with at least one image")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; the least is 1")
    if detector.stage is not None:
        batch_size = min(batch_size, stage_batch())
        if is_remembering():
            size = None if function is detector.score else tuple(images.shape[1:3])
            function = _after_stage(detector.stage, size)
            images, state = maps_of(detector.stage, state, images), state.inner
    results = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        padding = [(0, batch_size - len(batch))] + [(0, 0)] * 3
        pad = jnp.pad if isinstance(images, jax.Array) else np.pad
        results.append(_compiled(function)(state, pad(batch, padding)))
    return np.concatenate(jax.device_get(results))[: len(images)]


@functools.lru_cache(maxsize=16)
def _after_stage(stage: Stage, size: tuple[int, int] | None) -> Callable[[State, Array], Array]:
    """What follows a stage: (inner state, feature maps) -> scores [B] or, of images of a size, anomaly maps."""
    if size is None:
        return stage.inner.score
    return lambda state, maps: stage.enlarge(stage.inner.score_map(state, maps), size)


@functools.lru_cache(maxsize=16)
def _compiled(function: Callable[[State, Array], Array]) -> Callable[[State, Array], Array]:
    return jax.jit(lambda state, images: function(state, to_float(images)), compiler_options=kernel_options())
