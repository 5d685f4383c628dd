"""A saved detector at work: files of images are scored, ranked, written as a table and drawn."""

import csv
import io
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxad._utils.files import write_atomic, write_text
from jaxad.data import to_channels, to_dtype
from jaxad.data.fitting import fit_images
from jaxad.data.lazy import LazyImage
from jaxad.metrics.thresholds import Threshold, decide
from jaxad.report.overlays import colour_scale, overlay
from jaxad.runs.progress import Progress, table
from jaxad.runs.saving import LoadedDetector
from jaxad.training.scoring import map_images, score_images

SHOWN = 20  # rows of the printed table
SCALE_PIXELS = 1000  # of each map that go into the common colour scale


class ScoredImage(NamedTuple):
    """What became of an image."""

    image: LazyImage
    score: float
    anomalous: bool | None  # None without a threshold


class Detections(NamedTuple):
    """What became of all images."""

    found: list[ScoredImage]  # most anomalous first
    scale: float | None  # where the colours of anomaly maps end
    unreadable: dict[str, str]  # why, by the name of the image


def read_for(loaded: LoadedDetector, image: LazyImage) -> np.ndarray:
    """An image as the detector was trained on: [H, W, C] float32 in [0, 1]; ValueError where it cannot be read."""
    shape = loaded.image_shape
    fitted = fit_images(image.read()[None], shape[:2], loaded.details.get("fit", "resize"))
    return to_dtype(to_channels(fitted, shape[2]), np.float32)[0]


def score_files(
    loaded: LoadedDetector,
    images: Sequence[LazyImage],
    threshold: Threshold | None,
    *,
    batch_size: int = 64,
    with_maps: bool = True,
    quiet: bool = False,
) -> Detections:
    """Score images, a batch in memory at a time.

    Args:
      threshold: a higher score is called anomalous; None only ranks.
      with_maps: whether a colour scale of anomaly maps is wanted, where the detector was saved without one.
      quiet: show no progress.
    """
    scores, pixels, read, unreadable = [], [], [], {}
    scale = loaded.details.get("map_scale")
    needs_maps = scale is None and with_maps and loaded.detector.score_map is not None
    with Progress(len(images), label="images", quiet=quiet) as progress:
        for start in range(0, len(images), batch_size):
            arrays = []
            for image in images[start : start + batch_size]:
                try:
                    arrays.append(read_for(loaded, image))
                    read.append(image)
                except ValueError as error:
                    unreadable[image.name] = str(error) if image.name in str(error) else f"{image.name}: {error}"
            if arrays:
                batch = np.stack(arrays)
                scores.append(score_images(loaded.detector, loaded.state, batch, batch_size))
                if needs_maps:
                    maps = map_images(loaded.detector, loaded.state, batch, batch_size).reshape(len(batch), -1)
                    pixels.append(maps[:, :: -(-maps.shape[1] // SCALE_PIXELS)])
            progress.update(min(start + batch_size, len(images)))
    if pixels:
        scale = colour_scale(np.concatenate(pixels))
    values = np.concatenate(scores) if scores else np.empty(0)
    anomalous = [None] * len(read) if threshold is None else decide(values, threshold).tolist()
    found = [ScoredImage(read[i], float(values[i]), anomalous[i]) for i in np.argsort(-values, kind="stable")]
    return Detections(found, scale, unreadable)


def write_scores(path: Path, found: Sequence[ScoredImage], threshold: Threshold | None) -> None:
    """A CSV of path, score, threshold and anomalous (1 or 0), as ranked; without a threshold its columns are empty."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "score", "threshold", "anomalous"))
    value = "" if threshold is None else threshold.value
    for image, score, anomalous in found:
        writer.writerow((image.name, score, value, "" if anomalous is None else int(anomalous)))
    write_text(path, text.getvalue())


def draw_overlays(
    folder: Path, loaded: LoadedDetector, found: Sequence[ScoredImage], *, scale: float | None, batch_size: int = 64
) -> None:
    """A picture of each image with its anomaly map, named by rank, all on one colour scale."""
    for start in range(0, len(found), batch_size):
        group = found[start : start + batch_size]
        images = np.stack([read_for(loaded, item.image) for item in group])
        maps = map_images(loaded.detector, loaded.state, images, batch_size)
        for rank, (item, pixels, anomaly_map) in enumerate(zip(group, images, maps), start=start + 1):
            verdict = {None: "", True: ", anomalous", False: ", normal"}[item.anomalous]
            title = f"{item.image.name}\nscore {item.score:.4g}{verdict}"
            figure = overlay(pixels, anomaly_map, scale=scale, title=title)
            stem = re.sub(r"[^\w.-]+", "_", "_".join(Path(item.image.name).with_suffix("").parts[-2:]))[-80:]
            picture = io.BytesIO()
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Glyph")  # of a file name that the font lacks: drawn as a box
                figure.savefig(picture, format="png", dpi=100)
            write_atomic(folder / f"{rank:03d}_{stem}.png", [picture.getvalue()])


def show_scores(found: Sequence[ScoredImage], threshold: Threshold | None) -> None:
    """Print the most anomalous images."""
    title = f"{len(found)} images, no threshold"
    if threshold is not None:
        count = sum(bool(item.anomalous) for item in found)
        title = f"{count} of {len(found)} images are anomalous (score > {threshold.value:.4g})"
    words = {None: None, True: "yes", False: "no"}
    rows = [(item.image.name, item.score, words[item.anomalous]) for item in found[:SHOWN]]
    table(title, ("image", "score", "anomalous"), rows)
    if len(found) > SHOWN:
        print(f"... {len(found) - SHOWN} more")
