"""A task of tiles: large images cut into overlapping tiles, so that small defects keep their pixels.

Each tile is an image of its own, for training, validation and test: it is anomalous where its mask has an anomalous
pixel. Figures are of tiles then. A detector of tiles calls an image as anomalous as its worst tile, so its threshold is
set on the worst tile of each held-out normal image: its rate of false alarms is one of images.
"""

import math
from typing import Any

import numpy as np

from jaxad.data.task import Split, Task, limited_images, some
from jaxad.data.tiles import OVERLAP, Grid, cut, grid_of


def side_to_cut(tile: int, n: int) -> int:
    """Pixels along a side that n overlapping tiles of `tile` pixels come from."""
    return math.ceil(tile * (n - (n - 1) * OVERLAP))


def tiled_task(task: Task, n: int) -> Task:
    """The task with n x n tiles of every image in its place, and that in its details; itself for n = 1.

    Args:
      task: whose anomalous images have masks.
      n: tiles along each side, 1 or more; neighbours overlap by a quarter.

    Raises:
      ValueError: anomalous images without masks, of whose tiles nobody knows which are anomalous; no normal or no
        anomalous tile left in a part that had some; n below 1.
    """
    if n == 1:
        return task
    size = task.train.images.shape[1:3]
    grid = grid_of(size, n, ratio=size[1] / size[0])
    for name, part in (("validation", task.valid), ("test", task.test)):
        if part.labels.any() and part.masks is None:
            raise ValueError(
                f"{task.name}: {name} has anomalous images without masks, so that nobody knows which of their tiles "
                "are anomalous: leave tiles out, or give masks"
            )
    train, valid, test = (_tiled(part, grid) for part in (task.train, task.valid, task.test))
    for before, after in ((task.valid, valid), (task.test, test)):
        if before.labels.any() and not after.labels.any():
            raise ValueError(f"{task.name}: no tile of {some(before.ids[before.labels == 1])} has an anomalous pixel")
    details = task.details | {"tiles": n, "tiled_from": list(size), "tiled_normal": limited_images(task)}
    details["shape"] = list(train.images.shape[1:])
    return Task(task.name, train, valid, test, details)


def held_out_normal_scores(task: Task, valid_scores: np.ndarray) -> np.ndarray:
    """The scores [n] that a threshold is set on: of normal validation images; of tiles the highest of each such image.

    Args:
      valid_scores: [M] of all validation images, in their order.
    """
    normal, scores = task.valid.labels == 0, np.asarray(valid_scores)
    if task.details.get("tiles", 1) == 1:
        return scores[normal]
    size = task.details["tiled_from"]
    count = len(grid_of(tuple(size), task.details["tiles"], ratio=size[1] / size[0]).corners)
    return scores.reshape(-1, count)[normal.reshape(-1, count).all(1)].max(1)


def calibrated_on(task: Task) -> dict[str, Any]:
    """What a detector of the task is saved with to say that its threshold is of whole images, if it is one of tiles."""
    return {"calibrated_on": {"tiling": None}} if task.details.get("tiles", 1) != 1 else {}


def _tiled(part: Split, grid: Grid) -> Split:
    count = len(grid.corners)
    images = np.stack([tile for image in part.images for tile in cut(image, grid)])
    masks = None if part.masks is None else np.stack([tile for mask in part.masks for tile in cut(mask, grid)])
    labels = np.repeat(part.labels, count) if masks is None else masks.any((1, 2)).astype(part.labels.dtype)
    ids = np.array([f"{name} tile {top},{left}" for name in part.ids for top, left in grid.corners])
    return Split(images, labels, masks, ids, None if part.classes is None else np.repeat(part.classes, count))
