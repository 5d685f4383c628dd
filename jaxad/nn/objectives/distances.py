"""How far a reconstruction is from its image (Eq. 2, DIST), as one number and as a map over pixels.

Every function sees one image; `jax.vmap` makes it see many. The standard order of `DISTANCES` is the order of the
distance token in the AutoAD search space. Images are float32 in [0, 1]; distances of zero mean "equal".
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxad.nn.choices import Choices
from jaxad.types import Array

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
SSIM_C1 = 0.01**2  # (0.01 L)^2 with L = 1
SSIM_C2 = 0.03**2
LUMA = (0.2125, 0.7154, 0.0721)  # ITU-R BT.709, the weights of scikit-image's rgb2gray


class Distance(NamedTuple):
    """A distance between a reconstruction and its image: what is trained on, and what is looked at."""

    score: Callable[[Array, Array], Array]  # (x_hat [H, W, C], x [H, W, C]) -> scalar
    map: Callable[[Array, Array], Array]  # (x_hat [H, W, C], x [H, W, C]) -> [H, W]


def _difference(x_hat: Array, x: Array) -> Array:
    chex.assert_rank([x_hat, x], 3)
    chex.assert_equal_shape([x_hat, x])
    return x_hat - x


def _safe_sqrt(squares: Array) -> Array:
    # The inner `where` keeps the infinite slope of sqrt at 0 out of the gradient, where it would meet a 0.
    positive = squares > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1.0)), 0.0)


def _l1_score(x_hat: Array, x: Array) -> Array:
    return jnp.mean(jnp.abs(_difference(x_hat, x)))


def _l1_map(x_hat: Array, x: Array) -> Array:
    return jnp.mean(jnp.abs(_difference(x_hat, x)), axis=-1)


def _l2_score(x_hat: Array, x: Array) -> Array:
    return jnp.mean(jnp.square(_difference(x_hat, x)))


def _l2_map(x_hat: Array, x: Array) -> Array:
    return jnp.mean(jnp.square(_difference(x_hat, x)), axis=-1)


def _l21_score(x_hat: Array, x: Array) -> Array:
    # Column norms of every channel's matrix; over H random errors a norm grows like sqrt(H), hence the scale.
    norms = _safe_sqrt(jnp.sum(jnp.square(_difference(x_hat, x)), axis=0))
    return jnp.mean(norms) / np.sqrt(x.shape[0]).astype(np.float32)


def _l21_map(x_hat: Array, x: Array) -> Array:
    return _safe_sqrt(jnp.sum(jnp.square(_difference(x_hat, x)), axis=-1))


def _window(size: tuple[int, int]) -> np.ndarray:
    """One-dimensional Gaussian: 11 wide, or the largest odd width that fits, with sigma scaled along."""
    width = min(SSIM_WINDOW, (min(size) - 1) // 2 * 2 + 1)
    offsets = np.arange(width) - width // 2
    weights = np.exp(-0.5 * (offsets / (SSIM_SIGMA * width / SSIM_WINDOW)) ** 2)
    return weights / weights.sum()


@lru_cache(maxsize=64)
def _band(length: int, size: tuple[int, int], full: bool) -> np.ndarray:
    """The window filter along one axis as a banded matrix [outputs, length].

    A matrix product instead of a convolution: convolutions are slow inside compiled loops on CPUs, and
    products are what GPUs and TPUs do best. `full` reflects the border (edge pixel repeated, as
    scikit-image does) and keeps the length; otherwise only places where the whole window fits remain.
    """
    window = _window(size)
    radius = len(window) // 2
    centres = np.arange(length) if full else np.arange(radius, length - radius)
    band = np.zeros((len(centres), length))
    for row, centre in enumerate(centres):
        for offset, weight in enumerate(window, start=-radius):
            column = centre + offset
            if column < 0:
                column = -column - 1
            elif column >= length:
                column = 2 * length - 1 - column
            band[row, column] += weight
    band = band.astype(np.float32)
    band.setflags(write=False)
    return band


def _grey(x: Array) -> Array:
    if x.shape[-1] == 3:
        return x[..., 0] * LUMA[0] + x[..., 1] * LUMA[1] + x[..., 2] * LUMA[2]
    return jnp.mean(x, axis=-1)


def _ssim(x_hat: Array, x: Array, full: bool) -> Array:
    """Structural similarity at every window, transposed: [W', H']."""
    chex.assert_rank([x_hat, x], 3)
    chex.assert_equal_shape([x_hat, x])
    size = x.shape[:2]
    # Variances do not depend on the origin; 0.5 keeps the squares small, and so their rounding errors.
    a, b = _grey(x_hat) - 0.5, _grey(x) - 0.5
    # SSIM needs the two variances only as a sum, which saves one of five filters.
    moments = jnp.stack([a, b, a * a + b * b, a * b])
    exact = jax.lax.Precision.HIGHEST  # reduced-precision products would drown the variances of flat regions
    moments = jnp.matmul(moments, _band(size[1], size, full).T, precision=exact)
    moments = jnp.matmul(jnp.swapaxes(moments, -1, -2), _band(size[0], size, full).T, precision=exact)
    mean_a, mean_b, power, product = moments
    variances = power - mean_a * mean_a - mean_b * mean_b
    covariance = product - mean_a * mean_b
    mean_a, mean_b = mean_a + 0.5, mean_b + 0.5
    luminance = (2 * mean_a * mean_b + SSIM_C1) / (mean_a * mean_a + mean_b * mean_b + SSIM_C1)
    return luminance * (2 * covariance + SSIM_C2) / (variances + SSIM_C2)


def _ssim_score(x_hat: Array, x: Array) -> Array:
    return 1.0 - jnp.mean(_ssim(x_hat, x, full=False))


def _ssim_map(x_hat: Array, x: Array) -> Array:
    return 1.0 - jnp.swapaxes(_ssim(x_hat, x, full=True), 0, 1)


l1 = Distance(_l1_score, _l1_map)
"""Mean absolute difference; map: mean over channels. Both in [0, 1] for images in [0, 1]."""

l2 = Distance(_l2_score, _l2_map)
"""Mean squared difference (squared as in AutoAD, Table I); map: mean over channels. Both in [0, 1]."""

l21 = Distance(_l21_score, _l21_map)
"""Matrix l2,1: sum over c, w of (sum over h of d^2)^(1/2), divided by C W sqrt(H): in [0, 1].

