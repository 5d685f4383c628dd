"""Methods that learn to score images, each behind the `Detector` contract."""

from jaxad.detectors.agad import AGADConfig, agad
from jaxad.detectors.ama import AMAConfig, ama
from jaxad.detectors.autoencoder import AutoencoderConfig, autoencoder

DETECTORS = {
    "agad": (AGADConfig, agad),
    "ama": (AMAConfig, ama),
    "autoencoder": (AutoencoderConfig, autoencoder),
}
"""Every method by name: (its config, the constructor that takes one)."""

__all__ = ["DETECTORS", "AGADConfig", "AMAConfig", "AutoencoderConfig", "agad", "ama", "autoencoder"]
