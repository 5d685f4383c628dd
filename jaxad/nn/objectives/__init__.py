"""What "normal" means to a detector (AutoAD, Table I, REG): four assumptions about latents and errors.

Each hypothesis is a regulariser while training and, with statistics frozen from the training set, a score
for one instance. The order of `HYPOTHESES` is the order of the hypothesis token in the search space.
Letters: B instances, n training instances, d latent size, K components or clusters.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from jaxad.nn.objectives.base import Hypothesis
from jaxad.nn.objectives.centroid import CentroidConfig, CentroidParams, CentroidStats, centroid
from jaxad.nn.objectives.cluster import ClusterConfig, ClusterParams, ClusterStats, cluster
from jaxad.nn.objectives.density import DensityConfig, DensityParams, Mixture, density, mixture_energy
from jaxad.nn.objectives.reconstruction import ReconstructionConfig, reconstruction

__all__ = [
    "CONFIGS",
    "HYPOTHESES",
    "CentroidConfig",
    "CentroidParams",
    "CentroidStats",
    "ClusterConfig",
    "ClusterParams",
    "ClusterStats",
    "DensityConfig",
    "DensityParams",
    "Hypothesis",
    "Mixture",
    "ReconstructionConfig",
    "centroid",
    "cluster",
    "density",
    "make_hypothesis",
    "mixture_energy",
    "reconstruction",
]

HYPOTHESES: dict[str, Callable[..., Hypothesis]] = {
    "density": density,
    "cluster": cluster,
    "centroid": centroid,
    "reconstruction": reconstruction,
}

CONFIGS: dict[str, type] = {
    "density": DensityConfig,
    "cluster": ClusterConfig,
    "centroid": CentroidConfig,
    "reconstruction": ReconstructionConfig,
}


def make_hypothesis(name: str, **options: Any) -> Hypothesis:
    """A hypothesis by its name, with options of its config; ValueError for unknown names, options, values."""
    if name not in HYPOTHESES:
        raise ValueError(f"hypothesis {name!r} is unknown: use one of {', '.join(HYPOTHESES)}")
    known = [field.name for field in dataclasses.fields(CONFIGS[name])]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ValueError(
            f"hypothesis {name!r} has no option {', '.join(unknown)}: it knows {', '.join(known) or 'none'}"
        )
    return HYPOTHESES[name](CONFIGS[name](**options))
