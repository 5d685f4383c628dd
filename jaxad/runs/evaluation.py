"""The one test of a finished detector: its threshold, its figures, and what a report shows of it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxad._utils.files import Prediction
from jaxad.data import Task, held_out_normals
from jaxad.data.batches import to_float
from jaxad.data.protocols.tiled import held_out_normal_scores
from jaxad.metrics import image as metrics
from jaxad.metrics import thresholds
from jaxad.metrics.aupimo import aupimo
from jaxad.metrics.pixel import normal_threshold, summarise_segmentation
from jaxad.metrics.thresholds import Threshold
from jaxad.training.scoring import map_images, score_images
from jaxad.types import Array, Detector, Key, State

EXAMPLES = 6  # normal and anomalous test images each that a report shows


class Evaluation(NamedTuple):
    """What a detector does on images that did not train it. Scores are raw, higher = more anomalous."""

    valid_scores: np.ndarray  # [M] float32
    test_scores: np.ndarray  # [N] float32
    threshold: Threshold  # set on the normal validation images
    test: dict[str, Any]  # metrics of the test scores, each {"value", "low", "high"}: see `metrics.image.summarise`
    pixels: dict[str, Any] | None = None  # metrics of the test maps, where there are masks and maps: see below


def evaluate(
    detector: Detector,
    state: State,
    task: Task,
    *,
    target_fpr: float = 0.05,
    key: Key | None = None,
    seed: int = 0,
    valid_scores: np.ndarray | None = None,
    resamples: int = 1000,
) -> Evaluation:
    """Set a threshold on held-out normal images, and test: to be done once, with a detector that is finished.

    Image scores are measured by AUROC, both AUPRs, FPR95 and the best F1, maps, where the detector has them and the
    task has masks, by pixel AUROC, AU-PRO, AUPIMO and RPRO and, at the threshold of RPRO, by precision, recall, F1 and
    IoU. Intervals of 95 % are bootstrapped over images.

    Args:
      detector: that is finished.
      state: trained and calibrated.
      task: its normal validation images set the thresholds, its test images are measured.
      target_fpr: share of normal images that the threshold may flag, in (0, 1).
      key: of the bootstrap over images; consumed. By default `jax.random.key(seed)`.
      seed: of the bootstrap of pixel metrics.
      valid_scores: [M] of all validation images, where they are known already.
      resamples: of the bootstraps, 1 or more.

    Returns:
      Scores of validation and test images, the threshold, and the metrics.

    Raises:
      ValueError: test images of one kind alone, no normal validation image, scores that are NaN, numbers out of range.

    >>> import jax, jaxad
    >>> task = jaxad.load_task("digits", normal_classes=["0"], anomaly_ratio=0.3)
    >>> detector = jaxad.detectors()["pca"].build(components=8)
    >>> state, _ = jaxad.fit(detector, jax.random.key(0), task.train.images, steps=4, batch_size=32)
    >>> state = jaxad.calibrate(detector, state, task.train.images)
    >>> found = jaxad.evaluate(detector, state, task, target_fpr=0.1, resamples=100)
    >>> found.test["auroc"]["value"] > 0.9, found.threshold.method
    (True, 'false_positive_rate')
    """
    if valid_scores is None:
        valid_scores = score_images(detector, state, task.valid.images)
    threshold = thresholds.false_positive_rate(held_out_normal_scores(task, valid_scores), target_fpr)
    scores = score_images(detector, state, task.test.images)
    key = jax.random.key(seed) if key is None else key
    measured = metrics.summarise(scores, task.test.labels, key=key, resamples=resamples)
    pixels = _evaluate_pixels(detector, state, task, seed=seed, resamples=resamples)
    return Evaluation(valid_scores, scores, threshold, measured, pixels)


def _evaluate_pixels(
    detector: Detector, state: State, task: Task, *, seed: int, resamples: int
) -> dict[str, Any] | None:
    """`summarise_segmentation` of the test maps and their "threshold", which is that of RPRO; None without masks."""
    if detector.score_map is None or task.test.masks is None or not task.test.masks.any():
        return None
    normal = map_images(detector, state, held_out_normals(task))
    found, cut = map_images(detector, state, task.test.images), normal_threshold(normal)
    measured = summarise_segmentation(
        found, found > cut, task.test.masks, normal_maps=normal, seed=seed, resamples=resamples
    )
    return measured | _mean_aupimo(found, task.test.masks, seed, resamples) | {"threshold": cut}


def _mean_aupimo(maps: np.ndarray, masks: np.ndarray, seed: int, resamples: int) -> dict[str, Any]:
    """The mean AUPIMO of the anomalous images, its interval over them, and the share that is missed altogether."""
    if masks.any((1, 2)).all():
        return {}  # no normal image sets the rates
    values = aupimo(maps, masks)
    values = values[np.isfinite(values)]
    drawn = np.random.default_rng(seed).choice(values, (resamples, len(values))).mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    of_all = {"value": float(values.mean()), "low": float(low), "high": float(high)}
    return {"aupimo": of_all, "aupimo_zero": float((values == 0).mean())}


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
) -> dict[str, Any]:
    """Scores, and a few test images of either kind beside what the detector makes of them.

    The errors of a detector without anomaly maps are absolute differences, as means over channels.

    Args:
      reconstruct: images [B, H, W, C] float32 -> as the detector sees them, if it does.
    """
    labels, scores, pixels = task.test.labels, evaluation.test_scores, evaluation.pixels
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
