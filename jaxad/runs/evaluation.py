"""The one test of a finished detector: its threshold, its figures, and what a report shows of it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxad._utils.files import Prediction
from jaxad.data import Task, held_out_normals
from jaxad.data.batches import to_float
from jaxad.metrics import image as metrics
from jaxad.metrics import thresholds
from jaxad.metrics.pixel import normal_threshold, summarise_segmentation
from jaxad.metrics.thresholds import Threshold
from jaxad.training.scoring import map_images, score_images
from jaxad.types import Array, Detector, Key, State

EXAMPLES = 6  # normal and anomalous test images each that a report shows


class Evaluation(NamedTuple):
    """What a detector does on images that did not train it."""

    valid_scores: np.ndarray  # [M] float32
    test_scores: np.ndarray  # [N] float32
    threshold: Threshold  # set on the normal validation images
    test: dict[str, Any]  # metrics of the test scores with their intervals, see `metrics.summarise`


def evaluate(
    detector: Detector,
    state: State,
    task: Task,
    *,
    key: Key,
    target_fpr: float = 0.05,
    valid_scores: np.ndarray | None = None,
    resamples: int = 1000,
) -> Evaluation:
    """Set a threshold and test, once.

    Args:
      state: calibrated.
      key: of the bootstrap; consumed.
      target_fpr: share of normal images that the threshold may flag, in (0, 1).
      valid_scores: [M], where they are known already.
      resamples: of the bootstrap.
    """
    if valid_scores is None:
        valid_scores = score_images(detector, state, task.valid.images)
    threshold = thresholds.false_positive_rate(valid_scores[task.valid.labels == 0], target_fpr)
    scores = score_images(detector, state, task.test.images)
    return Evaluation(
        valid_scores, scores, threshold, metrics.summarise(scores, task.test.labels, key=key, resamples=resamples)
    )


def evaluate_pixels(detector: Detector, state: State, task: Task, *, seed: int = 0) -> dict[str, Any] | None:
    """The test of pixels: `summarise_segmentation` of the test maps and their "threshold"; None without masks or maps.

    The threshold is that of RPRO, set on the maps of held-out normal images; `seed` is that of the bootstrap.
    """
    if detector.score_map is None or task.test.masks is None or not task.test.masks.any():
        return None
    normal = map_images(detector, state, held_out_normals(task))
    found, cut = map_images(detector, state, task.test.images), normal_threshold(normal)
    measured = summarise_segmentation(found, found > cut, task.test.masks, normal_maps=normal, seed=seed)
    return measured | {"threshold": cut}


def predictions(task: Task, evaluation: Evaluation) -> list[Prediction]:
    """A row for every validation and test image."""
    rows = []
    for name, part, scores in (
        ("valid", task.valid, evaluation.valid_scores),
        ("test", task.test, evaluation.test_scores),
    ):
        decisions = thresholds.decide(scores, evaluation.threshold)
        rows += [Prediction(*row) for row in zip(part.ids, [name] * len(scores), part.labels, scores, decisions)]
    return rows


def pictures(
    detector: Detector,
    state: State,
    task: Task,
    evaluation: Evaluation,
    reconstruct: Callable[[Array], Array] | None = None,
    pixels: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Scores, and a few test images of either kind beside what the detector makes of them.

    The errors of a detector without anomaly maps are absolute differences, as means over channels.

    Args:
      reconstruct: images [B, H, W, C] float32 -> as the detector sees them, if it does.
      pixels: from `evaluate_pixels`; its threshold says what maps flag.
    """
    labels, scores = task.test.labels, evaluation.test_scores
    chosen = np.concatenate([np.flatnonzero(labels == kind)[:EXAMPLES] for kind in (0, 1)])
    images = np.asarray(to_float(task.test.images[chosen]))
    reconstructions = errors = None
    if reconstruct is not None:
        rebuilt = np.asarray(reconstruct(images))
        reconstructions, errors = np.clip(rebuilt, 0, 1), np.abs(images - rebuilt).mean(axis=-1)
    if detector.score_map is not None:
        errors = map_images(detector, state, images)
    return {
        "test_scores": scores, "test_labels": labels,
        "valid_scores": evaluation.valid_scores, "valid_labels": task.valid.labels,
        "inputs": images, "reconstructions": reconstructions, "error_maps": errors,
        "example_labels": labels[chosen], "example_scores": scores[chosen],
        "example_masks": pixels and task.test.masks[chosen],
        "flagged": pixels and errors > pixels["threshold"],
    }  # fmt: skip
