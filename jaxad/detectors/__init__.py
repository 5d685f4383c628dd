"""Methods that learn to score images, each behind the `Detector` contract."""

from jaxad.detectors.ama import AMAConfig, ama
from jaxad.detectors.autoencoder import AutoencoderConfig, autoencoder
from jaxad.detectors.classical import (
    IsolationForestConfig,
    LocalOutlierFactorConfig,
    NearestNeighboursConfig,
    OneClassSVMConfig,
    PCAConfig,
    isolation_forest,
    local_outlier_factor,
    nearest_neighbours,
    one_class_svm,
    pca,
)

DETECTORS = {
    "ama": (AMAConfig, ama),
    "autoencoder": (AutoencoderConfig, autoencoder),
    "isolation_forest": (IsolationForestConfig, isolation_forest),
    "local_outlier_factor": (LocalOutlierFactorConfig, local_outlier_factor),
    "nearest_neighbours": (NearestNeighboursConfig, nearest_neighbours),
    "one_class_svm": (OneClassSVMConfig, one_class_svm),
    "pca": (PCAConfig, pca),
}
"""Every method by name: (its config, the constructor that takes one)."""

__all__ = [
    "DETECTORS",
    "AMAConfig",
    "AutoencoderConfig",
    "IsolationForestConfig",
    "LocalOutlierFactorConfig",
    "NearestNeighboursConfig",
    "OneClassSVMConfig",
    "PCAConfig",
    "ama",
    "autoencoder",
    "isolation_forest",
    "local_outlier_factor",
    "nearest_neighbours",
    "one_class_svm",
    "pca",
]
