"""The yardstick of a detector: principal components of the same images, at most 32 pixels a side, in a second or so.

A detector was worth its time only where it finds more than these do; the notes of a run say whether it did.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxad.data import Task
from jaxad.methods import DETECTORS
from jaxad.methods.common.labels import normal_images
from jaxad.metrics.image import auroc, bootstrap_interval
from jaxad.runs import rivals
from jaxad.runs.evaluation import Evaluation
from jaxad.training.scoring import score_images
from jaxad.types import Array, Detector, Key, State

METHOD = "pca"


def fitted(task: Task, key: Key) -> tuple[Detector, State]:
    """The plain method, as its defaults have it, fitted to the normal training images of a task; consumes the key."""
    images, entry = normal_images(task), DETECTORS[METHOD]
    detector = entry.build(rivals.with_room_for(len(images), entry.config()))
    return detector, rivals.fitted(detector, images, key)


def measure(task: Task, name: str, evaluation: Evaluation, seed: int) -> tuple[dict[str, Any], list[str]]:
    """The plain method beside another.

    Args:
      name: of the other method.
      evaluation: its own.
      seed: of what is random in the plain one, and of the bootstrap.

    Returns:
      For results.json {"method", "auroc", "less": by how much its test AUROC is less, "value", "low" and "high" of a
      95 % bootstrap interval over the test images}, and a note that says so; nothing where the other is the same.
    """
    if name == METHOD:
        return {}, []
    fit, resample = jax.random.split(jax.random.key(seed))
    detector, state = fitted(task, fit)
    labels, pair = task.test.labels, (evaluation.test_scores, score_images(detector, state, task.test.images))
    own, plain = (jnp.asarray(scores, jnp.float32) for scores in pair)

    def less(rows: Array, labels: Array) -> Array:
        drawn = rows.astype(jnp.int32)
        return auroc(own[drawn], labels) - auroc(plain[drawn], labels)

    rows = np.arange(len(labels))
    low, high = (float(end) for end in bootstrap_interval(less, rows, labels, key=resample))
    value, found = float(auroc(plain, labels)), float(less(jnp.asarray(rows), jnp.asarray(labels)))
    facts = {"method": METHOD, "auroc": value, "less": {"value": found, "low": low, "high": high}}
    return facts, [_said(value, found, low, high)]


def _said(value: float, less: float, low: float, high: float) -> str:
    said = f"Principal components of the same images, at most 32 pixels a side, have a test AUROC of {value:.3f}"
    if high < 0:
        return f"{said}, {-less:.3f} [{-high:.3f}, {-low:.3f}] more: this detector was not worth its time here."
    if low > 0:
        return f"{said}, {less:.3f} [{low:.3f}, {high:.3f}] less."
    return f"{said}: a difference of {less:.3f} [{low:.3f}, {high:.3f}], which may be chance."
