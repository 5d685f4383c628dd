"""A detector on disk: one folder that scores new images, on any machine, without the run it came from.

detector.json          what it is, readable: method, config, image shape, threshold, training facts
weights.safetensors    weights and frozen statistics: its state without the fields that `Detector.transient` names
calibration.safetensors  scores of the held-out normal images that set its threshold, where they were given
"""

import functools
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxad._utils.files import from_json, to_json, write_json
from jaxad._utils.tree import get_field, with_fields
from jaxad._utils.version import VERSION
from jaxad.data.depth import ALONE, BYTES
from jaxad.methods import DETECTORS, entry_of
from jaxad.metrics.thresholds import Threshold
from jaxad.nn.pretrained import shapes_alone
from jaxad.runs import kept_scores, legacy
from jaxad.training import checkpoint
from jaxad.types import Detector, Key, State

_FORMAT = "jaxad-detector-3"


def how_read(details: Mapping[str, Any]) -> dict[str, Any]:
    """Of a task's details, how its images were read, which is how a detector has to read new ones; for `save`."""
    # Sets of arrays say nothing of ranges: theirs are bytes, or floats that have been brought to [0, 1].
    of_arrays = {"uint8": BYTES} if details.get("dtype") == "uint8" else ALONE.ranges
    tiles = {name: details[name] for name in ("tiles", "tiled_from") if name in details}
    return {"fit": details.get("fit", "stretch"), "ranges": details.get("ranges") or dict(of_arrays)} | tiles


class ImageShape(NamedTuple):
    """Of one image."""

    height: int
    width: int
    channels: int


class LoadedDetector(NamedTuple):
    """A detector as it was saved."""

    name: str  # of its method, in `DETECTORS`
    config: Any  # of the method's config class
    detector: Detector
    state: State  # calibrated if it was; its transient fields are as `init` leaves them, or None
    image_shape: ImageShape  # it was trained on
    threshold: Threshold | None
    details: Mapping[str, Any]  # training facts, as given to `save`
    calibration: np.ndarray | None = None  # [n] float32, sorted: scores of the normal images that set the threshold


class _Description(NamedTuple):
    """The content of detector.json."""

    format: str
    jaxad: str  # version that wrote it
    detector: str
    details: dict[str, Any]
    image_shape: ImageShape
    threshold: Threshold | None
    config: Any
    plugin: str | None = None  # the file that registered the method, where it is not one of the package


def save(
    folder: str | Path,
    config: Any,
    state: State,
    *,
    image_shape: Sequence[int],
    threshold: Threshold | None = None,
    details: Mapping[str, Any] | None = None,
    calibration: np.ndarray | None = None,
) -> None:
    """Save a trained, calibrated detector: files of readable settings and of arrays, of which no code is part.

    Args:
      folder: where to; it is made, and each file in it is replaced atomically.
      config: the method's settings, as its constructor was given them, such as an `AMAConfig`. They tell the method.
      state: what training and calibration have made of it.
      image_shape: (H, W, C) of the training images.
      threshold: above which a score is called anomalous, such as `jaxad.evaluate` has found; by default undecided.
      details: anything JSON can hold, such as a summary, seeds and metrics. What `how_read` finds in a task's details
        makes new images be read as those of the task were. `map_scale`, the highest value of anomaly
        maps that is ordinary on held-out normal images, sets the colours of heat maps.
      calibration: [n] scores of the held-out normal images that the threshold was set on. With them the threshold of
        what is loaded can be set for another rate of false alarms, and new scores be compared with them.

    Raises:
      ValueError: what is of no use to anyone who loads it (a config of no registered method, a state of another config
        or shape, a threshold or setting that is not finite, calibration scores that are NaN or none), or a folder that
        cannot be written.

    >>> import jax, jaxad, tempfile
    >>> entry = jaxad.detectors()["pca"]
    >>> config, images = entry.config(components=4), jaxad.load_task("digits").train.images[:64]
    >>> detector = entry.build(config)
    >>> state, _ = jaxad.fit(detector, jax.random.key(0), images, steps=2, batch_size=32)
    >>> state = jaxad.calibrate(detector, state, images)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     jaxad.save(folder, config, state, image_shape=images.shape[1:])
    ...     loaded = jaxad.load(folder)
    >>> loaded.name, loaded.config == config, loaded.image_shape
    ('pca', True, ImageShape(height=8, width=8, channels=1))
    """
    entry = entry_of(config)
    name, config_class, constructor = entry.name, entry.config, entry.build
    shape = tuple(image_shape)
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"image_shape is {shape}; give (height, width, channels), all positive integers")
    if threshold is not None and not math.isfinite(threshold.value):
        raise ValueError(f"threshold is {threshold.value}; save a finite one, or None to decide later")
    scores, detector = kept_scores.checked(calibration), constructor(config)
    # What is not saved tells of another config, too, but it may be missing, or as large as there were images.
    partial = entry.whole or all(get_field(state, name) is None for name in detector.transient)
    compared = [_lasting(detector, each) if partial else each for each in (_like(detector, shape), state)]
    if _forms(compared[0]) != _forms(compared[1]):
        raise ValueError(
            f"state is not one of {name} with this config and image_shape {shape}; give both as they were in training"
        )
    description = to_json(
        _Description(
            format=_FORMAT,
            jaxad=VERSION,
            detector=name,
            details=dict(details or {}),
            image_shape=ImageShape(*shape),
            threshold=threshold,
            config=config,
            plugin=_plugin(config_class),
        )
    )
    from_json(config_class, description["config"], "config")  # refuses what JSON has lost, such as infinities
    folder = Path(folder)
    # Weights carry what they belong to, so that files of two detectors are never taken for one.
    checkpoint.save(folder / "weights.safetensors", _lasting(detector, state), metadata=_identity(description))
    kept_scores.write(folder, scores, _with_threshold(description))
    write_json(folder / "detector.json", description)


