"""A detector on disk: one folder that scores new images, on any machine, without the run it came from.

architecture.json      what it is, readable: architecture, objective, image shape, threshold, training facts
weights.safetensors    weights and frozen statistics, without the optimiser's state
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jaxad
from jaxad.checkpoint import read_metadata, restore, save
from jaxad.detectors.autoencoder import AutoencoderConfig, AutoencoderState, autoencoder
from jaxad.files import to_json, write_json
from jaxad.search.child import ChildConfig, make_optimiser
from jaxad.search.rendering import summary
from jaxad.search.sizes import feature_sizes
from jaxad.search.space import Architecture
from jaxad.thresholds import Threshold
from jaxad.types import Detector

_FORMAT = "jaxad-detector-1"
_SHAPE = ("height", "width", "channels")


class LoadedDetector(NamedTuple):
    """A detector as it was saved."""

    detector: Detector
    state: AutoencoderState  # calibrated if it was; the optimiser starts afresh
    image_shape: tuple[int, int, int]  # (H, W, C) it was trained on
    threshold: Threshold | None
    details: dict[str, Any]  # training facts, as given to save_detector
    architecture: Architecture
    config: ChildConfig


def save_detector(
    folder: str | Path,
    *,
    architecture: Architecture,
    config: ChildConfig,
    state: AutoencoderState,
    image_shape: Sequence[int],
    threshold: Threshold | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Save a trained, calibrated autoencoder to `folder`, which is made; each file is replaced atomically.

    Args:
      image_shape: (H, W, C) of the training images.
      details: anything JSON can hold, such as seeds and metrics. `map_scale`, the highest value of anomaly maps that
        is ordinary on held-out normal images, sets the colours of heat maps.

    Raises:
      ValueError: a shape or threshold that is of no use to anyone who loads it, or a folder that cannot be written.
    """
    shape = feature_sizes(architecture, image_shape)[0]
    if threshold is not None and not math.isfinite(threshold.value):
        raise ValueError(f"threshold is {threshold.value}; save a finite one, or None to decide later")
    record = {
        "format": _FORMAT,
        "jaxad": jaxad.__version__,
        "detector": "autoencoder",
        "summary": summary(architecture),
        "image_shape": dict(zip(_SHAPE, shape)),
        "architecture": architecture.to_json(),
        "child": dataclasses.asdict(config),
        "steps": int(state.step),
        "threshold": None if threshold is None else threshold._asdict(),
        "details": dict(details or {}),
    }
    folder = Path(folder)
    # Weights carry what they belong to, so that files of two detectors are never taken for one.
    save(folder / "weights.safetensors", _kept(state), metadata=_identity(to_json(record)))
    write_json(folder / "architecture.json", record)


def load_detector(folder: str | Path) -> LoadedDetector:
    """Load what `save_detector` saved.

    Raises:
      ValueError: a file that is missing, damaged, of another program or version, or files that do not belong
        together; in one line, with the remedy.
    """
    folder = Path(folder)
    described = folder / "architecture.json"
    try:
        record = json.loads(described.read_bytes())
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"{folder} holds no detector (architecture.json: {reason}); give the best/ folder of a finished run"
        ) from error
    except ValueError as error:
        raise ValueError(f"{described} is damaged ({error}); copy it again from the run it came from") from error
    if not isinstance(record, dict) or record.get("format") != _FORMAT or record.get("detector") != "autoencoder":
        raise ValueError(
            f"{described} was not written by this version of jaxad; retrain, or use the version that wrote it"
        )
    try:
        architecture = Architecture.from_json(record["architecture"])
        config = ChildConfig(**record["child"])
        shape = tuple(record["image_shape"][name] for name in _SHAPE)
        feature_sizes(architecture, shape)
        threshold = None if record["threshold"] is None else Threshold(**record["threshold"])
        steps, details = max(record["steps"], 1), dict(record["details"])
        identity = _identity(record)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{described} is damaged ({error}); copy it again from the run it came from") from error

    detector = autoencoder(AutoencoderConfig(architecture=architecture, child=config, steps=steps))
    like = jax.eval_shape(detector.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *shape), jnp.float32))
    weights = folder / "weights.safetensors"
    if read_metadata(weights) != identity:
        raise ValueError(f"{weights} belongs to another detector than {described}; copy both files from one run")
    kept = restore(weights, _kept(like))
    state = AutoencoderState(opt_state=make_optimiser(config, steps).init(kept["params"]), **kept)
    return LoadedDetector(detector, state, shape, threshold, details, architecture, config)


def _kept(state: AutoencoderState) -> dict[str, Any]:
    """What scoring needs of a state."""
    return {name: value for name, value in state._asdict().items() if name != "opt_state"}


def _identity(record: Mapping[str, Any]) -> dict[str, Any]:
    """What must agree between the two files."""
    return {name: record[name] for name in ("format", "image_shape", "architecture", "child", "steps")}
