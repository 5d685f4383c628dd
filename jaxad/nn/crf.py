"""The fully connected CRF of Krähenbühl & Koltun (NIPS 2011) for two labels: probabilities that respect the image.

    E(y) = sum_i -log p_i(y_i) + sum_{i<j} [y_i != y_j] (w_1 k_smooth(i, j) + w_2 k_bilateral(i, j))

Mean field, all pixels at once. With two labels q(0) = 1 - q(1), so one map of log-odds is all there is to know:

    log-odds <- log p / (1 - p) + sum_k w_k (2 K_k q - K_k 1)

with q = sigmoid(log-odds), and kernels normalised symmetrically. As in the authors' code a kernel includes i = j, and
probabilities are kept 1e-5 away from 0 and 1. The thesis on neural batch sampling names the method and no constant;
those here are of the example in the README of pydensecrf.
"""

import dataclasses
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxad.nn import bilateral as filtering
from jaxad.types import Array

CLIP = 1e-5  # of probabilities, as in pydensecrf's unary_from_softmax
ROUNDING = 1e-5  # beyond 0 and 1, such as resizing leaves
METHODS = ("grid", "exact")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CRFConfig:
    """The kernels and how long to iterate."""

    smooth_sd: float = 3.0
    """Standard deviation of the smoothness kernel, in pixels."""
    smooth_weight: float = 3.0
    """Weight w_1 of the smoothness kernel; 0 leaves it out."""
    bilateral_sd: float = 80.0
    """Standard deviation of the bilateral kernel in space, in pixels."""
    colour_sd: float = 13.0
    """Standard deviation of the bilateral kernel in colour, in levels of 0..255."""
    bilateral_weight: float = 10.0
    """Weight w_2 of the bilateral kernel; 0 leaves it out."""
    iterations: int = 5
    """Iterations of mean field; 0 leaves probabilities as they are."""
    method: Literal["grid", "exact"] = "grid"
    """The bilateral sum: by a grid, fast and a little off, or pair by pair, quadratic in the pixels."""

    def check(self) -> None:
        """Raise ValueError for values out of range; `refine` does so, too."""
        for name in ("smooth_sd", "bilateral_sd", "colour_sd"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number above 0")
        for name in ("smooth_weight", "bilateral_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number from 0 upwards")
        if self.iterations < 0:
            raise ValueError(f"iterations is {self.iterations}; the least is 0")
        if self.method not in METHODS:
            raise ValueError(f"method is {self.method!r}; choose one of {', '.join(METHODS)}")


def refine(probabilities: Array, images: Array, config: CRFConfig | None = None, **fields: Any) -> Array:
    """Marginal probabilities of mean field, image by image.

    Args:
      probabilities: [B, H, W] floats in [0, 1], of a pixel being anomalous.
      images: [B, H, W, C] floats in [0, 1]; up to three channels with the grid.
      config, fields: settings, as `refine(p, images, iterations=10)`.

    Returns:
      [B, H, W] in [0, 1]; above 1/2 the mask.

    Raises:
      ValueError: settings out of range, a grid too large, arrays of other shapes or number types. Of other values and
        NaN, too, except within compiled code, which cannot look at them.
    """
    _check_inputs(probabilities, images)
    config = dataclasses.replace(config or CRFConfig(), **fields)
    config.check()
    if config.method == "grid" and config.bilateral_weight:
        filtering.check_grid(images.shape[1:3], images.shape[3], config.bilateral_sd, config.colour_sd)
    # One after another: the kernels of an image fill the caches, and a grid the memory.
    return lax.map(lambda pair: _mean_field(config, *pair), (probabilities, images.astype(jnp.float32)))


def _check_inputs(probabilities: Array, images: Array) -> None:
    if probabilities.ndim != 3 or images.ndim != 4 or probabilities.shape != images.shape[:3]:
        found = f"probabilities have shape {probabilities.shape} and images {images.shape}"
        raise ValueError(f"{found}; give [B, H, W] and [B, H, W, C] of one size: resize one of them")
    inputs = (("probabilities", probabilities, "take the sigmoid of logits"), ("images", images, "divide bytes by 255"))
    for name, array, remedy in inputs:
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(f"{name} are {array.dtype}; give floats in [0, 1]: {remedy}")
        if isinstance(array, jax.core.Tracer) or not array.size:
            continue
        values = np.asarray(array, np.float32)
        if missing := int(np.isnan(values).sum()):
            raise ValueError(f"{missing} of {values.size} {name} are NaN: find the model's overflow first")
        if values.min() < -ROUNDING or values.max() > 1 + ROUNDING:
            raise ValueError(f"{name} go from {values.min():.4g} to {values.max():.4g}; give [0, 1]: {remedy}")


def _mean_field(config: CRFConfig, probability: Array, image: Array) -> Array:
    shape = image.shape[:2]
    kernels = []
    if config.smooth_weight:
        kernels.append((config.smooth_weight, filtering.spatial_filter(shape, config.smooth_sd)))
    if config.bilateral_weight:
        exact = config.method == "exact"
        bilateral = filtering.exact_bilateral_filter if exact else filtering.grid_bilateral_filter
        kernels.append((config.bilateral_weight, bilateral(image, config.bilateral_sd, config.colour_sd)))
    kernels = [(weight, filtering.normalised(kernel, shape)) for weight, kernel in kernels]
    unary = jnp.log(jnp.clip(probability, CLIP, 1.0)) - jnp.log(jnp.clip(1 - probability, CLIP, 1.0))
    for weight, kernel in kernels:
        unary -= weight * kernel(jnp.ones(shape))

    def iterate(_: Array, q: Array) -> Array:
        return jax.nn.sigmoid(unary + sum(2 * weight * kernel(q) for weight, kernel in kernels))

    start = jnp.clip(probability, CLIP, 1.0)
    start = start / (start + jnp.clip(1 - probability, CLIP, 1.0))
    return lax.fori_loop(0, config.iterations, iterate, start)