def load(folder: str | Path, *, trainable: bool = True) -> LoadedDetector:
    """What `jaxad.runs.predictor.load`, which is `jaxad.load`, makes a predictor of."""
    folder = Path(folder)
    if not (folder / "detector.json").exists() and (folder / "best" / "detector.json").exists():
        folder = folder / "best"
    described, weights = folder / "detector.json", folder / "weights.safetensors"
    try:
        content = json.loads(described.read_bytes())
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"{folder} holds no detector (detector.json: {reason}); give the best/ folder of a finished run"
        ) from error
    except ValueError as error:
        raise _damage(described, error) from error
    if not isinstance(content, dict) or content.get("format") not in (_FORMAT, legacy.FORMAT):
        raise ValueError(
            f"{described} was not written by this version of jaxad; retrain, or use the version that wrote it"
        )
    if (name := str(content.get("detector"))) not in DETECTORS:
        file = content.get("plugin") or "the file that registers it"
        raise ValueError(
            f"there is no detector {name!r} here: import {file} first, give it to the script as --plugins, or put it "
            "into jaxad/methods/"
        )
    entry = DETECTORS[content["detector"]]
    config_class, constructor = entry.config, entry.build
    try:
        description = from_json(_Description, content, "description")
        config = from_json(config_class, legacy.described_as_now(description.config), "config")
    except ValueError as error:
        raise _damage(described, error) from error
    if checkpoint.read_metadata(weights) != _identity(content):
        raise ValueError(f"{weights} belongs to another detector than {described}; copy both files from one run")

    detector, shape = constructor(config), description.image_shape
    of_now = legacy.converted if description.format == legacy.FORMAT else legacy.converted_from_2
    convert = functools.partial(of_now, description.detector)
    state = checkpoint.restore(weights, _lasting(detector, _like(detector, shape)), convert=convert)
    if trainable:
        state = made_trainable(detector, state, shape)
    threshold = description.threshold
    scores = kept_scores.read(folder, threshold, _with_threshold(content))
    return LoadedDetector(description.detector, config, detector, state, shape, threshold, description.details, scores)


def made_trainable(detector: Detector, state: State, image_shape: Sequence[int]) -> State:
    """The state with its transient fields as `init` leaves them."""
    if not detector.transient:
        return state

    # `init` is asked itself: zeros would stop an optimiser that keeps its learning rate in its state. What only the
    # other fields need is not even compiled.
    def fresh(key: Key) -> dict[str, Any]:
        start = detector.init(key, jnp.zeros((1, *image_shape)))
        return {name: get_field(start, name) for name in detector.transient}

    with shapes_alone():
        return with_fields(state, jax.jit(fresh)(jax.random.key(0)))


def _plugin(config_class: type) -> str | None:
    """The file of a class that is not the library's, if it has one."""
    if config_class.__module__.partition(".")[0] == "jaxad":
        return None
    return getattr(sys.modules.get(config_class.__module__), "__file__", None)


def _damage(path: Path, error: ValueError) -> ValueError:
    return ValueError(f"{path} is damaged ({error}); copy it again from the run it came from")


def _like(detector: Detector, shape: Sequence[int]) -> State:
    """Shapes and types of the detector's state."""
    with shapes_alone():
        return jax.eval_shape(detector.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *shape), jnp.float32))


def _forms(state: State) -> Any:
    """What two states of one detector have in common."""
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state)


def _lasting(detector: Detector, state: State) -> State:
    """What scoring needs of a state."""
    return with_fields(state, dict.fromkeys(detector.transient))


def _identity(description: Mapping[str, Any]) -> dict[str, Any]:
    """What must agree between the files."""
    return {name: description[name] for name in ("format", "detector", "image_shape", "config")}


def _with_threshold(description: Mapping[str, Any]) -> dict[str, Any]:
    """What must agree with the scores that set the threshold, too."""
    return _identity(description) | {"threshold": description["threshold"]}
