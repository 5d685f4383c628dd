"""After training: the statistics that scores rest on, from normal images of the training."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxad._utils.compile import kernel_options
from jaxad._utils.tree import member, size, stack
from jaxad._utils.validate import check_whole
from jaxad.data.batches import to_float
from jaxad.training.staged import maps_of
from jaxad.types import Array, Detector, State

CALIBRATION_IMAGES = 1024  # of the training suffice for statistics
MOST_NUMBERS = 2**28  # in them: a GiB as float32


def calibrate(
    detector: Detector, state: State, images: Array | np.ndarray, *, limit: int = CALIBRATION_IMAGES
) -> State:
    """Complete a trained state: fix the statistics that its scores rest on, or fit what is fitted and not trained.

    Args:
      detector: that has been trained.
      state: from `jaxad.fit`.
      images: [N, H, W, C], uint8 or float32 in [0, 1]: the normal images of the training. Set a threshold on others
        (`jaxad.evaluate`): the scores of these would make it too low.
      limit: at most so many of the images are used, spread evenly over them; 1 or more. Large images are fewer: all of
        them together take at most 1 GiB as float32, which is what the detector sees.

    Returns:
      The state that scores; calibrating it again changes nothing but by rounding.

    Raises:
      ValueError: images of another form than [N, H, W, C], or a limit below 1.

    >>> import jax, jaxad
    >>> images = jaxad.load_task("digits").train.images[:64]
    >>> detector = jaxad.detectors()["nearest_neighbours"].build()
    >>> state, _ = jaxad.fit(detector, jax.random.key(0), images, steps=2, batch_size=32)
    >>> state = jaxad.calibrate(detector, state, images)
    >>> jaxad.score_images(detector, state, images).shape
    (64,)
    """
    if np.ndim(images) != 4 or 0 in images.shape:
        raise ValueError(f"images have shape {np.shape(images)}; give [N, H, W, C] with at least one image")
    check_whole(limit=limit)
    if limit < 1:
        raise ValueError(f"limit is {limit}; the least is 1")
    if detector.stage is not None:
        maps = jnp.asarray(maps_of(detector.stage, state, subsample(images, limit)))
        return state._replace(inner=_compiled(detector.stage.inner)(state.inner, maps))
    fitting = max(1, MOST_NUMBERS // math.prod(images.shape[1:]))
    return _compiled(detector)(state, subsample(images, min(limit, fitting)))


def calibrate_population(detector: Detector, states: State, images: Array | np.ndarray, **options: int) -> State:
    """As `calibrate`, of the states of P seeds, which have an axis P in front."""
    return stack([calibrate(detector, member(states, p), images, **options) for p in range(size(states))])


def subsample(images: Array | np.ndarray, most: int) -> Array | np.ndarray:
    """At most so many of the images [N, H, W, C], spread evenly."""
    return images[np.linspace(0, len(images) - 1, min(most, len(images))).astype(int)]


@functools.lru_cache(maxsize=16)
def _compiled(detector: Detector) -> Callable[[State, Array], State]:
    # Images are brought to numbers from 0 to 1 here, as for `step` and `score`: a detector that is fitted to what is
    # stored, 0 to 255, and scores numbers from 0 to 1 would be wrong without a word.
    def run(state: State, images: Array) -> State:
        return detector.calibrate(state, to_float(images))

    return jax.jit(run, compiler_options=kernel_options() or None)
