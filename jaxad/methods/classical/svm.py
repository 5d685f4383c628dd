"""One-class support vector machine (Schölkopf et al., Neural Computation 2001), with a Gaussian kernel.

s(x) = -sum_i a_i exp(-gamma |x - x_i|^2)                                    (Eq. 10, without the threshold rho)

Use it as a baseline whose boundary is smooth, on small and aligned images.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxad.methods.common.host import Estimator, ImageBufferConfig, as_detector, padded
from jaxad.methods.registry import detector
from jaxad.types import Array, Detector


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneClassSVMConfig(ImageBufferConfig):
    """What is fitted; defaults but for memory and side are scikit-learn's."""

    memory: int = 2_000
    """Images to fit to: the first ones seen. The time to fit grows with the square of their number."""
    side: int = 64
    """Images with a longer side are reduced to it. On small photographs with painted defects it finds a little more at
    64 than at 32."""
    nu: float = 0.5
    """Share of the images that is left outside at most, and that are support vectors at least."""
    gamma: float | None = None
    """Coefficient of the kernel; None for 1 / (pixels * variance of all pixels)."""

    def check(self) -> None:
        """Raise ValueError for values out of range; `one_class_svm` does so, too."""
        super().check()
        if not 0 < self.nu <= 1:
            raise ValueError(f"nu is {self.nu}; give a share above 0, up to 1")
        if self.gamma is not None and not 0 < self.gamma < math.inf:
            raise ValueError(f"gamma is {self.gamma}; give a number above 0, or None for scikit-learn's choice")


class Support(NamedTuple):
    """The support vectors."""

    vectors: Array  # [M, D], zeros where there are fewer
    weights: Array  # [M] a_i, 0 there
    gamma: Array  # scalar


TINY = OneClassSVMConfig(memory=64)


@detector(
    "one_class_svm",
    "One-class support vector machine of pixels (Schölkopf et al., Neural Computation 2001).",
    config=OneClassSVMConfig,
    tiny=TINY,
)
def one_class_svm(config: OneClassSVMConfig | None = None, **fields: Any) -> Detector:
    """scikit-learn's OneClassSVM; the score is in [-sum a_i, 0]."""
    config = dataclasses.replace(config or OneClassSVMConfig(), **fields)
    config.check()
    capacity = max(config.memory, 2)  # a single image counts twice

    def like(_: int, features: int) -> Support:
        vectors, weights = (jax.ShapeDtypeStruct((capacity, *rest), jnp.float32) for rest in ((features,), ()))
        return Support(vectors, weights, jax.ShapeDtypeStruct((), jnp.float32))

    def fit(rows: np.ndarray, seed: int) -> Support:
        from sklearn.svm import OneClassSVM

        rows = rows.astype(np.float64)
        variance = rows.var()
        scale = 1 / (rows.shape[1] * variance) if variance > 0 else 1.0
        gamma = scale if config.gamma is None else config.gamma
        machine = OneClassSVM(kernel="rbf", nu=config.nu, gamma=gamma).fit(rows)
        return Support(padded(machine.support_vectors_, capacity), padded(machine.dual_coef_[0], capacity), gamma)

    def score(support: Support, rows: Array) -> Array:
        product = jnp.matmul(rows, support.vectors.T, precision=lax.Precision.HIGHEST)
        sizes = (jnp.sum(jnp.square(part), 1) for part in (rows, support.vectors))
        squared = next(sizes)[:, None] + next(sizes)[None] - 2 * product
        kernel = jnp.exp(-support.gamma * jnp.maximum(squared, 0.0))
        return -jnp.matmul(kernel, support.weights, precision=lax.Precision.HIGHEST)

    return as_detector(config, Estimator(like, fit, score))
