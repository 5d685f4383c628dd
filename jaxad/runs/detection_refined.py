"""Maps of scored photographs, refined by what a network knows of what they show (AutoAD, Eq. 20)."""

from collections.abc import Callable

import jax
import numpy as np

from jaxad.data.images import resize, to_channels, to_dtype
from jaxad.data.tiles import resize_map
from jaxad.runs.detection_results import warn
from jaxad.runs.saving import LoadedDetector

Refiner = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(photograph [H, W, C] float32 in [0, 1], its map [H, W]) -> the refined map [H, W], NaN where the map is NaN."""


def check_refined(loaded: LoadedDetector) -> None:
    """Raise ValueError for a detector without maps, which nothing can refine."""
    if loaded.detector.score_map is None:
        raise ValueError(f"--refine refines anomaly maps, and {loaded.name} has none: leave it out")


def make_refiner(backbone: str = "auto") -> Refiner:
    """Eq. 20 for the maps of any detector: errors where the network sees a thing, and not what it knows the thing by.

    Photographs become squares of 224 pixels for the network; what it makes of them is enlarged to their own size.

    Args:
      backbone: of `make_knowledge`. Where it is "auto" and no pretrained weights are here, a line says so.
    """
    # Here: it brings networks and SciPy, which scoring does without.
    from jaxad.methods.common.knowledge import SIDE, make_knowledge, make_weights
    from jaxad.methods.common.refinement import refine

    knowledge = make_knowledge(backbone, jax.random.key(0))
    if backbone == "auto" and knowledge.name == "random":
        warn("refined by a network of random weights, as no pretrained ones are installed: it means little")
    weigh = make_weights(knowledge, (SIDE, SIDE))

    def refined(photograph: np.ndarray, heat: np.ndarray) -> np.ndarray:
        square = to_dtype(resize(to_channels(photograph[None], 3), SIDE), np.uint8)
        weights = (resize_map(np.asarray(maps[0]), heat.shape)[None] for maps in weigh(square))
        return np.where(np.isnan(heat), heat, refine(np.nan_to_num(heat, posinf=np.inf)[None], *weights)[0])

    return refined
