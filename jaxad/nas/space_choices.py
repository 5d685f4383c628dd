"""What search spaces are made of: the lists that a space chooses from, as settings, and what they are by default."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxad.nn.actions import ACTIONS, OPTIONAL_ACTIONS

PAPER_CHOICES: Mapping[str, Any] = {
    "num_layers": 3,
    "extra": (),
    **{action.plural: action.standard for action in (*ACTIONS, *OPTIONAL_ACTIONS)},
}
"""The paper's `SearchSpace`: what is not set."""


@dataclass(frozen=True, kw_only=True)
class SpaceChoices:
    """What a search space is made of; settings of a search have these fields, too. None is what its kind has."""

    num_layers: int | None = None
    """Number of encoder layers N, the most where it varies; by default 3, and 2 in a space of features."""
    min_layers: int | None = None
    """If set, the depth is searched, too, from this to --num-layers; by default so from 1 in a space of features."""
    hypotheses: tuple[str, ...] | None = None
    """Anomaly hypotheses to choose from (REG of Eq. 2); by default density, cluster, centroid and reconstruction;
    nearest_cluster, which takes the place of cluster in a space of features, scores by the distance to a cluster."""
    distances: tuple[str, ...] | None = None
    """Distances to choose from (DIST of Eq. 2); by default l1, l2, l21 and ssim, the last of images alone."""
    inputs: tuple[str, ...] | None = None
    """What children see, to choose from: pixels, or shallow, deep, both, features of a fixed network."""
    aggregates: tuple[str, ...] | None = None
    """How the map of a distance becomes a score, to choose from: mean (by default alone for pixels), max, top (1 %)."""
    channels: tuple[int, ...] | None = None
    """Numbers of output channels to choose from, for every layer as all below; by default 3 8 16 32 64 128 256, of
    features 8 16 32 64."""
    kernels: tuple[int, ...] | None = None
    """Sizes of convolution kernels to choose from; odd, by default 1 3 5 7, of features 1 3."""
    pools: tuple[str, ...] | None = None
    """Kinds of pooling to choose from; by default max and average."""
    pool_kernels: tuple[int, ...] | None = None
    """Sizes and strides of pooling to choose from; odd, 1 keeps the size; by default 1 3 5 7, of features 1 3."""
    norms: tuple[str, ...] | None = None
    """Normalisations to choose from; by default none, batch and instance."""
    activations: tuple[str, ...] | None = None
    """Activation functions to choose from; by default the eight of the paper."""
    extra: tuple[str, ...] | None = None
    """Names of further actions to decide, beyond the paper's eight (see `jaxad.nn.actions`)."""


FEATURE_CHOICES: Mapping[str, Any] = {
    "num_layers": 2,
    "min_layers": 1,
    "hypotheses": ("density", "nearest_cluster", "centroid", "reconstruction"),
    "distances": ("l1", "l2", "l21"),  # SSIM compares images
    "inputs": ("shallow", "deep", "both"),
    "aggregates": ("mean", "max", "top"),
    "channels": (8, 16, 32, 64),  # of 152 features at most, of which 128 are hardly a bottleneck
    "kernels": (1, 3),
    "pool_kernels": (1, 3),
}
"""A `SearchSpace` of children that see features of a fixed network: maps of few positions and many channels."""
