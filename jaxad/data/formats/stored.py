"""An image as its file stores it, before anything is scaled."""

from typing import NamedTuple

import numpy as np

KINDS = {
    "uint8": "8 bits",
    "uint16": "16 bits",
    "integer": "integers with a sign or of more than 16 bits",
    "float": "floating-point numbers",
    "dicom": "DICOM values",
}
"""Kinds of stored numbers, with the words for each. One range of values counts for all images of a kind."""


class Stored(NamedTuple):
    """An image of a file."""

    pixels: np.ndarray  # [H, W, C], the numbers of the file, upright; uint8 if and only if that is the kind
    kind: str  # of `KINDS`
    nominal: tuple[float, float] | None = None  # black and white, where the file says which values these are
    inverted: bool = False  # whether low values are bright
    had_alpha: bool = False  # whether transparency was dropped
    alpha: np.ndarray | None = None  # [H, W], 0 where nothing is shown, where it was asked for and is there
    lossy: bool = False  # whether compression may have changed values


def kind_of(dtype: np.dtype) -> str:
    """The kind of the numbers of an array; ValueError where they are no grey levels."""
    if dtype in (np.uint8, np.uint16):
        return dtype.name
    if dtype.kind in "iu":
        return "integer"
    if dtype.kind == "f":
        return "float"
    raise ValueError(f"it holds numbers of type {dtype}: save integers or floats")


def native(pixels: np.ndarray) -> np.ndarray:
    """The same numbers in the machine's byte order."""
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def full_bytes(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Numbers of 1 to 8 bits as uint8 that reach from 0 to 255."""
    return pixels.astype(np.uint8) if bits == 8 else np.rint(pixels * (255 / (2**bits - 1))).astype(np.uint8)


def upright(pixels: np.ndarray, orientation: int | None) -> np.ndarray:
    """An image [H, W, ...] turned as a viewer shows it, by the value of EXIF's (or TIFF's) tag 274; others stay."""
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def several(count: int, what: str) -> ValueError:
    """What to raise for a file of more than one image, of which none is the one that is meant."""
    return ValueError(f"it has {count} {what}, and a file is one image: save each as a file of its own")
