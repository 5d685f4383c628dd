"""jaxad finds an image anomaly detector for your data: architecture search and anomaly detection in JAX.

Scores are raw float32 numbers, higher = more anomalous; images are [N, H, W, C], uint8 or float32 in [0, 1]; labels are
1 for anomalous. Every method is a value, a NamedTuple of pure functions over one state: see `jaxad.types`.
"""

from jaxad.data import load_task
from jaxad.detectors import DETECTORS, agad, ama, autoencoder
from jaxad.scoring import map_images, score_images
from jaxad.search.space import Architecture, Layer, SearchSpace
from jaxad.training import fit, fit_population
from jaxad.types import Batch, Detector, Network, Search

__version__ = "0.1.0"

__all__ = [
    "DETECTORS",
    "Architecture",
    "Batch",
    "Detector",
    "Layer",
    "Network",
    "Search",
    "SearchSpace",
    "agad",
    "ama",
    "autoencoder",
    "fit",
    "fit_population",
    "load_task",
    "map_images",
    "score_images",
]
