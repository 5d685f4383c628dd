"""An image set: the images of one source with what is known about each."""

from typing import NamedTuple

import numpy as np


class ImageSet(NamedTuple):
    """Images of one source with what is known about each."""

    name: str
    images: np.ndarray  # [N, H, W, C] uint8, or float32 in [0, 1] where the source has more than 8 bits
    labels: np.ndarray | None  # [N] int32 index into class_names
    class_names: tuple[str, ...]
    masks: np.ndarray | None  # [N, H, W] uint8, 1 = anomalous pixel
    ids: np.ndarray  # [N] str, where each image comes from, such as "fashion_mnist/train/123"; unique


def take(dataset: ImageSet, index: np.ndarray) -> ImageSet:
    """The images at `index` ([n] integers or [N] booleans), in that order."""
    return dataset._replace(
        images=dataset.images[index],
        labels=None if dataset.labels is None else dataset.labels[index],
        masks=None if dataset.masks is None else dataset.masks[index],
        ids=dataset.ids[index],
    )


def numbered(prefix: str, n: int) -> np.ndarray:
    """The ids "prefix/0" ... "prefix/n-1"."""
    return np.array([f"{prefix}/{i}" for i in range(n)])
