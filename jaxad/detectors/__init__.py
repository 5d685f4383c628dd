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
from jaxad.detectors.feature_dictionary import FeatureDictionaryConfig, feature_dictionary
from jaxad.detectors.memory_bank import MemoryBankConfig, memory_bank

DETECTORS = {
    "ama": (AMAConfig, ama),
    "autoencoder": (AutoencoderConfig, autoencoder),
    "feature_dictionary": (FeatureDictionaryConfig, feature_dictionary),
    "isolation_forest": (IsolationForestConfig, isolation_forest),
    "local_outlier_factor": (LocalOutlierFactorConfig, local_outlier_factor),
    "memory_bank": (MemoryBankConfig, memory_bank),
    "nearest_neighbours": (NearestNeighboursConfig, nearest_neighbours),
    "one_class_svm": (OneClassSVMConfig, one_class_svm),
    "pca": (PCAConfig, pca),
}
"""Every method by name: (its config, the constructor that takes one)."""

__all__ = [
    "DETECTORS",
    "AMAConfig",
    "AutoencoderConfig",
    "FeatureDictionaryConfig",
    "IsolationForestConfig",
    "LocalOutlierFactorConfig",
    "MemoryBankConfig",
    "NearestNeighboursConfig",
    "OneClassSVMConfig",
    "PCAConfig",
    "ama",
    "autoencoder",
    "feature_dictionary",
    "isolation_forest",
    "local_outlier_factor",
    "memory_bank",
    "nearest_neighbours",
    "one_class_svm",
    "pca",
]
