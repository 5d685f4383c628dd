"""Methods that learn to score images, each behind the `Detector` contract and registered where it is written."""

from jaxad.methods.registry import DETECTORS, DetectorEntry, config_of, detector, detectors, entry_of, learners

__all__ = ["DETECTORS", "DetectorEntry", "config_of", "detector", "detectors", "entry_of", "learners"]
