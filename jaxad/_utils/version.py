"""The version of this package, which runs and saved detectors are written with."""

VERSION = "0.2.0"
