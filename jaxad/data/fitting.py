"""Bringing the images of a task to a size that a network takes."""

import numpy as np

from jaxad.data.images import resize
from jaxad.data.tasks import Split, Task

WAYS = ("resize", "pad")


def fit_size(task: Task, side: int, *, how: str = "resize") -> Task:
    """The task with square images of `side` pixels, and that in its details; itself where they are already.

    Args:
      how: "resize", which stretches other shapes to squares, or "pad", which puts black around smaller images.

    Raises:
      ValueError: an unknown way, or images too large to pad.
    """
    height, width = task.train.images.shape[1:3]
    if how not in WAYS:
        raise ValueError(f"images cannot be fitted by {how!r}; choose one of {', '.join(WAYS)}")
    if height == width == side:
        return task
    if how == "pad" and max(height, width) > side:
        raise ValueError(f"images of {height}x{width} do not fit into {side}x{side}: resize them, or ask for more")

    def fitted(part: Split) -> Split:
        if how == "resize":
            # Masks have a meaning per pixel that a task of whole images does not use.
            return part._replace(images=resize(part.images, (side, side)), masks=None)
        rows, columns = ((side - n) // 2 for n in (height, width))
        margins = [(rows, side - height - rows), (columns, side - width - columns)]
        masks = None if part.masks is None else np.pad(part.masks, [(0, 0), *margins])
        return part._replace(images=np.pad(part.images, [(0, 0), *margins, (0, 0)]), masks=masks)

    details = task.details | {"shape": [side, side, task.train.images.shape[3]], "fitted_from": [height, width, how]}
    return Task(task.name, *map(fitted, (task.train, task.valid, task.test)), details)
