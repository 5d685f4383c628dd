"""What "normal" means to a detector (AutoAD, Table I, REG): four assumptions about latents and errors.

Each hypothesis is a regulariser while training and, with statistics frozen from the training set, a score
for one instance. The standard order of `HYPOTHESES` is the order of the hypothesis token in the search space.
Letters: B instances, n training instances, d latent size, K components or clusters.
"""

from jaxad.nn.objectives.base import Hypothesis
from jaxad.nn.objectives.centroid import CentroidConfig, CentroidParams, CentroidStats
from jaxad.nn.objectives.cluster import ClusterConfig, ClusterParams, ClusterStats, NearestStats
from jaxad.nn.objectives.density import DensityConfig, Mixture, mixture_energy
from jaxad.nn.objectives.hypotheses import HYPOTHESES, HypothesisChoice, make_hypothesis
from jaxad.nn.objectives.reconstruction import ReconstructionConfig

__all__ = [
    "HYPOTHESES",
    "CentroidConfig",
    "CentroidParams",
    "CentroidStats",
    "ClusterConfig",
    "ClusterParams",
    "ClusterStats",
    "DensityConfig",
    "Hypothesis",
    "HypothesisChoice",
    "Mixture",
    "NearestStats",
    "ReconstructionConfig",
    "make_hypothesis",
    "mixture_energy",
]
