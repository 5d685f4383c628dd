"""scikit-learn's estimators as detectors of images, on their pixels: fitted by scikit-learn, evaluated in JAX.

`step` remembers images, `calibrate` has scikit-learn fit its estimator to them, on the host, and keeps what was fitted
as arrays of fixed shape; `score` evaluates these arrays, on any device and without scikit-learn. One pass over the
training images suffices. The images given to `calibrate` are not fitted to, so that a threshold on them stays honest.

The score is minus scikit-learn's `score_samples`, to the rounding of float32. Images larger than `side` pixels are
reduced first, with antialiasing.
"""

from jaxad.methods.classical.forest import IsolationForestConfig, isolation_forest
from jaxad.methods.classical.neighbours import (
    LocalOutlierFactorConfig,
    NearestNeighboursConfig,
    local_outlier_factor,
    nearest_neighbours,
)
from jaxad.methods.classical.pca import PCAConfig, pca
from jaxad.methods.classical.svm import OneClassSVMConfig, one_class_svm
from jaxad.methods.common.host import ClassicalInfo, ClassicalState

__all__ = [
    "ClassicalInfo",
    "ClassicalState",
    "IsolationForestConfig",
    "LocalOutlierFactorConfig",
    "NearestNeighboursConfig",
    "OneClassSVMConfig",
    "PCAConfig",
    "isolation_forest",
    "local_outlier_factor",
    "nearest_neighbours",
    "one_class_svm",
    "pca",
]
