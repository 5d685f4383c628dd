"""Methods that learn to score images, each behind the `Detector` contract."""

from jaxad.detectors.agad import AGADConfig, agad
from jaxad.detectors.ama import AMAConfig, ama
from jaxad.detectors.anogan import AnoGANConfig, anogan
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
from jaxad.detectors.classifier import ClassifierConfig, classifier
from jaxad.detectors.conv_autoencoder import ConvAutoencoderConfig, conv_autoencoder
from jaxad.detectors.dagmm import DAGMMConfig, dagmm
from jaxad.detectors.deep_svdd import DeepSVDDConfig, deep_svdd
from jaxad.detectors.feature_dictionary import FeatureDictionaryConfig, feature_dictionary
from jaxad.detectors.memory_bank import MemoryBankConfig, memory_bank
from jaxad.detectors.unet_segmenter import UNetSegmenterConfig, unet_segmenter

DETECTORS = {
    "agad": (AGADConfig, agad),
    "ama": (AMAConfig, ama),
    "anogan": (AnoGANConfig, anogan),
    "autoencoder": (AutoencoderConfig, autoencoder),
    "classifier": (ClassifierConfig, classifier),
    "conv_autoencoder": (ConvAutoencoderConfig, conv_autoencoder),
    "dagmm": (DAGMMConfig, dagmm),
    "deep_svdd": (DeepSVDDConfig, deep_svdd),
    "feature_dictionary": (FeatureDictionaryConfig, feature_dictionary),
    "isolation_forest": (IsolationForestConfig, isolation_forest),
    "local_outlier_factor": (LocalOutlierFactorConfig, local_outlier_factor),
    "memory_bank": (MemoryBankConfig, memory_bank),
    "nearest_neighbours": (NearestNeighboursConfig, nearest_neighbours),
    "one_class_svm": (OneClassSVMConfig, one_class_svm),
    "pca": (PCAConfig, pca),
    "unet_segmenter": (UNetSegmenterConfig, unet_segmenter),
}
"""Every method by name: (its config, the constructor that takes one)."""

__all__ = [
    "DETECTORS",
    "AGADConfig",
    "AMAConfig",
    "AnoGANConfig",
    "AutoencoderConfig",
    "ClassifierConfig",
    "ConvAutoencoderConfig",
    "DAGMMConfig",
    "DeepSVDDConfig",
    "FeatureDictionaryConfig",
    "IsolationForestConfig",
    "LocalOutlierFactorConfig",
    "MemoryBankConfig",
    "NearestNeighboursConfig",
    "OneClassSVMConfig",
    "PCAConfig",
    "UNetSegmenterConfig",
    "agad",
    "ama",
    "anogan",
    "autoencoder",
    "classifier",
    "conv_autoencoder",
    "dagmm",
    "deep_svdd",
    "feature_dictionary",
    "isolation_forest",
    "local_outlier_factor",
    "memory_bank",
    "nearest_neighbours",
    "one_class_svm",
    "pca",
    "unet_segmenter",
]
