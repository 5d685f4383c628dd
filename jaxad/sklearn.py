"""jaxad's detectors as scikit-learn estimators of images, for pipelines, grid searches and habits.

    from jaxad.sklearn import AnomalyDetector
    model = AnomalyDetector("isolation_forest", target_fpr=0.01).fit(images)
    model.predict(new_images)                # -1 anomalous, +1 normal

Signs are scikit-learn's: higher `score_samples` are more normal, `decision_function` is negative for anomalies. The
rest of jaxad has it the other way round: `score_samples` is minus a detector's score.
"""

import dataclasses
import functools
import math
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from jaxad.data import check_images
from jaxad.data.images import check_channels_last
from jaxad.methods import DETECTORS, entry_of
from jaxad.methods.common.labels import anomalies_per_batch as _anomalies
from jaxad.methods.common.labels import steps_of
from jaxad.metrics.thresholds import Threshold, false_positive_rate
from jaxad.training.calibration import calibrate
from jaxad.training.inputs import check_varied
from jaxad.training.loop import fit
from jaxad.training.scoring import map_images, score_images
from jaxad.types import Detector

AUTO = 0.05  # of normal images may be flagged where nothing else is said


class AnomalyDetector(OutlierMixin, BaseEstimator):
    """Any detector of `jaxad.methods.DETECTORS` behind `fit`, `score_samples`, `decision_function` and `predict`.

    Args:
      detector: a method's name, for its default settings, or its config, such as `AMAConfig(width=0.25)`.
      steps: training steps; by default those of the config, or one pass over the images where it has none, as the
        methods that remember images need. Given here, they replace those of the config.
      batch_size: images of a training step.
      target_fpr: share of normal images that may be flagged, 0 to 0.5, or "auto" for 0.05. It may be set after
        `fit`, too: `offset_` follows at once. With 0 the most anomalous of the held-out images sets the threshold.
      holdout: share of the normal images that is kept from training, for the threshold. Scores of images that were
        trained on would promise fewer false alarms than new images bring.
      random_state: of weights, order of the images and choice of those held out; an int gives the same model again.

    Attributes, after `fit`:
      offset_: what `decision_function` subtracts from `score_samples`.
      threshold_: the `jaxad.metrics.thresholds.Threshold` behind it: how it was chosen, from how many images.
      held_out_scores_: [n] `score_samples` of the images held out.
      image_shape_: (H, W, C) of an image.
      config_, state_, history_: of the detector, for use with the rest of jaxad.
    """

    def __init__(
        self,
        detector: Any = "nearest_neighbours",
        *,
        steps: int | None = None,
        batch_size: int = 32,
        target_fpr: float | str = "auto",
        holdout: float = 0.2,
        random_state: Any = None,
    ) -> None:
        self.detector = detector
        self.steps = steps
        self.batch_size = batch_size
        self.target_fpr = target_fpr
        self.holdout = holdout
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on images.

        Args:
          X: [N, H, W, C] or [N, H, W], uint8 or floats in [0, 1].
          y: [N], 1 for normal images and -1 for known anomalies; None where all are taken as normal. Methods that
            learn from anomalies (`jaxad.methods.learners("anomalies")`) do so, with as many in every batch as their
            papers have; others are not shown them, so that a grid search may score by the same y. For one that learns
            classes y holds those of normal images instead, 0 upwards.

        Raises:
          ValueError: images, labels or settings that do not fit, no anomaly for a method that needs some, images to
            train on that are all equal or each of one colour, and training that diverged.
        """
        name, config = _method(self.detector)
        self._check()
        images = _images(X)
        normal, labels = _labels(y, len(images), name, config)
        seed = check_random_state(self.random_state).randint(2**31)
        held = self._held_out(normal, seed)
        train = np.setdiff1d(normal if labels is None else np.arange(len(images)), held)
        check_varied(images[train])
        batch_size = min(self.batch_size, len(train))
        steps = steps_of(config, len(train), batch_size, self.steps)
        if hasattr(config, "steps"):
            config = dataclasses.replace(config, steps=steps)
        detector = _built(name, config)
        options = {"steps": steps, "batch_size": batch_size}
        if labels is not None:
            options |= {"labels": labels[train], "anomalies_per_batch": _anomalies(config, batch_size, labels[train])}
        state, history = fit(detector, jax.random.key(seed), images[train], **options)
        if history.diverged:
            raise ValueError(f"{name} diverged in training: lower its learning_rate, or check the images")
        ordinary = np.setdiff1d(normal, held)
        state = calibrate(detector, state, images[ordinary])
        self.detector_, self.config_, self.state_ = detector, config, state
        self.history_, self.image_shape_ = history.info, images.shape[1:]
        self.held_out_scores_ = self._scores(images[held])
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """How normal images are: [N] float32, higher = more normal, not bounded."""
        check_is_fitted(self, "state_")
        return self._scores(self._fitting(X))

    def decision_function(self, X: Any) -> np.ndarray:
        """`score_samples` minus `offset_`: [N], negative for anomalies."""
        return self.score_samples(X) - np.float64(self.offset_)

    def predict(self, X: Any) -> np.ndarray:
        """-1 for anomalies, 1 for normal images: [N] ints."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def anomaly_maps(self, X: Any) -> np.ndarray:
        """Where images are anomalous: [N, H, W] float32, higher = more anomalous; ValueError if the method has none."""
        check_is_fitted(self, "state_")
        return map_images(self.detector_, self.state_, self._fitting(X))

    @property
    def threshold_(self) -> Threshold:
        """On the scale of a jaxad score: higher is more anomalous."""
        check_is_fitted(self, "state_")
        return _threshold(-self.held_out_scores_, self._contamination())

    @property
    def offset_(self) -> float:
        """The least `score_samples` of what is called normal."""
        return -self.threshold_.value

    def __sklearn_tags__(self) -> Any:
        """Images are what it takes. (Asked for by scikit-learn from version 1.6.)"""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = False, True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle holds: arrays and settings; the functions are built anew."""
        content = dict(super().__getstate__())
        content.pop("detector_", None)
        if "state_" in content:
            content["state_"] = jax.device_get(content["state_"])
        return content

    def __setstate__(self, content: dict[str, Any]) -> None:
        super().__setstate__(content)
        if "state_" in content:
            self.state_ = jax.tree.map(jnp.asarray, self.state_)
            self.detector_ = _built(*_method(self.config_))

    def _check(self) -> None:
        """Settings are looked at by `fit`, as scikit-learn wants it."""
        self._contamination()
        if not isinstance(self.holdout, float | np.floating) or not 0 < self.holdout < 1:
            raise ValueError(f"holdout is {self.holdout!r}; give a share of the images between 0 and 1, such as 0.2")
        for name in ("batch_size", "steps"):
            value = getattr(self, name)
            if value is None and name == "steps":
                continue
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(f"{name} is {value!r}; give a whole number of at least 1")

    def _contamination(self) -> float:
        if self.target_fpr == "auto":
            return AUTO
        number = isinstance(self.target_fpr, int | float | np.number)
        if not number or not 0 <= self.target_fpr <= 0.5:
            raise ValueError(f"target_fpr is {self.target_fpr!r}; give a share from 0 to 0.5, or 'auto'")
        return float(self.target_fpr)

    def _held_out(self, normal: np.ndarray, seed: int) -> np.ndarray:
        """Which of the normal images set the threshold."""
        if len(normal) < 2:
            raise ValueError(f"there are {len(normal)} normal images; 2 are needed: one to train on, one to hold out")
        count = min(max(1, round(self.holdout * len(normal))), len(normal) - 1)
        return np.random.default_rng(seed).choice(normal, count, replace=False)

    def _fitting(self, X: Any) -> np.ndarray:
        images = _images(X)
        if images.shape[1:] != self.image_shape_:
            raise ValueError(f"images are {images.shape[1:]}, those of fit {self.image_shape_}; resize or convert them")
        return images

    def _scores(self, images: np.ndarray) -> np.ndarray:
        return -score_images(self.detector_, self.state_, images)


def _method(wanted: Any) -> tuple[str, Any]:
    """The name and config of a method that is given by either."""
    if not isinstance(wanted, str):
        return entry_of(wanted).name, wanted
    entry = DETECTORS.named(wanted)
    try:
        return wanted, entry.config()
    except TypeError as error:  # a setting without a default
        remedy = f"give a {entry.config.__name__} instead of its name"
        raise ValueError(f"detector {wanted!r} has no default settings; {remedy}") from error


def _images(X: Any) -> np.ndarray:
    images = np.asarray(X)
    if images.ndim == 2:
        side = math.isqrt(images.shape[1])
        shape = f"{side}, {side}" if side**2 == images.shape[1] else "height, width"
        raise ValueError(f"X has shape {images.shape}; detectors look at images: give X.reshape(-1, {shape})")
    images = check_images(images[..., None] if images.ndim == 3 else images, "X")
    check_channels_last(images.shape, "X")
    return images


def _labels(y: Any, count: int, name: str, config: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Which images are normal, and what the detector is told of all [N]: None if nothing."""
    everything, kind = np.arange(count), DETECTORS[name].labels
    if kind == "masks":
        raise ValueError(f"{name} learns from masks of defects, which scikit-learn has no place for: use jaxad.fit")
    needy = f"{name} learns from labelled anomalies: give y with some -1"
    if y is None and getattr(config, "needs_anomalies", False):
        raise ValueError(f"y is None; {needy}")
    if y is None:
        if kind == "classes":
            raise ValueError(f"y is None; {name} needs the class of every normal image, 0 upwards")
        return everything, None
    y = np.asarray(y)
    if y.shape != (count,):
        raise ValueError(f"y has shape {y.shape}; give one label for each of the {count} images")
    if kind == "classes":
        if not np.issubdtype(y.dtype, np.integer) or y.min() < 0 or y.max() >= config.classes:
            span = f"integers from 0 to {config.classes - 1}"
            raise ValueError(f"y holds {np.unique(y)[:5]}; {name} needs the classes of normal images: {span}")
        return everything, y
    if not np.isin(y, (-1, 1)).all():
        raise ValueError(f"y holds {np.unique(y)[:5]}; give 1 for normal images and -1 for anomalies, or None")
    normal = np.flatnonzero(y == 1)
    if getattr(config, "needs_anomalies", False) and len(normal) == count:
        raise ValueError(f"y holds no -1; {needy}")
    return normal, (y == -1).astype(np.int32) if kind == "anomalies" else None


def _threshold(scores: np.ndarray, target_fpr: float) -> Threshold:
    """That of held-out scores, higher = more anomalous."""
    if target_fpr > 0:
        return false_positive_rate(scores, target_fpr)
    value = float(np.max(scores))
    return Threshold(value, "largest", len(scores), {"expected_at_most": 1 / (len(scores) + 1)})


@functools.lru_cache(maxsize=16)
def _built(name: str, config: Any) -> Detector:
    """One detector for each config: clones and folds of a cross-validation share its compiled programs."""
    return DETECTORS[name].build(config)
