"""Noise of the shape of other images: the two synthetic out-of-distribution sets of AutoAD."""

from collections.abc import Sequence

import numpy as np

from jaxad.data.image_set import ImageSet, numbered
from jaxad.data.sources.registry import Request, source

NOISE = ("gaussian", "uniform")
COUNT = 1000  # images where nobody says how many, as in the paper


def noise(kind: str, shape: Sequence[int] = (28, 28, 1), *, n: int = COUNT, seed: int = 0) -> ImageSet:
    """Noise images, float32 [n, *shape]: "gaussian" is N(0.5, 1) clipped to [0, 1], "uniform" is U[0, 1].

    Source: the synthetic out-of-distribution sets of AutoAD (1,000 images each).
    """
    if kind not in NOISE:
        raise ValueError(f"unknown noise {kind!r}: choose one of {', '.join(NOISE)}")
    if len(shape) != 3 or min(shape) < 1 or n < 1:
        raise ValueError(f"noise needs a shape (height, width, channels) and n >= 1, not {tuple(shape)} and {n}")
    # The kind enters the seed: otherwise both kinds would be functions of the same underlying bits.
    rng = np.random.default_rng([seed, NOISE.index(kind)])
    full = (n, *shape)
    if kind == "gaussian":
        images = np.clip(0.5 + rng.standard_normal(full, np.float32), 0, 1)
    else:
        images = rng.random(full, np.float32)
    return ImageSet(kind, images, np.zeros(n, np.int32), (kind,), None, numbered(f"{kind}/seed{seed}", n))


@source("gaussian", "gaussian", "Noise N(0.5, 1), clipped to [0, 1].", anomaly_ratio=0.05, any_shape=True)
def read_gaussian(request: Request) -> ImageSet:
    """As many images as are wanted."""
    request.without_argument()
    return noise("gaussian", request.shape, n=request.count or COUNT, seed=request.seed)


@source("uniform", "uniform", "Noise U[0, 1].", anomaly_ratio=0.05, any_shape=True)
def read_uniform(request: Request) -> ImageSet:
    """As many images as are wanted."""
    request.without_argument()
    return noise("uniform", request.shape, n=request.count or COUNT, seed=request.seed)
