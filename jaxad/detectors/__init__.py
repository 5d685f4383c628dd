"""Methods that learn to score images, each behind the `Detector` contract."""

from jaxad.detectors.autoencoder import AutoencoderConfig, autoencoder

DETECTORS = {
    "autoencoder": (AutoencoderConfig, autoencoder),
}
"""Every method by name: (its config, the constructor that takes one)."""

__all__ = ["DETECTORS", "AutoencoderConfig", "autoencoder"]
