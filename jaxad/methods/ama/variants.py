"""AMA beside itself: the ablations of its tables and other scores of the same training, by name."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, Literal

import numpy as np

from jaxad.methods.ama.config import AMAConfig
from jaxad.methods.ama.detector import ama
from jaxad.methods.ama.inference import AMAState, a_score
from jaxad.methods.common.labels import schedule_notes
from jaxad.training.scoring import score_images

CHANGES: dict[str, dict[str, Any]] = {
    "no-mirror": {"mirrored": False},  # Table 1
    "no-interpolation": {"interpolation": 0.0},
    "no-negatives": {"negatives": "none"},
    "a-score": {"score": "a", "moments": "mean", "sides": "both"},
    "r-score": {"score": "r"},
    "robust-score": {"score": "a", "moments": "median"},
    "one-sided-score": {"score": "a", "sides": "upper"},
    "l1-score": {"score": "l1"},
    "sipple": {"negatives": "cube"},  # Table 3
    "scaled-codes": {"negatives": "scaled"},  # the authors' code
    "normal-pairs": {"negative_pair": "normal"},  # another reading of Eq. 4
    "volume-shell": {"shell_draw": "volume"},
    "radius-shell": {"shell_draw": "radius"},
    "own-radius": {"radius": "median"},
}
Variant = Literal[
    "no-mirror", "no-interpolation", "no-negatives", "a-score", "r-score", "robust-score", "one-sided-score",
    "l1-score", "sipple", "scaled-codes", "normal-pairs", "volume-shell", "radius-shell", "own-radius",
]  # fmt: skip
SCORES = ("a-score", "r-score", "robust-score", "one-sided-score", "l1-score")  # the paper's A first
OF_NEGATIVES = ("no-negatives", "sipple", "scaled-codes", "normal-pairs", "volume-shell", "radius-shell", "own-radius")


def variant(config: AMAConfig, name: Variant) -> AMAConfig:
    """The config with one thing changed; ValueError for an unknown name."""
    if name not in CHANGES:
        raise ValueError(f"there is no variant {name!r} of AMA; choose from {', '.join(CHANGES)}")
    return dataclasses.replace(config, **CHANGES[name])


def compared(config: AMAConfig, names: Collection[Variant]) -> dict[str, AMAConfig]:
    """AMA, its other scores, of the same training, and the variants that are asked for, by name and in this order."""
    scores = {name: variant(config, name) for name in SCORES}
    others = {name: other for name, other in scores.items() if other != config}
    return {"ama": config} | others | {name: variant(config, name) for name in names}


def trained_as(config: AMAConfig) -> AMAConfig:
    """What a training depends on: all but the score."""
    return variant(config, "a-score")


def scored(configs: Mapping[str, AMAConfig], state: AMAState, images: np.ndarray) -> dict[str, np.ndarray]:
    """Scores [n] of images [n, H, W, C] by configs that differ in their score alone, whose R is computed once.

    Args:
      configs: by name.
      state: calibrated, of the training that they share.
    """
    found, r = {}, None
    for name, config in configs.items():
        if config.score == "l1":
            found[name] = score_images(ama(config), state, images)
            continue
        r = score_images(ama(config, score="r"), state, images) if r is None else r
        found[name] = r if config.score == "r" else np.asarray(a_score(config, state, r))
    return found


def in_time(config: AMAConfig, names: Collection[Variant]) -> AMAConfig:
    """The config whose negatives begin at once where variants compare them and the training ends before they begin."""
    late = config.negatives != "none" and config.first_negatives >= config.steps
    return dataclasses.replace(config, negative_start=0.0) if late and set(names) & set(OF_NEGATIVES) else config


def training_notes(asked: AMAConfig, used: AMAConfig, images: int, batch_size: int) -> list[str]:
    """What a reader should know of a training: its size, and what it does without because it is short.

    Args:
      asked, used: before and after `in_time`, the latter with the steps of the training.
      images, batch_size: that it trains on, and of a step.
    """
    epochs = used.steps * batch_size / images
    trained = f"{used.steps:,} steps of {batch_size} images are {epochs:.3g} epochs; the paper has 100."
    notes = [f"Widths are {used.width:g} times those of the paper, and {trained}"]
    begin = f"by their schedule they begin at step {dataclasses.replace(asked, steps=used.steps).first_negatives:,}"
    if asked.negative_start != used.negative_start:
        notes.append(f"Negatives begin at once, because variants compare them: {begin}, and training ends before.")
    elif used.negatives != "none" and used.first_negatives >= used.steps:
        notes.append(
            f"No synthetic negatives: {begin}, and training ends before (--ama.negative-start 0 begins at once)."
        )
    return [*notes, *schedule_notes(used, used.steps)]
