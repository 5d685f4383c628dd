"""The yardstick of a detector that is trained: principal components of the same pixels, which take a second or so.

Training was worth it only where it found more than these do; the notes of a run say whether it did, and by how much.
"""

import math
from typing import Any

import jax

from jaxad.data import Task
from jaxad.methods import DETECTORS
from jaxad.methods.common.labels import normal_images
from jaxad.metrics.image import auroc
from jaxad.runs.evaluation import Evaluation
from jaxad.training.calibration import calibrate
from jaxad.training.loop import fit
from jaxad.training.scoring import score_images
from jaxad.types import Detector, State

METHOD = "pca"
BATCH = 32


def fitted(task: Task, seed: int) -> tuple[Detector, State]:
    """The plain method, as its defaults have it, fitted to the normal training images of a task."""
    images, detector = normal_images(task), DETECTORS[METHOD].build()
    steps, batch = math.ceil(len(images) / BATCH), min(BATCH, len(images))
    state, _ = fit(detector, jax.random.key(seed), images, steps=steps, batch_size=batch, chunk=steps)
    return detector, calibrate(detector, state, images)


def measure(task: Task, name: str, evaluation: Evaluation, seed: int) -> tuple[dict[str, Any], list[str]]:
    """The plain method beside one that was trained.

    Args:
      name: of the method that was trained.
      evaluation: its own.
      seed: of the images that are remembered where there are too many.

    Returns:
      {"method", "auroc"} of the yardstick on the same test, for results.json, and a note on the difference; none where
      the method is the yardstick.
    """
    if name == METHOD:
        return {}, []
    detector, state = fitted(task, seed)
    value = float(auroc(score_images(detector, state, task.test.images), task.test.labels))
    more = evaluation.test["auroc"]["value"] - value
    said = f"Principal components of the same pixels have a test AUROC of {value:.3f}"
    worth = f"{more:.3f} less" if more >= 0 else f"{-more:.3f} more: training was not worth it here"
    return {"method": METHOD, "auroc": value}, [f"{said}, {worth}."]
