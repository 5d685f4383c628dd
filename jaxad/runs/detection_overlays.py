"""Pictures of scored photographs with their anomaly maps, at the photographs' own resolution."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxad._utils.files import write_atomic
from jaxad.data.fitting import placed
from jaxad.data.images import resize, to_dtype
from jaxad.data.lazy import THREADS, LazyImage, read_ahead
from jaxad.data.tiles import Tiling, resize_map, tiles_wanted
from jaxad.runs.detection import ScoredImage, fit_of, map_image
from jaxad.runs.detection_refined import Refiner
from jaxad.runs.detection_results import warn
from jaxad.runs.saving import LoadedDetector

LONGEST = 1600  # pixels of the longer side of a photograph that are drawn
REFINED = "refined"  # folder of refined maps, beside that of the others
SCALE_PIXELS = 1000  # of each map that go into the common colour scale


def draw_overlays(
    folder: Path,
    loaded: LoadedDetector,
    found: Sequence[ScoredImage],
    *,
    sample: Sequence[LazyImage] = (),
    tiling: Tiling = None,
    batch_size: int = 64,
    refiner: Refiner | None = None,
) -> None:
    """A picture of each image with its anomaly map, named by rank, all on one colour scale.

    An image that cannot be read any more is named on standard error.

    Args:
      sample: images whose maps make the colour scale, where the detector was saved without a `map_scale`.
      tiling, batch_size: as they were scored.
      refiner: the same pictures with refined maps go into a folder "refined" beside, on the same colour scale.
    """
    if not found:
        return
    from jaxad.report.overlays import overlay, png

    scale = loaded.details.get("map_scale") or _scale_of(loaded, sample or [item.image for item in found], tiling)
    for rank, item in enumerate(found, start=1):
        try:
            pixels = item.image.read()
            heat = map_image(loaded, pixels, tiling, batch_size)
            pixels, heat = at_its_resolution(loaded, pixels, heat, whole=tiles_wanted(pixels.shape[:2], tiling) == 1)
            drawn = {folder: heat}
            if refiner is not None:
                drawn[folder.with_name(REFINED)] = refiner(pixels, heat)
        except ValueError as error:
            warn(f"no overlay: {error}")
            continue
        verdict = {None: "", True: ", anomalous", False: ", normal"}[item.anomalous]
        stem = re.sub(r"[^\w.-]+", "_", "_".join(Path(item.image.name).with_suffix("").parts[-2:]))[-80:]
        for place, values in drawn.items():
            title = f"{item.image.name}\nscore {item.score:.4g}{verdict}"
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Glyph")  # of a file name that the font lacks: drawn as a box
                picture = png(overlay(pixels, values, scale=scale, title=title), compress_level=3)
            write_atomic(place / f"{rank:03d}_{stem}.png", [picture])


def at_its_resolution(
    loaded: LoadedDetector, pixels: np.ndarray, heat: np.ndarray, *, whole: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """A photograph [H, W, C] and its map [h, w] in its own size, at most 1,600 pixels a side.

    Args:
      whole: whether the map is of the photograph as it was fitted for the detector; otherwise of all of it.

    Returns:
      The photograph [H', W', C] float32 in [0, 1], and the map [H', W'], NaN where the detector saw nothing of it.
    """
    scale = min(1.0, LONGEST / max(pixels.shape[:2]))
    size = tuple(max(1, round(side * scale)) for side in pixels.shape[:2])
    photograph = to_dtype(resize(pixels[None], size)[0], np.float32)
    if not whole:
        return photograph, resize_map(heat, size)
    seen, shown = placed(pixels.shape[:2], heat.shape, fit_of(loaded))
    where = tuple(slice(round(part.start * scale), max(round(part.stop * scale), 1)) for part in seen)
    spread = np.full(size, np.nan, np.float32)
    spread[where] = resize_map(heat[shown], spread[where].shape)
    return photograph, spread


def _scale_of(loaded: LoadedDetector, images: Sequence[LazyImage], tiling: Tiling) -> float:
    """One colour scale for all, of a few pixels of the maps of some images."""
    from jaxad.report.overlays import colour_scale

    def some(image: LazyImage) -> np.ndarray:
        pixels = map_image(loaded, image.read(), tiling).reshape(-1)
        return pixels[:: -(-len(pixels) // SCALE_PIXELS)]

    maps = [value for _, value in read_ahead(images, some, ahead=THREADS)]
    kept = [value for value in maps if not isinstance(value, ValueError)]
    return colour_scale(np.concatenate(kept)) if kept else 1.0
