"""jaxad finds an image anomaly detector for your data."""

__version__ = "0.1.0"
