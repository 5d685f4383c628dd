"""AMA beside itself: the ablations of its tables, by name."""

import dataclasses
from typing import Any, Literal

from jaxad.methods.ama.config import AMAConfig

CHANGES: dict[str, dict[str, Any]] = {
    "no-mirror": {"mirrored": False},  # Table 1
    "no-interpolation": {"interpolation": 0.0},
    "no-negatives": {"negatives": "none"},
    "r-score": {"score": "r"},
    "sipple": {"negatives": "cube"},  # Table 3
    "scaled-codes": {"negatives": "scaled"},  # the authors' code
    "normal-pairs": {"negative_pair": "normal"},  # another reading of Eq. 4
}
Variant = Literal["no-mirror", "no-interpolation", "no-negatives", "r-score", "sipple", "scaled-codes", "normal-pairs"]


def variant(config: AMAConfig, name: Variant) -> AMAConfig:
    """The config with one thing changed; ValueError for an unknown name."""
    if name not in CHANGES:
        raise ValueError(f"there is no variant {name!r} of AMA; choose from {', '.join(CHANGES)}")
    return dataclasses.replace(config, **CHANGES[name])
