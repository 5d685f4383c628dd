"""The hypotheses by name, in the order of the hypothesis token of the search space."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxad.nn.choices import Choices
from jaxad.nn.objectives.base import Hypothesis
from jaxad.nn.objectives.centroid import CentroidConfig, centroid
from jaxad.nn.objectives.cluster import ClusterConfig, cluster, nearest_cluster
from jaxad.nn.objectives.density import DensityConfig, density
from jaxad.nn.objectives.reconstruction import ReconstructionConfig, reconstruction


class HypothesisChoice(NamedTuple):
    """A hypothesis by name: its constructor, and what that takes."""

    make: Callable[..., Hypothesis]  # (config) -> hypothesis
    config: type  # a frozen dataclass, all of whose fields have defaults


HYPOTHESES: Choices[HypothesisChoice] = Choices(
    "hypothesis",
    {
        "density": HypothesisChoice(density, DensityConfig),
        "cluster": HypothesisChoice(cluster, ClusterConfig),
        "centroid": HypothesisChoice(centroid, CentroidConfig),
        "reconstruction": HypothesisChoice(reconstruction, ReconstructionConfig),
    },
    more={"nearest_cluster": HypothesisChoice(nearest_cluster, ClusterConfig)},
)
"""Name -> `HypothesisChoice`."""


def make_hypothesis(name: str, **options: Any) -> Hypothesis:
    """A hypothesis by its name, with options of its config; ValueError for unknown names, options, values."""
    if name not in HYPOTHESES:
        raise ValueError(f"hypothesis {name!r} is unknown: use one of {', '.join(HYPOTHESES)}")
    make, config = HYPOTHESES[name]
    known = [field.name for field in dataclasses.fields(config)]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ValueError(
            f"hypothesis {name!r} has no option {', '.join(unknown)}: it knows {', '.join(known) or 'none'}"
        )
    return make(config(**options))
