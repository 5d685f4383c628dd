"""Which stored values are black and white: one rule for all images of a set, and for those that come later.

Images of 8 bits are uint8, 0 to 255, and stay so. All others become float32 in [0, 1] by a range of values that never
depends on one image alone, since then equal things would look different in two images:

- where files say what black and white are (DICOM's bits stored, a TIFF of 12 bits, a PGM's white), that;
- unsigned 16 bits: 0 to the end of the least of 8, 10, 12, 14 and 16 bits that hold every image of the set, since
  cameras store 12 bits as 16;
- floats: 0 to 1 where all are in it;
- all others, such as counts, temperatures and heights: the least to the greatest value of the set.

The set is the training part, where there is one; where it is drawn, `jaxad.data.load_task` reads the set again by the
range of the images that were. A user may state a range instead. The ranges are part of a task's details and of a saved
detector, which reads new images by them, and refuses kinds of numbers that it has not been trained on. Values beyond a
range become black or white, and that is said.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxad.data.formats.stored import KINDS, Stored

BITS = (8, 10, 12, 14, 16)  # of cameras
Range = tuple[float, float]
BYTES: Range = (0.0, 255.0)


class Depth(NamedTuple):
    """What is known of the ranges of values before images are read."""

    ranges: Mapping[str, Range] = {}  # of kinds of numbers, see `jaxad.data.formats.stored`
    stated: Range | None = None  # by a user, for all kinds but that of 8 bits
    closed: bool = False  # whether other kinds are refused; otherwise their images tell the range

    def range_of(self, kind: str) -> Range | None:
        """The range of a kind of numbers, None where it is not known."""
        if self.stated is not None and kind != "uint8":
            return self.stated
        return BYTES if kind == "uint8" and not self.closed else self.ranges.get(kind)


ALONE = Depth({"uint8": BYTES, "uint16": (0.0, 65535.0), "float": (0.0, 1.0)}, closed=True)
"""Of an image that belongs to no set, and of detectors that were saved by versions without ranges."""


class Scaled(NamedTuple):
    """An image as methods see it."""

    pixels: np.ndarray  # [H, W, C] uint8, or float32 in [0, 1]
    beyond: str  # what was beyond the range, for a message; empty where nothing was


def make_depth(value_range: Sequence[float] | None) -> Depth:
    """What a user says of the range: (low, high), or None; ValueError unless low < high and both are finite."""
    if value_range is None:
        return Depth()
    pair = tuple(float(value) for value in value_range)
    if len(pair) != 2 or not np.isfinite(pair).all() or pair[0] >= pair[1]:
        raise ValueError(f"value_range is {list(value_range)}: give the values of black and white, such as 0 4095")
    return Depth(stated=pair)


def scaled(stored: Stored, depth: Depth, name: str) -> Scaled:
    """An image by the range of its kind.

    Args:
      name: what to call it in a message.

    Raises:
      ValueError: a kind of numbers whose range is not known.
    """
    known = depth.range_of(stored.kind)
    if depth is ALONE and stored.nominal is not None:
        known = stored.nominal
    if known is None:
        raise _no_range(stored, depth, name)
    if stored.kind == "uint8":
        return Scaled(255 - stored.pixels if stored.inverted else stored.pixels, "")
    low, high = known
    values = stored.pixels.astype(np.float64)  # float32 has no room for counts in the millions and their differences
    least, most = float(values.min()), float(values.max())
    if depth is ALONE and stored.kind == "float" and (least < low or most > high):
        raise _no_range(stored, depth, name)
    unit = np.clip((values - low) / ((high - low) or 1.0), 0, 1).astype(np.float32)
    beyond = (
        f"{name} has values {least:g} to {most:g}, beyond {low:g} to {high:g}" if least < low or most > high else ""
    )
    return Scaled(1 - unit if stored.inverted else unit, beyond)


class Span(NamedTuple):
    """What an image tells of the range of its kind."""

    kind: str
    low: float
    high: float
    nominal: bool  # whether its file says so


def span_of(stored: Stored) -> Span:
    """What an image tells of the range of its kind."""
    if stored.nominal is not None:
        return Span(stored.kind, *map(float, stored.nominal), True)
    return Span(stored.kind, float(stored.pixels.min()), float(stored.pixels.max()), False)


def ranges_of(spans: Iterable[Span]) -> dict[str, Range]:
    """The range of every kind, from what the images of a set tell."""
    found: dict[str, list[Span]] = {}
    for span in spans:
        found.setdefault(span.kind, []).append(span)
    return {kind: _range(kind, group) for kind, group in found.items()}


def _range(kind: str, spans: Sequence[Span]) -> Range:
    low, high = min(span.low for span in spans), max(span.high for span in spans)
    if kind == "uint8":
        return BYTES
    if kind == "uint16":
        said = [span.high for span in spans if span.nominal]
        seen = [next(2.0**bits - 1 for bits in BITS if span.high < 2**bits) for span in spans if not span.nominal]
        return 0.0, max(said + seen)
    if kind == "float" and low >= 0 and high <= 1:
        return 0.0, 1.0
    return low, high


def _no_range(stored: Stored, depth: Depth, name: str) -> ValueError:
    words = KINDS[stored.kind]
    if depth is ALONE:
        least, most = stored.pixels.min(), stored.pixels.max()
        return ValueError(
            f"{name} holds {words}, {least:g} to {most:g}, and alone it does not tell which are black and white: read "
            "it with others of its kind, or state a value range"
        )
    known = ", ".join(f"{KINDS[kind]} ({low:g} to {high:g})" for kind, (low, high) in depth.ranges.items())
    return ValueError(
        f"{name} holds {words}, but the detector was trained on {known}: give images as those, or train it with some "
        "of these among them"
    )
