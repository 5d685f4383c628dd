"""How much of a test figure would be owed to test batches that are normalised by their own statistics.

The code of GANomaly, which AGAD extends, tests so: a score then depends on the images it is scored with, and test
images that come sorted by class tell the networks which are alike. This library only measures the difference.
"""

import functools
from collections.abc import Callable

import jax
import numpy as np

from jaxad.data.batches import to_float
from jaxad.methods.agad.config import AGADConfig
from jaxad.methods.agad.inference import AGADState, make_inference
from jaxad.metrics import image as metrics
from jaxad.types import Array


def auroc_by_batches(
    config: AGADConfig,
    state: AGADState,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    batch_size: int = 256,
    seed: int = 0,
) -> dict[str, float]:
    """AUROC with the statistics of the test batches, of images in random order and of normal ones first.

    Args:
      images: [N, H, W, C], uint8 or float32 in [0, 1].
      labels: [N], 1 = anomalous; both kinds.
      seed: of the random order.
    """
    score = _score(config)
    orders = {
        "batches, shuffled": np.random.default_rng(seed).permutation(len(labels)),
        "batches, normal first": np.argsort(labels, kind="stable"),
    }
    found = {}
    for name, order in orders.items():
        scores = np.zeros(len(labels), np.float32)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            scores[rows] = score(state, to_float(images[rows]))
        found[name] = float(metrics.auroc(scores, labels))
    return found


@functools.cache
def _score(config: AGADConfig) -> Callable[[AGADState, Array], Array]:
    """Compiled once for all states."""
    return jax.jit(make_inference(config).batch_score)
