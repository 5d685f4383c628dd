"""What search spaces are made of: the lists that a space chooses from, as settings with the paper's as defaults."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxad.nn.actions import ACTIONS, OPTIONAL_ACTIONS

_STANDARD = {action.name: action.standard for action in (*ACTIONS, *OPTIONAL_ACTIONS)}


@dataclass(frozen=True, kw_only=True)
class SpaceChoices:
    """What a search space is made of; settings of a search have these fields, too."""

    num_layers: int = 3
    """Number of encoder layers N, the most where it varies; the paper's space has architectures of 6N + 2 tokens."""
    min_layers: int | None = None
    """If it is set, the depth is searched, too, from this to --num-layers; by default all have --num-layers."""
    hypotheses: tuple[str, ...] = _STANDARD["hypothesis"]
    """Anomaly hypotheses to choose from (REG of Eq. 2)."""
    distances: tuple[str, ...] = _STANDARD["distance"]
    """Distances between reconstruction and image to choose from (DIST of Eq. 2)."""
    inputs: tuple[str, ...] = _STANDARD["input"]
    """What children see, to choose from: pixels, or features of a fixed network (shallow, deep, both)."""
    aggregates: tuple[str, ...] = _STANDARD["aggregate"]
    """How the map of a distance becomes a score, to choose from: mean is the distance itself; max, or the top 1 %."""
    channels: tuple[int, ...] = _STANDARD["channels"]
    """Numbers of output channels to choose from. They are chosen for every layer, as are the flags below."""
    kernels: tuple[int, ...] = _STANDARD["kernel"]
    """Sizes of convolution kernels to choose from; odd."""
    pools: tuple[str, ...] = _STANDARD["pool"]
    """Kinds of pooling to choose from."""
    pool_kernels: tuple[int, ...] = _STANDARD["pool_kernel"]
    """Sizes and strides of pooling to choose from; odd, and 1 keeps the resolution."""
    norms: tuple[str, ...] = _STANDARD["norm"]
    """Normalisations to choose from."""
    activations: tuple[str, ...] = _STANDARD["activation"]
    """Activation functions to choose from."""
    extra: tuple[str, ...] = ()
    """Names of further actions to decide, beyond the paper's eight (see `jaxad.nn.actions`)."""


FEATURE_CHOICES: Mapping[str, Any] = {
    "num_layers": 2,
    "min_layers": 1,
    "distances": ("l1", "l2", "l21"),  # SSIM compares images
    "inputs": ("shallow", "deep", "both"),
    "aggregates": ("mean", "max", "top"),
    "channels": (8, 16, 32, 64, 128),
    "kernels": (1, 3),
    "pool_kernels": (1, 3),
}
"""A `SearchSpace` of children that see features of a fixed network: maps of few positions and many channels."""
