"""A task whose images are brought to the size that a network takes."""

import numpy as np

from jaxad.data.fitting import fit_images, fit_mask
from jaxad.data.task import Split, Task


def fit_task(task: Task, side: int, *, how: str = "stretch") -> Task:
    """The task with square images of `side` pixels, and that in its details; itself where they are already.

    Args:
      how: as for `jaxad.data.fitting.fit_images`, which this does to every part, and to masks.

    Raises:
      ValueError: an unknown way.
    """
    height, width, channels = task.train.images.shape[1:]
    if height == width == side:
        return task

    def fitted(part: Split) -> Split:
        masks = part.masks
        if masks is not None:
            masks = np.stack([fit_mask(mask, (side, side), how) for mask in masks])
        return part._replace(images=fit_images(part.images, (side, side), how), masks=masks)

    # Where loading has brought them to another size before, it has said from which.
    said = {"fitted_from": [height, width, how]} | task.details | {"shape": [side, side, channels], "fit": how}
    return Task(task.name, *map(fitted, (task.train, task.valid, task.test)), said)
