"""A saved detector at work: images of any number are read, scored and mapped, a batch in memory at a time."""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from jaxad.data.batches import as_float
from jaxad.data.depth import ALONE, Depth
from jaxad.data.fitting import fit_images
from jaxad.data.images import to_channels
from jaxad.data.lazy import THREADS, LazyImage, read_ahead
from jaxad.data.tiles import Grid, Tiling, assemble, cut, grid_of, tiles_wanted
from jaxad.metrics.thresholds import Threshold, decide
from jaxad.runs.saving import LoadedDetector
from jaxad.training.scoring import map_images, score_images


class ScoredImage(NamedTuple):
    """What became of an image."""

    image: LazyImage
    score: float
    anomalous: bool | None  # None without a threshold
    map: np.ndarray | None = None  # [h, w] float32, where it was asked for


class Unread(NamedTuple):
    """An image that has no score."""

    image: LazyImage
    reason: str  # in one line, with the name of the image


Outcome = ScoredImage | Unread


class _Rows(NamedTuple):
    """An image as the detector was trained on, see `read_for`."""

    array: np.ndarray  # [k, h, w, c]
    size: tuple[int, int]  # of the image itself


def fit_of(loaded: LoadedDetector) -> str:
    """How images of another shape were brought to the detector's, one of `jaxad.data.fitting.WAYS`."""
    fit = loaded.details.get("fit", "stretch")
    return "stretch" if fit == "resize" else fit  # its name until 0.2.0


def depth_of(loaded: LoadedDetector) -> Depth:
    """Which stored values are black and white, as in training; versions before 0.3.0 did not say."""
    ranges = loaded.details.get("ranges")
    return ALONE if ranges is None else Depth({kind: tuple(ends) for kind, ends in ranges.items()}, closed=True)


def trained_grid(loaded: LoadedDetector) -> Grid | None:
    """Where the tiles lie that a detector was trained on, on an image fitted to its size; None of whole images."""
    if "tiles" not in loaded.details:
        return None
    height, width = loaded.details["tiled_from"]
    return grid_of((height, width), loaded.details["tiles"], ratio=width / height)


def read_for(loaded: LoadedDetector, pixels: np.ndarray, tiling: Tiling = None) -> np.ndarray:
    """An image [H, W, C] as the detector was trained on: [k, h, w, c], uint8 or float32, of its k tiles, 1 if whole.

    Without a tiling they are the tiles that a detector of tiles was trained on.

    Raises:
      ValueError: channels that cannot be those of the training.
    """
    height, width, channels = loaded.image_shape
    n = tiles_wanted(pixels.shape[:2], tiling)
    if tiling is None and (grid := trained_grid(loaded)) is not None:
        fitted = np.stack(cut(fit_images(pixels[None], grid.image, fit_of(loaded))[0], grid))
    elif n > 1:
        # A tile has the detector's ratio of sides, as far as the image allows: there is nothing to crop or pad.
        parts = cut(pixels, grid_of(pixels.shape[:2], n, ratio=width / height))
        fitted = np.concatenate([fit_images(part[None], (height, width)) for part in parts])
    else:
        fitted = fit_images(pixels[None], (height, width), fit_of(loaded))
    return to_channels(fitted, channels)


def score_stream(
    loaded: LoadedDetector,
    images: Iterable[LazyImage],
    threshold: Threshold | None,
    *,
    batch_size: int = 64,
    tiling: Tiling = None,
    maps: bool = False,
) -> Iterator[list[Outcome]]:
    """Score images as they come, while the next ones are read.

    Args:
      threshold: a higher score is called anomalous; None only ranks.
      batch_size: images, or tiles of them, that are scored at a time.
      tiling: how images are cut into tiles; the score of an image is the highest of its tiles.
      maps: also make the anomaly map of every image, as `map_image` does.

    Yields:
      What became of the images of each batch, in their order.
    """
    ahead = 2 * THREADS if tiling else max(batch_size, 2 * THREADS)
    mapped = functools.partial(_map_of, loaded, tiling=tiling, batch_size=batch_size) if maps else None

    def read(image: LazyImage) -> _Rows:
        pixels = image.read()
        return _Rows(read_for(loaded, pixels, tiling), pixels.shape[:2])

    group: list[tuple[LazyImage, _Rows | ValueError]] = []
    rows = 0
    for item in read_ahead(images, read, ahead=ahead):
        group.append(item)
        rows += 1 if isinstance(item[1], ValueError) else len(item[1].array)
        if rows >= batch_size:
            yield _outcomes(loaded, group, threshold, batch_size, mapped)
            group, rows = [], 0
    if group:
        yield _outcomes(loaded, group, threshold, batch_size, mapped)


def _outcomes(
    loaded: LoadedDetector,
    group: list[tuple[LazyImage, _Rows | ValueError]],
    threshold: Threshold | None,
    batch_size: int,
    mapped: Callable[[_Rows], np.ndarray] | None,
) -> list[Outcome]:
    arrays = [value.array for _, value in group if not isinstance(value, ValueError)]
    scores = iter(score_rows(loaded, arrays, batch_size)) if arrays else iter(())
    outcomes: list[Outcome] = []
    for image, value in group:
        if isinstance(value, ValueError):
            reason = str(value)
            outcomes.append(Unread(image, reason if image.name in reason else f"{image.name}: {reason}"))
        elif np.isnan(score := next(scores)):
            outcomes.append(Unread(image, f"{image.name}: its score is NaN, neither normal nor anomalous"))
        else:
            anomalous = None if threshold is None else bool(decide(score, threshold))
            outcomes.append(ScoredImage(image, float(score), anomalous, None if mapped is None else mapped(value)))
    return outcomes


def score_rows(loaded: LoadedDetector, arrays: list[np.ndarray], batch_size: int) -> np.ndarray:
    """Scores [n] of n images, each the highest of its tiles [k, h, w, c]."""
    scores = _by_batches(functools.partial(score_images, loaded.detector, loaded.state), arrays, batch_size)
    return np.maximum.reduceat(scores, np.cumsum([0, *map(len, arrays[:-1])]))


def map_image(loaded: LoadedDetector, pixels: np.ndarray, tiling: Tiling = None, batch_size: int = 64) -> np.ndarray:
    """The anomaly map [h, w] of an image [H, W, C]: as the detector sees it, or put together from its tiles."""
    rows = _Rows(read_for(loaded, pixels, tiling), pixels.shape[:2])
    return _map_of(loaded, rows, tiling=tiling, batch_size=batch_size)


def _map_of(loaded: LoadedDetector, rows: _Rows, *, tiling: Tiling, batch_size: int) -> np.ndarray:
    maps = _by_batches(functools.partial(map_images, loaded.detector, loaded.state), [rows.array], batch_size)
    if len(maps) == 1:
        return maps[0]
    if tiling is None:
        return assemble(maps, trained_grid(loaded))
    height, width, _ = loaded.image_shape
    return assemble(maps, grid_of(rows.size, tiles_wanted(rows.size, tiling), ratio=width / height))


def _by_batches(function, arrays: list[np.ndarray], batch_size: int) -> np.ndarray:
    """What a function of (images, batch size) makes of arrays of images."""
    return function(np.concatenate([as_float(array) for array in arrays]), batch_size)
