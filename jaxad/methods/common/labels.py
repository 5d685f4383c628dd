"""What methods are told of their training images, where all of these are normal."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxad.data import Task


def with_classes(config: Any, task: Task, settings: Sequence[str] = ()) -> Any:
    """The config of a method that tells normal classes apart, for as many as the training images have.

    Any other config, and one whose settings ("classes=10") say how many there are, stays as it is.
    """
    said = any(setting.partition("=")[0] == "classes" for setting in settings)
    if getattr(config, "labels", None) != "classes" or task.train.classes is None or said:
        return config
    return dataclasses.replace(config, classes=max(2, len(np.unique(task.train.classes))))


def training_labels(name: str, config: Any, task: Task) -> np.ndarray | None:
    """Classes [N] int32 from 0 for a method that learns to tell normal classes apart, None for others.

    Args:
      name, config: of the method; the class attribute `labels` of its config says what it learns from.

    Raises:
      ValueError: a method that learns from masks, and one that needs classes where the task has not at least two.
    """
    wanted = getattr(config, "labels", None)
    if wanted == "masks":
        raise ValueError(f"{name} learns from masks of defects, and {task.name} trains on normal images")
    if wanted != "classes":
        return None
    if task.train.classes is None:
        raise ValueError(f"{name} needs the class of every normal image, and {task.name} has none")
    classes, labels = np.unique(task.train.classes, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"{name} needs two normal classes at least, and {task.name} has {len(classes)}")
    if len(classes) > config.classes:
        raise ValueError(
            f"{task.name} has {len(classes)} normal classes; give --settings classes={len(classes)}, or none"
        )
    return labels.astype(np.int32)
