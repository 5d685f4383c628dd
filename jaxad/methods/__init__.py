"""Methods that learn to score images, each behind the `Detector` contract."""

from collections import ChainMap

from jaxad.methods.agad import AGADConfig, agad
from jaxad.methods.ama import AMAConfig, ama
from jaxad.methods.anogan import AnoGANConfig, anogan
from jaxad.methods.autoencoder import AutoencoderConfig, autoencoder
from jaxad.methods.classical import (
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
from jaxad.methods.classifier import ClassifierConfig, classifier
from jaxad.methods.conv_autoencoder import ConvAutoencoderConfig, conv_autoencoder
from jaxad.methods.dagmm import DAGMMConfig, dagmm
from jaxad.methods.deep_svdd import DeepSVDDConfig, deep_svdd
from jaxad.methods.nbs import NBSConfig, nbs
from jaxad.methods.patch_dictionary import FeatureDictionaryConfig, feature_dictionary
from jaxad.methods.patchcore import MemoryBankConfig, memory_bank
from jaxad.methods.unet_segmenter import UNetSegmenterConfig, unet_segmenter

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

SAVED = ChainMap({"nbs": (NBSConfig, nbs)}, DETECTORS)
"""What can be saved and loaded by name: a method with a training loop of its own, and those that `fit` trains."""

__all__ = [
    "DETECTORS",
    "SAVED",
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
