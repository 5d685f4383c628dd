"""Scores and anomaly maps of any number of images, on CPU the same to the bit whatever else is scored with an image.

XLA sums in another order in a program for another number of images, and at another place of a batch: about 1e-6 of a
score, by which an image could be flagged in one call and pass in the next. So all calls share programs of one size. On
CPU it is one image, for which there is no other order, or, where that would be wasteful, what the detector says
(`Detector.together`); the last batch is filled up. One call goes through many small images, one after the other, as
calling a program takes longer than scoring one, and each core has a call of its own. Elsewhere images go by hundreds,
and rounding may differ by place.
"""

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxad._utils.compile import kernel_options
from jaxad._utils.validate import check_whole
from jaxad.data.batches import as_float
from jaxad.training.staged import filled, is_remembering, maps_of
from jaxad.types import Array, Detector, Stage, State

MOST = 256  # images of a program on accelerators
SMALL = 2**14  # numbers of an image, up to which many go through one call: 64x64 in colour
LOOP = 128  # as many
THREADS = min(8, os.cpu_count() or 1)  # calls at a time, of such images
BYTES = 2**26  # of a program's images at most, 64 MiB; of its activations there are many times as many


def score_images(detector: Detector, state: State, images: Array | np.ndarray, batch_size: int = 256) -> np.ndarray:
    """How anomalous images are.

    Args:
      detector: that has been trained.
      state: trained and calibrated.
      images: [N, H, W, C], uint8 or float32 in [0, 1], of the shape it was trained on.
      batch_size: images whose features are in memory at a time, where the detector has some. No score depends on it.

    Returns:
      Raw scores [N] float32, higher = more anomalous, neither clamped nor rescaled: only scores of one state compare.
      On a CPU an image has the same score to the bit alone, in any batch and in any order. What is anomalous says a
      threshold, see `jaxad.evaluate`.

    Raises:
      ValueError: images of another form than [N, H, W, C], other integers than uint8, or a batch size below 1.

    >>> import jax, jaxad
    >>> task = jaxad.load_task("digits")
    >>> detector = jaxad.detectors()["pca"].build(components=8)
    >>> state, _ = jaxad.fit(detector, jax.random.key(0), task.train.images, steps=4, batch_size=32)
    >>> state = jaxad.calibrate(detector, state, task.train.images)
    >>> scores, labels = jaxad.score_images(detector, state, task.test.images), task.test.labels
    >>> bool(scores[labels == 1].mean() > scores[labels == 0].mean())
    True
    """
    return _scored(detector, detector.score, state, images, batch_size)


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
    return _scored(detector, detector.score_map, state, images, batch_size)


def _scored(
    detector: Detector,
    function: Callable[[State, Array], Array],
    state: State,
    images: Array | np.ndarray,
    batch_size: int,
) -> np.ndarray:
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(f"images have shape {images.shape}; give [N, H, W, C] with at least one image")
    if images.dtype != np.uint8 and images.dtype.kind in "biucOSU":  # numbers that nobody says the white of
        raise ValueError(f"images are {images.dtype}; give uint8, or floats in [0, 1]")
    check_whole(batch_size=batch_size)
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; the least is 1")
    images, stage = np.asarray(images), detector.stage
    if stage is None:
        if detector.together == 1 and images[0].size <= SMALL and jax.default_backend() == "cpu":
            return _by_loops(function, state, images, () if function is detector.score else images.shape[1:3])
        return _by_programs(function, state, images, detector.together, spread=detector.together == 1)
    function = _after_stage(stage, None if function is detector.score else tuple(images.shape[1:3]))
    found = []
    for start in range(0, len(images), batch_size):
        some = images[start : start + batch_size]
        maps = maps_of(stage, state, some, kept=is_remembering(), dtype=np.float32)
        found.append(_by_programs(function, state.inner, maps, stage.inner.together, spread=False))
    return np.concatenate(found)


def _by_programs(
    function: Callable[[State, Array], Array], state: State, images: np.ndarray, together: int, *, spread: bool
) -> np.ndarray:
    """What a function makes of images, always of equally many at a time, which depends on their shape alone."""
    together = together if jax.default_backend() == "cpu" else MOST
    fitting = BYTES // (4 * images[0].size)
    together = max(1, min(together, 2 ** (fitting.bit_length() - 1) if fitting else 1))
    run, state, found = _compiled(function, spread), jax.device_put(state), []
    for start in range(0, len(images), together):
        some = as_float(images[start : start + together])  # made here, so that stored types share programs and bits
        found.append(run(state, filled(some, together)))
    return np.concatenate(jax.device_get(found))[: len(images)]


def _by_loops(
    function: Callable[[State, Array], Array], state: State, images: np.ndarray, form: tuple[int, ...]
) -> np.ndarray:
    """What a function makes of images, each of some form: one at a time, as in a program of one, many to a call."""
    run, state, starts = _looped(function, form), jax.device_put(state), range(0, len(images), LOOP)

    def made(start: int, most: int = LOOP) -> np.ndarray:
        some = as_float(images[start : start + LOOP])
        return np.asarray(run(state, filled(some, LOOP), min(len(some), most)))[: len(some)]

    if len(starts) == 1:
        return made(0)
    made(0, most=0)  # compiled once, before there are threads
    with ThreadPoolExecutor(min(len(starts), THREADS)) as threads:  # a small image keeps one core busy
        return np.concatenate(list(threads.map(made, starts)))


@functools.lru_cache(maxsize=16)
def _looped(function: Callable[[State, Array], Array], form: tuple[int, ...]) -> Callable[[State, Array, int], Array]:
    """(state, images [B, H, W, C], count) -> what the function makes of the first `count` images [B, *form].

    Without the options of a search's kernels, which give a convolution all cores: a call has one.
    """

    def run(state: State, images: Array, count: Array) -> Array:
        def one(place: Array, found: Array) -> Array:
            made = function(state, lax.dynamic_slice_in_dim(images, place, 1))
            return lax.dynamic_update_slice_in_dim(found, made, place, 0)

        return lax.fori_loop(0, count, one, jnp.zeros((len(images), *form), jnp.float32))

    return jax.jit(run)


@functools.lru_cache(maxsize=16)
def _after_stage(stage: Stage, size: tuple[int, int] | None) -> Callable[[State, Array], Array]:
    """What follows a stage: (inner state, feature maps) -> scores [B] or, of images of a size, anomaly maps."""
    if size is None:
        return stage.inner.score
    return lambda state, maps: stage.enlarge(stage.inner.score_map(state, maps), size)


@functools.lru_cache(maxsize=16)
def _compiled(function: Callable[[State, Array], Array], spread: bool) -> Callable[[State, Array], Array]:
    """A program; `spread` over all cores is what convolutions of one large image want, products are quicker without."""
    options = kernel_options() if spread or jax.default_backend() != "cpu" else {}
    return jax.jit(function, compiler_options=options or None)
