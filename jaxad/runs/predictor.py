"""A saved detector at work in a program: scores, decisions and maps of new images, and thresholds that can be replaced.

Images are read, resized and cut as `jaxad detect` does: by `jaxad.runs.detection`, for both.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from jaxad.data.lazy import LazyImage, lazy_arrays
from jaxad.data.tiles import Tiling
from jaxad.metrics import thresholds
from jaxad.metrics.drift import DriftMonitor
from jaxad.metrics.thresholds import Threshold
from jaxad.runs import saving
from jaxad.runs.detection import ScoredImage, Unread, depth_of, score_stream, trained_grid
from jaxad.runs.detection_loop import check_paths
from jaxad.runs.saving import LoadedDetector

ImagesLike = str | Path | np.ndarray | Sequence[str | Path] | Sequence[np.ndarray]


class Predictions(NamedTuple):
    """What a predictor says of N images, in their order."""

    names: tuple[str, ...]  # paths, or array/0 and so on
    scores: np.ndarray  # [N] float32, raw, higher = more anomalous
    anomalous: np.ndarray | None  # [N] bool: the score is greater than the threshold; None without one
    maps: tuple[np.ndarray, ...] | None  # [h, w] float32 each; None where the detector has none or none were wanted
    unread: dict[str, str]  # why images have no score, by their names; they are in none of the others


class Predictor(LoadedDetector):
    """A detector that was saved, with everything that it needs to judge new images; several threads may share one.

    Nothing of it changes: what sets the threshold returns another predictor. The fields are those of
    `jaxad.LoadedDetector`.
    """

    __slots__ = ()

    def predict(
        self,
        images: ImagesLike,
        *,
        maps: bool = True,
        tiling: Tiling = None,
        batch_size: int = 64,
        skip_unread: bool = False,
        monitor: DriftMonitor | None = None,
    ) -> Predictions:
        """Scores, decisions and anomaly maps of images, as `jaxad detect` has them.

        Args:
          images: paths (files, folders, .npz archives; one or several), or arrays: [N, H, W, C], or [H, W, C] each, of
            any size, uint8 or floats in [0, 1].
          maps: whether to make anomaly maps, which takes about as long again; all are in memory in the end.
          tiling: cut images into so many overlapping tiles along each side; by default as in training.
          batch_size: images that are in memory at a time. No score depends on it.
          skip_unread: whether to leave out what cannot be read, rather than to raise.
          monitor: takes note of the scores, see `monitor`.

        Returns:
          A row for every image: a folder has many, and what is named twice has one.

        Raises:
          ValueError: no images, paths that do not exist, arrays of another form, settings out of range; an image that
            cannot be read, unless these are skipped.
        """
        if batch_size < 1 or (tiling not in (None, "auto") and tiling < 1):
            raise ValueError(f"batch_size is {batch_size} and tiling {tiling}; give at least 1")
        if monitor is not None:
            self._check_comparable(tiling)
        wanted = maps and self.detector.score_map is not None
        options = {"batch_size": batch_size, "tiling": tiling, "maps": wanted}
        scored: list[ScoredImage] = []
        unread: dict[str, str] = {}
        with contextlib.closing(score_stream(self, self._images(images), self.threshold, **options)) as stream:
            for outcome in (outcome for outcomes in stream for outcome in outcomes):
                if isinstance(outcome, ScoredImage):
                    scored.append(outcome)
                elif skip_unread:
                    unread[outcome.image.name] = outcome.reason
                else:
                    raise ValueError(_refusal(outcome))
        scores = np.array([item.score for item in scored], np.float32)
        if monitor is not None:
            monitor.add(scores)
        return Predictions(
            tuple(item.image.name for item in scored),
            scores,
            None if self.threshold is None else thresholds.decide(scores, self.threshold),
            tuple(item.map for item in scored) if wanted else None,
            unread,
        )

    def with_threshold(self, threshold: float | Threshold | None) -> "Predictor":
        """The same with another threshold, a number or what `jaxad.evaluate` has found; None decides nothing.

        Raises:
          ValueError: a threshold that is NaN.
        """
        if threshold is not None and not isinstance(threshold, Threshold):
            threshold = thresholds.fixed(threshold)
        return self._replace(threshold=threshold)

    def with_target_fpr(self, target_fpr: float) -> "Predictor":
        """The same with the threshold for another rate of false alarms, by the scores of its calibration.

        `threshold` then says of how many images it is (`n`), and between which rates the true one lies (`details`:
        "low", "high" at the confidence "level", and "expected_at_most", which few images push above the target).

        Args:
          target_fpr: share of normal images that the threshold may flag, in (0, 1).

        Raises:
          ValueError: a share outside (0, 1), or a detector whose calibration scores are not known.
        """
        if self.calibration is None:
            raise ValueError(
                "this detector was saved without the scores of its calibration, as by versions before 0.3.0; set the "
                "threshold on new normal images (with_normal_images), or give the folder of its run"
            )
        return self._replace(threshold=thresholds.false_positive_rate(self.calibration, target_fpr))

    def with_normal_images(
        self, images: ImagesLike, target_fpr: float = 0.05, *, tiling: Tiling = None, batch_size: int = 64
    ) -> "Predictor":
        """The same, calibrated on new normal images: as they are now, where they are taken, none of them trained on.

        Of detectors of tiles the rate is that of whole images then.

        Args:
          images, tiling, batch_size: as in `predict`.
          target_fpr: as in `with_target_fpr`, where is said what `threshold` tells; 1 / target_fpr - 1 images or more
            are enough for it.

        Raises:
          ValueError: what `predict` refuses, and a share outside (0, 1).
        """
        if not 0 < target_fpr < 1:
            raise ValueError(f"target_fpr is {target_fpr}; give a share between 0 and 1, such as 0.05")
        scores = np.sort(self.predict(images, maps=False, tiling=tiling, batch_size=batch_size).scores)
        scores.setflags(write=False)
        details = MappingProxyType(dict(self.details) | {"calibrated_on": {"tiling": tiling}})
        threshold = thresholds.false_positive_rate(scores, target_fpr)
        return self._replace(threshold=threshold, calibration=scores, details=details)

    def monitor(self, *, level: float = 0.01, tiling: Tiling = None) -> DriftMonitor:
        """What notices that a stream of scores no longer fits those of calibration; give it to `predict`.

        Args:
          level: the probability that a stream of images like those of calibration is ever said not to fit, at most.
          tiling: as in `predict`.

        Raises:
          ValueError: a level outside (0, 1), and what cannot be compared: a detector without calibration, or scores of
            tiles with those of whole images.
        """
        self._check_comparable(tiling)
        return DriftMonitor(self.calibration, self.threshold, level=level)

    def _check_comparable(self, tiling: Tiling) -> None:
        known = self.details.get("calibrated_on")
        if tiling != known["tiling"] if known else (tiling not in (None, 1) or trained_grid(self) is not None):
            raise ValueError(
                "scores of images in tiles do not compare with those of calibration, which are of single tiles or of "
                "whole images: calibrate on new normal images with the same tiling (with_normal_images)"
            )

    def _images(self, images: ImagesLike) -> list[LazyImage]:
        if isinstance(images, str | Path):
            images = [images]
        if not len(images):
            raise ValueError("there are no images: give paths or arrays")
        if all(isinstance(image, str | Path) for image in images):
            return check_paths(self, [Path(image) for image in images])
        arrays = [np.asarray(image) for image in images]
        for array in arrays:
            _check_array(array)
        return lazy_arrays(arrays, "array", depth_of(self))


def _check_array(array: np.ndarray) -> None:
    if array.ndim != 3 or 0 in array.shape:
        raise ValueError(f"an image has shape {array.shape}; give [N, H, W, C] or several [H, W, C]")
    if array.dtype == np.uint8:
        return
    if array.dtype.kind != "f":
        raise ValueError(f"an image has type {array.dtype}; give uint8, or floats in [0, 1]")
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= 1):
        raise ValueError(f"an image has values from {low:g} to {high:g}; give uint8, or floats in [0, 1]")


def _refusal(unread: Unread) -> str:
    return f"{unread.reason} (skip_unread=True leaves such images out)"


def load(folder: str | Path, *, trainable: bool = True) -> Predictor:
    """Load a detector that `jaxad.save` or a run has saved, also by version 0.1.0: it judges new images.

    Args:
      folder: where it was saved to, or the folder of a finished run, whose best/ it is.
      trainable: whether `step` shall work. Without it loading is faster, and the state's transient fields are None.

    Returns:
      A predictor: `predict` gives scores, decisions and anomaly maps of paths and arrays. Its fields are the detector
      with its state, settings, image shape, threshold and details. Training it further begins afresh: what only `step`
      needs, such as the optimiser's state, is not saved.

    Raises:
      ValueError: a file that is missing, damaged, of another program or version, a method that is not registered, or
        files that do not belong together; in one line, with the remedy.

    >>> import jax, jaxad, tempfile
    >>> entry, task = jaxad.detectors()["pca"], jaxad.load_task("digits", normal_classes=["0"])
    >>> config, images = entry.config(components=8), task.train.images
    >>> detector = entry.build(config)
    >>> state, _ = jaxad.fit(detector, jax.random.key(0), images, steps=4, batch_size=32)
    >>> state = jaxad.calibrate(detector, state, images)
    >>> threshold = jaxad.evaluate(detector, state, task, resamples=10).threshold
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     jaxad.save(folder, config, state, image_shape=images.shape[1:], threshold=threshold)
    ...     predictor = jaxad.load(folder)
    >>> found = predictor.predict(task.test.images)
    >>> found.scores.shape == found.anomalous.shape == task.test.labels.shape, bool(found.anomalous.any())
    (True, True)
    """
    loaded = saving.load(folder, trainable=trainable)
    return Predictor(*loaded)._replace(details=MappingProxyType(dict(loaded.details)))
