"""Photographs of a run that no threshold was set on: those of its test, as they are stored."""

import csv
import typing
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxad._utils.files import from_json
from jaxad.data.config import TaskConfig
from jaxad.data.lazy import LazyImage, find_images
from jaxad.runs.detection import depth_of
from jaxad.runs.folder import open_run
from jaxad.runs.saving import LoadedDetector

MOST = 64


def held_out(run: str | Path, loaded: LoadedDetector, paths: Sequence[Path] = (), *, most: int = MOST) -> np.ndarray:
    """Photographs [N, H, W, C] uint8 of one shape, spread evenly over what there is.

    Args:
      run: folder of a finished run, or its best/ folder.
      loaded: its detector.
      paths: image files, folders or archives; by default the files of the run's test or, where its images are no files,
        its test images, which have the detector's size.
      most: how many at most.

    Raises:
      ValueError: a run that does not say what it was tested on, and no paths; what cannot be read.
    """
    if paths:
        return _alike(find_images(paths, depth=depth_of(loaded)), most)
    run = Path(run)
    listed = next((p / "predictions.csv" for p in (run, run.parent) if (p / "predictions.csv").is_file()), None)
    if listed is None:
        raise ValueError(f"{run} does not say what it was tested on: name images to compare with (--images)")
    with open(listed, newline="") as file:
        tested = [Path(row["id"]) for row in csv.DictReader(file) if row["part"] == "test"]
    if files := [path for path in tested if path.is_file()]:
        return _alike(find_images(files, depth=depth_of(loaded)), most)
    try:
        images = _test_images(listed.parent, loaded)
    except ValueError as error:
        raise ValueError(f"the test images of {run} are not to be had ({error}): name others (--images)") from error
    if images.dtype != np.uint8:
        raise ValueError(f"the test images of {run} are {images.dtype}, and an artefact takes bytes: name others")
    return images[_spread(len(images), most)]


def _test_images(folder: Path, loaded: LoadedDetector) -> np.ndarray:
    """Those of the task that a run was begun with, loaded once more."""
    with open_run(folder, write=False) as opened:
        stored = opened.config
    hints = typing.get_type_hints(TaskConfig)
    known = {
        name: from_json(hints[name], stored[name], name) for name in hints if name in stored.keys() - {"auto_side"}
    }
    if loaded.details.get("tiles") or "dataset" not in known:
        raise ValueError("they are no files")
    # At the detector's size, whatever was asked for: "auto" means something else to each kind of run.
    config = TaskConfig(**known | {"image_size": tuple(loaded.image_shape[:2])})
    return config.load_task(stored.get("seed", 0)).test.images


def _alike(images: Sequence[LazyImage], most: int) -> np.ndarray:
    """Of a few more images than wanted those of the shape that most of them have."""
    read = [images[place].read() for place in _spread(len(images), 2 * most)]
    shapes = Counter(pixels.shape for pixels in read if pixels.dtype == np.uint8)
    if not shapes:
        raise ValueError(f"{images[0].name} and all others have more than 8 bits, and an artefact takes bytes")
    (shape, _), *_ = shapes.most_common(1)
    kept = [pixels for pixels in read if pixels.shape == shape and pixels.dtype == np.uint8]
    return np.stack(kept[:most])


def _spread(count: int, most: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))
