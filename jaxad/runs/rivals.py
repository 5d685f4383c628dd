"""The rivals of a search: quick detectors, fitted to the same training images and ranked by the same validation.

What a search finds is of use only where it is better than what takes seconds. So these take part: whichever validation
prefers is returned, and the league table of all says whether searching was worth it.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxad._utils import files
from jaxad._utils.tree import with_fields
from jaxad.data import Task
from jaxad.methods import DETECTORS
from jaxad.methods.common.patch_features import FeatureConfig
from jaxad.metrics.pixel_jax import PIXEL_CRITERIA, pixel_truth
from jaxad.runs import saving
from jaxad.training.calibration import calibrate, subsample
from jaxad.training.early_stopping import value_of
from jaxad.training.loop import fit
from jaxad.training.scoring import map_images, score_images
from jaxad.training.staged import forgetting, outputs_computed
from jaxad.types import Detector, Key, State

BATCH = 32
MOST_FEATURES = 2000  # training images that detectors of features are fitted to
MOST_IMAGES = 20_000  # in all, beyond which the features of all of them are not a matter of minutes
LEAST_SIDE = 96  # pixels that smaller images are enlarged to before a network of photographs sees them
CLASSICAL = ("pca", "nearest_neighbours", "one_class_svm", "isolation_forest")
OF_FEATURES = ("padim", "linear_patches", "memory_bank", "feature_dictionary")


class Rival(NamedTuple):
    """A quick detector that takes part."""

    label: str  # in tables
    method: str  # in `DETECTORS`
    config: Any


class Entrant(NamedTuple):
    """What validation says of a detector, and what it costs."""

    label: str
    config: Any
    detector: Detector
    state: State  # calibrated; of a rival without what only training needs
    value: float  # the criterion on validation; NaN where it has none
    margin: float  # by how many standard deviations anomalies lie above normal images there: for ties
    valid_scores: np.ndarray  # [M]
    seconds: float  # to fit
    pixels: float | None = None  # pixel AUROC of the validation maps, where the choice is by these, too

    @property
    def merit(self) -> float:
        """What it is chosen by: the value, or the mean of it and of the pixel AUROC."""
        return self.value if self.pixels is None else (self.value + self.pixels) / 2


def check_rivals(names: Sequence[str]) -> None:
    """Raise ValueError for names of no quick detector; "auto" and "none" stand alone."""
    if len(names) == 1 and names[0] in ("auto", "none"):
        return
    for name in names:
        if name not in (*CLASSICAL, *OF_FEATURES):
            known = ", ".join((*CLASSICAL, *OF_FEATURES))
            raise ValueError(f"rivals has {name!r}; give auto, none, or some of {known}")


def features_for(features: FeatureConfig, image_shape: Sequence[int]) -> FeatureConfig:
    """Features of images [H, W, C]: of small ones, enlarged, where a network of photographs is asked."""
    small = features.backbone != "random" and features.side is None and min(image_shape[:2]) < LEAST_SIDE
    return dataclasses.replace(features, side=LEAST_SIDE) if small else features


def rivals_for(names: Sequence[str], features: FeatureConfig, task: Task) -> list[Rival]:
    """The rivals that are asked for, with settings for the images of a task.

    By default all of pixels and, unless there are too many images for that or too few pixels, all of features.
    """
    if tuple(names) == ("none",):
        return []
    shape = task.train.images.shape[1:]
    images = sum(len(part.images) for part in (task.train, task.valid, task.test))
    chosen = names
    if tuple(names) == ("auto",):
        possible = images <= MOST_IMAGES and shape[2] in (1, 3) and min(shape[:2]) >= 16
        chosen = (*CLASSICAL, *(OF_FEATURES if possible else ()))
    seen = int((task.train.labels == 0).sum())
    found = [Rival(name, name, with_room_for(seen, DETECTORS[name].config())) for name in chosen if name in CLASSICAL]
    features = features_for(features, shape)
    for name in chosen:
        if name in OF_FEATURES:
            levels = ("both", "deep") if name in ("padim", "linear_patches") else ("both",)
            for use in levels:
                config = DETECTORS[name].config(features=dataclasses.replace(features, use=use))
                found.append(Rival(name if use == "both" else f"{name}, {use}", name, config))
    return found


def with_room_for(images: int, config: Any) -> Any:
    """A config of a detector that remembers images, with room for no more of them than there are."""
    return dataclasses.replace(config, memory=min(config.memory, images))


def fitted(detector: Detector, images: np.ndarray, key: Key) -> State:
    """The calibrated state of a quick detector that has seen images [n, H, W, C] once; the key is consumed."""
    steps = math.ceil(len(images) / BATCH)
    state, _ = fit(detector, key, images, steps=steps, batch_size=min(BATCH, len(images)), chunk=steps)
    return calibrate(detector, state, images)


def enter(
    task: Task,
    rival: Rival,
    *,
    key: Key,
    criterion: str,
    by_pixels: bool = False,
    folder: Path | None = None,
) -> Entrant:
    """Fit a rival to the training images, and rank it by validation.

    Args:
      key: consumed.
      criterion, by_pixels: of validation, see `validated`.
      folder: where it is kept; a rival that is there already is not fitted again.
    """
    detector = DETECTORS[rival.method].build(rival.config)
    record = None if folder is None else folder / "entrant.json"
    if record is not None and record.exists() and (kept := _kept(rival, detector, folder)) is not None:
        return kept
    started, (passed, _) = time.perf_counter(), outputs_computed()
    images = task.train.images[task.train.labels == 0]
    if detector.stage is not None:
        images = subsample(images, MOST_FEATURES)
    state = fitted(detector, images, key)
    seconds = time.perf_counter() - started
    if detector.stage is not None and (now := outputs_computed())[0] == passed > 0:
        seconds += len(images) * now[1] / passed  # an earlier rival has paid for these features
    state = with_fields(state, dict.fromkeys(detector.transient))  # such as buffers of images
    valid = validated(detector, state, task, criterion, by_pixels)
    if folder is not None:
        saving.save(folder, rival.config, state, image_shape=task.train.images.shape[1:])
        files.write_json(record, valid._asdict() | {"valid_scores": valid.valid_scores.tolist(), "seconds": seconds})
    return Entrant(rival.label, rival.config, detector, state, seconds=seconds, **valid._asdict())


def _kept(rival: Rival, detector: Detector, folder: Path) -> Entrant | None:
    """A rival that an earlier session has fitted; None where its files are damaged, so that it is fitted again."""
    try:
        loaded, known = saving.load(folder, trainable=False), files.read_json(folder / "entrant.json")
        value, margin, seconds = _number(known["value"]), _number(known["margin"]), known["seconds"]
        valid = Validated(value, margin, np.asarray(known["valid_scores"], np.float32), known["pixels"])
    except (ValueError, KeyError, TypeError):
        return None
    return Entrant(rival.label, rival.config, detector, loaded.state, seconds=seconds, **valid._asdict())


def enter_all(
    task: Task,
    rivals: Sequence[Rival],
    *,
    key: Key,
    criterion: str,
    by_pixels: bool = False,
    folder: Path | None = None,
    on_entrant: Callable[[Entrant], None] = lambda entrant: None,
) -> list[Entrant]:
    """All rivals, one after another, each under a key of its own.

    Args:
      key: not consumed; the number of a rival is folded into it.
      criterion, by_pixels: of validation, see `validated`.
      folder: where each is kept in a folder of its own, so that a resumed run repeats none.
    """
    entrants = []
    for number, rival in enumerate(rivals):
        own = None if folder is None else folder / rival.label.replace(", ", "-")
        key_of_it = jax.random.fold_in(key, number)
        entrant = enter(task, rival, key=key_of_it, criterion=criterion, by_pixels=by_pixels, folder=own)
        entrants.append(entrant)
        on_entrant(entrant)
    return entrants


class Validated(NamedTuple):
    """What validation says of a detector; fields as in `Entrant`."""

    value: float
    margin: float
    valid_scores: np.ndarray
    pixels: float | None


def validated(detector: Detector, state: State, task: Task, criterion: str, by_pixels: bool = False) -> Validated:
    """What the validation images say.

    Args:
      criterion: as in `training.early_stopping.selecting`; one of pixels is NaN for a detector without anomaly maps.
      by_pixels: measure the pixel AUROC, too, by the masks; it is 0.5, chance, for a detector without anomaly maps, and
        for one whose maps are not finite or all equal.
    """
    scores = score_images(detector, state, task.valid.images)
    of_pixels = criterion in PIXEL_CRITERIA
    maps = truth = None
    if (of_pixels or by_pixels) and detector.score_map is not None:
        maps, truth = map_images(detector, state, task.valid.images), pixel_truth(task.valid.masks)
    if of_pixels:
        value = float("nan") if maps is None else value_of(maps, truth, criterion)
    else:
        value = value_of(scores, task.valid.labels, criterion)
    pixels = None
    if by_pixels:
        pixels = float(np.nan_to_num(0.5 if maps is None else value_of(maps, truth, "pixel_auroc"), nan=0.5))
    return Validated(value, margin_of(scores, task.valid.labels), scores, pixels)


def margin_of(scores: np.ndarray, labels: np.ndarray) -> float:
    """How far anomalous scores lie above normal ones: the difference of means in units of their joint deviation."""
    normal, anomalous = scores[labels == 0].astype(np.float64), scores[labels == 1].astype(np.float64)
    spread = math.sqrt((normal.var() + anomalous.var()) / 2)
    return float((anomalous.mean() - normal.mean()) / spread) if spread > 0 else 0.0


def best_of(entrants: Sequence[Entrant]) -> Entrant | None:
    """The one that validation prefers: by its merit, to three digits, then by the margin; None of none."""
    usable = [entrant for entrant in entrants if np.isfinite(entrant.value)]
    return max(usable, key=lambda entrant: (round(entrant.merit, 3), entrant.margin), default=None)


def megabytes(detector: Detector, state: State) -> float:
    """What a detector takes up, on disk or in memory, without what only training needs."""
    lasting = with_fields(state, dict.fromkeys(detector.transient))
    return sum(leaf.nbytes for leaf in jax.tree.leaves(lasting)) / 1e6


def milliseconds(detector: Detector, state: State, images: np.ndarray, rounds: int = 3) -> float:
    """Wall-clock of scoring one image by itself, compiled, features included: the median of some rounds."""
    one, taken = images[:1], []
    with forgetting():
        score_images(detector, state, one, 1)
        for _ in range(rounds):
            started = time.perf_counter()
            score_images(detector, state, one, 1)
            taken.append(time.perf_counter() - started)
    return 1e3 * sorted(taken)[len(taken) // 2]


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
