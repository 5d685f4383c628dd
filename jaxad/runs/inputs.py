"""What the children of a search see of a task's images: pixels, or features that are computed once."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxad.data import Task
from jaxad.data.fitting import SMALL
from jaxad.methods.autoencoder import AutoencoderConfig, input_stage
from jaxad.methods.common.patch_features import FeatureConfig
from jaxad.nas import trial
from jaxad.nas.space import SearchSpace
from jaxad.nn.architecture import Architecture
from jaxad.nn.objectives.child import ChildConfig
from jaxad.training.staged import maps_of, prepare
from jaxad.types import Key

REDUCED_SIDE = 32  # pixels of the longer side of photographs that children of pixels see


class Inputs(NamedTuple):
    """What children see, as searches want it: by the name of the input where the space has several."""

    images: trial.TrialData | Mapping[str, trial.TrialData]
    shapes: Any  # (height, width, channels), or those by name

    @property
    def channels(self) -> Any:
        """Channels, or those by name."""
        if isinstance(self.shapes, Mapping):
            return {name: shape[-1] for name, shape in self.shapes.items()}
        return self.shapes[-1]


def detector_config(
    architecture: Architecture, task: Task, child: ChildConfig, features: FeatureConfig, steps: int
) -> AutoencoderConfig:
    """The detector of an architecture for the images of a task."""
    if architecture.input != "pixels":
        return AutoencoderConfig(architecture=architecture, child=child, steps=steps, features=features)
    large = max(task.train.images.shape[1:3]) > SMALL
    return AutoencoderConfig(architecture=architecture, child=child, steps=steps, side=REDUCED_SIDE if large else None)


def inputs_of(
    task: Task, space: SearchSpace, features: FeatureConfig, key: Key, *, masks: np.ndarray | None = None
) -> Inputs:
    """The training and validation images of a task as children of a space see them, on the device.

    Args:
      features: of all inputs but pixels.
      key: consumed; of random features.
      masks: [M, H, W] of the validation images, where pixels are rewarded.
    """
    found = {name: _seen(task, space, name, features, key, masks) for name in space.inputs}
    shapes = {name: data.train.shape[1:] for name, data in found.items()}
    if len(found) == 1:
        return Inputs(*found.values(), *shapes.values())
    return Inputs(found, shapes)


def _seen(
    task: Task, space: SearchSpace, name: str, features: FeatureConfig, key: Key, masks: np.ndarray | None
) -> trial.TrialData:
    any_of_it = dataclasses.replace(space.to_architecture(np.zeros(space.num_tokens, int)), input=name)
    stage = input_stage(detector_config(any_of_it, task, ChildConfig(), features, 1), None)
    train, valid = task.train.images, task.valid.images
    if stage is not None:
        # Every input gets the same key: of random features they see the levels of one network.
        fixed, train = prepare(stage, jax.random.clone(key), train)
        valid = maps_of(stage, fixed, valid)
    return trial.put(train, valid, task.valid.labels, masks)
