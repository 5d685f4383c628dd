"""Bringing the images of a task to a size that a network takes."""

import numpy as np

from jaxad.data.images import resize
from jaxad.data.task import Split, Task

WAYS = ("resize", "pad")


def fit_images(images: np.ndarray, size: tuple[int, int], how: str = "resize") -> np.ndarray:
    """Images [N, H, W, C] of a size (height, width), brought there as `fit_size` does; raises ValueError likewise."""
    height, width = images.shape[1:3]
    _check_way(how)
    if (height, width) == tuple(size):
        return images
    if how == "resize":
        return resize(images, size)
    return np.pad(images, [(0, 0), *_margins(height, width, size), (0, 0)])


def _check_way(how: str) -> None:
    if how not in WAYS:
        raise ValueError(f"images cannot be fitted by {how!r}; choose one of {', '.join(WAYS)}")


def _margins(height: int, width: int, size: tuple[int, int]) -> list[tuple[int, int]]:
    """What padding adds above and below, left and right."""
    if height > size[0] or width > size[1]:
        raise ValueError(
            f"images of {height}x{width} do not fit into {size[0]}x{size[1]}: resize them, or ask for more"
        )
    return [((whole - part) // 2, whole - part - (whole - part) // 2) for part, whole in zip((height, width), size)]


def placed(
    size: tuple[int, int], fitted: tuple[int, int], how: str = "resize"
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where an image is after `fit_images`: what is left of its own rows and columns, and where these have gone.

    Args:
      size: (height, width) of the image.
      fitted: (height, width) that it was brought to.
    """
    _check_way(how)
    seen, shown = ((slice(0, height), slice(0, width)) for height, width in (size, fitted))
    if how == "pad":
        margins = _margins(*size, fitted)
        shown = tuple(slice(before, before + side) for (before, _), side in zip(margins, size))
    return seen, shown


def fit_size(task: Task, side: int, *, how: str = "resize") -> Task:
    """The task with square images of `side` pixels, and that in its details; itself where they are already.

    Args:
      how: "resize", which stretches other shapes to squares, or "pad", which puts black around smaller images.

    Raises:
      ValueError: an unknown way, or images too large to pad.
    """
    height, width = task.train.images.shape[1:3]
    _check_way(how)
    if height == width == side:
        return task

    def fitted(part: Split) -> Split:
        images, masks = fit_images(part.images, (side, side), how), None
        # Of stretched images masks have a meaning per pixel that a task of whole images does not use.
        if how == "pad" and part.masks is not None:
            masks = np.pad(part.masks, [(0, 0), *_margins(height, width, (side, side))])
        return part._replace(images=images, masks=masks)

    details = task.details | {"shape": [side, side, task.train.images.shape[3]], "fitted_from": [height, width, how]}
    return Task(task.name, *map(fitted, (task.train, task.valid, task.test)), details)