Departure: AutoAD leaves the grouping open. Grouping by channels alone would be l1 on grey images, so the
score groups columns; the map is (sum over c of d^2)^(1/2), in [0, sqrt(C)]. The gradient at d = 0 is 0.
"""

ssim = Distance(_ssim_score, _ssim_map)
"""1 - mean structural similarity, Gaussian window 11x11, sigma 1.5 (Wang et al. 2004): in [0, 2].

The score is the mean over places where the whole window fits, the map has full size with reflected borders;
both equal scikit-image's `structural_similarity(gaussian_weights=True, use_sample_covariance=False)`.
Three channels become grey by luma, any other number by the mean. Images smaller than 11 pixels use the
largest odd window that fits, sigma scaled along.
"""

DISTANCES: Choices[Distance] = Choices("distance", {"l1": l1, "l2": l2, "l21": l21, "ssim": ssim})
"""Name -> `Distance`."""


def combine(*names: str) -> Distance:
    """Sum of named distances with unit weights, e.g. `combine("l21", "ssim")` (AutoAD, Table IV).

    Outside the four-way token of the search space; for fixed architectures. Raises ValueError for an
    unknown name or no name at all.
    """
    unknown = [name for name in names if name not in DISTANCES]
    if unknown or not names:
        known = ", ".join(DISTANCES)
        raise ValueError(f"distance {'+'.join(names)!r} is unknown: use {known}, or a sum such as 'l21+ssim'")
    parts = [DISTANCES[name] for name in names]
    if len(parts) == 1:
        return parts[0]
    return Distance(
        score=lambda x_hat, x: sum(part.score(x_hat, x) for part in parts),
        map=lambda x_hat, x: sum(part.map(x_hat, x) for part in parts),
    )


def get_distance(name: str) -> Distance:
    """The distance of a name: "l1", "l2", "l21", "ssim" or a sum such as "l21+ssim"; ValueError otherwise."""
    return combine(*(part.strip() for part in name.split("+")))
