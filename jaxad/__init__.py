"""jaxad finds an image anomaly detector for your data: architecture search and anomaly detection in JAX.

Scores are raw float32 numbers, higher = more anomalous; images are [N, H, W, C], uint8 or float32 in [0, 1]; labels are
1 for anomalous. Every method is a value, a NamedTuple of pure functions over one state: see `jaxad.types`.
"""

from jaxad._utils.version import VERSION
from jaxad.data import load_task
from jaxad.methods import DETECTORS
from jaxad.nas.space import SearchSpace
from jaxad.nn.architecture import Architecture, Layer
from jaxad.training.loop import fit, fit_population
from jaxad.training.scoring import map_images, score_images
from jaxad.types import Batch, Detector, Network, Search

__version__ = VERSION

__all__ = [
    "DETECTORS",
    "Architecture",
    "Batch",
    "Detector",
    "Layer",
    "Network",
    "Search",
    "SearchSpace",
    "fit",
    "fit_population",
    "load_task",
    "map_images",
    "score_images",
]
