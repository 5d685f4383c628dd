"""What methods are told of their training images, and how long and on what batches they train for it."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxad.data import Task
from jaxad.methods.registry import learners


def with_classes(config: Any, task: Task, settings: Sequence[str] = ()) -> Any:
    """The config of a method that tells normal classes apart, for as many as the training images have.

    Any other config, and one whose settings ("classes=10") say how many there are, stays as it is.
    """
    said = any(setting.partition("=")[0] == "classes" for setting in settings)
    if getattr(config, "labels", None) != "classes" or task.train.classes is None or said:
        return config
    return dataclasses.replace(config, classes=max(2, len(np.unique(task.train.classes))))


def training_labels(name: str, config: Any, task: Task) -> np.ndarray | None:
    """What `jaxad.fit` is to be given as labels [N] int32, None for nothing.

    They are 1 where anomalous for a method that learns from anomalies, if any are labelled, and the classes from 0 of
    normal images for one that learns to tell these apart.

    Args:
      name, config: of the method; the class attribute `labels` of its config says what it learns from.

    Raises:
      ValueError: a method that learns from masks, one that needs classes where the task has not at least two, one that
        needs labelled anomalies where there are none, and labelled anomalies for one that cannot use them.
    """
    wanted, known = getattr(config, "labels", None), int(task.train.labels.sum())
    if wanted == "masks":
        raise ValueError(f"{name} learns from masks of defects, and {task.name} trains on normal images")
    if wanted == "anomalies":
        if known == 0 and getattr(config, "needs_anomalies", False):
            raise ValueError(
                f"{name} learns from labelled anomalies, and {task.name} has none to train on: give --labelled 10"
            )
        return task.train.labels.astype(np.int32) if known else None
    if known:
        raise ValueError(
            f"{name} cannot use labelled anomalies, and {task.name} has {known} to train on: choose one of "
            f"{', '.join(learners('anomalies'))}, or leave out --labelled"
        )
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


def normal_images(task: Task) -> np.ndarray:
    """The training images [n, H, W, C] that are not labelled anomalous, for calibration."""
    return task.train.images if not task.train.labels.any() else task.train.images[task.train.labels == 0]


def anomalies_per_batch(config: Any, batch_size: int, labels: np.ndarray | None) -> int | None:
    """How many labelled anomalies a batch gets, as an argument of `jaxad.fit`; None where they come as they are.

    That is the share of a batch that the class attribute `anomaly_share` of a method's config states, or theirs of the
    training images where it is more; at least one image of each kind.

    Args:
      labels: [N], 1 = anomalous; None or without any where nothing is labelled.
    """
    share = getattr(config, "anomaly_share", None)
    if share is None or labels is None or not np.any(labels > 0) or batch_size < 2:
        return None
    count = max(math.ceil(share * batch_size), round(float(np.mean(labels > 0)) * batch_size))
    return min(max(count, 1), batch_size - 1)


def schedule_notes(config: Any, steps: int) -> list[str]:
    """A line where the learning rate follows a schedule longer than the training, along which it hardly falls."""
    scheduled = getattr(config, "schedule_steps", None)
    if scheduled is None or scheduled <= steps:
        return []
    return [
        f"The learning rate follows a schedule of {scheduled:,} steps, of which {steps:,} were trained "
        "(schedule_steps null makes it one of the training)."
    ]


def steps_of(config: Any, images: int, batch_size: int, asked: int | None = None) -> int:
    """Training steps: as asked, those of the config, its class's `default_steps`, or one pass over the images."""
    if asked is not None:
        return asked
    passes = math.ceil(images / batch_size)
    return getattr(config, "steps", None) or getattr(config, "default_steps", None) or passes
