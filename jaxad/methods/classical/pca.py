"""Principal components: anomalies are what a linear model of few components cannot rebuild, or finds unlikely.

reconstruction    s(x) = mean over pixels of (x - x^)^2,   x^ = m + V V' (x - m)
likelihood        s(x) = -log N(x; m, V diag(l) V' + v (I - V V'))        (Tipping & Bishop 1999)

Use it as the linear baseline: it is fitted by one decomposition, and says where.
"""

import dataclasses
import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxad.methods.common.host import (
    TOGETHER,
    ClassicalState,
    Estimator,
    ImageBufferConfig,
    as_detector,
    features,
    padded,
    reduced,
)
from jaxad.methods.registry import detector
from jaxad.types import Array, Detector

LEAST = 1e-6  # variance: of a constant pixel of 8 bits, which is known to half a level, it is 1.3e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class PCAConfig(ImageBufferConfig):
    """What is fitted."""

    components: int = 32
    """Principal components; fewer where images or pixels are fewer."""
    score: Literal["reconstruction", "likelihood"] = "reconstruction"
    """Mean squared error, or scikit-learn's `score_samples`, negated."""

    def check(self) -> None:
        """Raise ValueError for values out of range; `pca` does so, too."""
        super().check()
        if self.components < 1:
            raise ValueError(f"components is {self.components}; the least is 1")
        if self.score not in ("reconstruction", "likelihood"):
            raise ValueError(f"score is {self.score!r}; choose one of reconstruction, likelihood")


class Components(NamedTuple):
    """The linear model."""

    mean: Array  # [D]
    axes: Array  # [q, D], zeros where there are fewer
    variances: Array  # [q] along the axes, 1 there
    rest: Array  # scalar, variance in every other direction
    constant: Array  # scalar, log |2 pi covariance| / 2


TINY = PCAConfig(memory=64, components=8)


@detector(
    "pca",
    "Principal components of pixels, by reconstruction or likelihood (Tipping & Bishop, 1999).",
    config=PCAConfig,
    tiny=TINY,
)
def pca(config: PCAConfig | None = None, **fields: Any) -> Detector:
    """scikit-learn's PCA. Where it reconstructs, `score_map` is the squared error of each pixel."""
    config = dataclasses.replace(config or PCAConfig(), **fields)
    config.check()

    def like(capacity: int, features: int) -> Components:
        one = jax.ShapeDtypeStruct((), jnp.float32)
        q = config.components
        mean, axes, variances = (jax.ShapeDtypeStruct(s, jnp.float32) for s in ((features,), (q, features), (q,)))
        return Components(mean, axes, variances, one, one)

    def fit(rows: np.ndarray, seed: int) -> Components:
        from sklearn.decomposition import PCA

        q, pixels = min(config.components, *rows.shape), rows.shape[1]
        rows = rows.astype(np.float64)
        if not np.ptp(rows, 0).any():  # equal images have no axes, and scikit-learn warns that it divides by zero
            return Components(rows[0], np.zeros((config.components, pixels)), np.ones(config.components), LEAST, 0.0)
        model = PCA(q, random_state=seed % 2**31).fit(rows)
        variances, rest = (np.maximum(values, LEAST) for values in (model.explained_variance_, model.noise_variance_))
        constant = (pixels * math.log(2 * math.pi) + np.log(variances).sum() + (pixels - q) * np.log(rest)) / 2
        axes = padded(model.components_, config.components)
        return Components(model.mean_, axes, padded(variances, config.components, 1.0), rest, constant)

    def residual(model: Components, rows: Array) -> tuple[Array, Array]:
        """Coordinates [B, q], and what is left of the rows [B, D]."""
        centred = rows - model.mean[None]
        along = jnp.matmul(centred, model.axes.T, precision=lax.Precision.HIGHEST)
        return along, centred - jnp.matmul(along, model.axes, precision=lax.Precision.HIGHEST)

    def score(model: Components, rows: Array) -> Array:
        along, left = residual(model, rows)
        if config.score == "reconstruction":
            return jnp.mean(jnp.square(left), 1)
        scaled = jnp.sum(jnp.square(along) / model.variances[None], 1) + jnp.sum(jnp.square(left), 1) / model.rest
        return model.constant + scaled / 2

    def score_map(state: ClassicalState, images: Array) -> Array:
        small = reduced(images, config.side)
        _, left = residual(state.fitted, features(images, config.side))
        maps = jnp.mean(jnp.square(left.reshape(small.shape)), 3)
        return jax.image.resize(maps, images.shape[:3], "linear")

    # Starting the program takes most of the time of small images.
    detector = as_detector(config, Estimator(like, fit, score), 2 * TOGETHER)
    return detector._replace(score_map=score_map) if config.score == "reconstruction" else detector
