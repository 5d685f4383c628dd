"""DICOM, by pydicom (`pip install 'jaxad[dicom]'`): values of the modality, as the rescale says, without a window."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from jaxad.data.formats.stored import Stored, full_bytes, several

MAGIC = b"DICM"  # at byte 128


def read(source: bytes | Path) -> Stored:
    """The only frame of a file.

    Grey values are stored ones, of the bits that are stored, by the rescale slope and intercept (or the modality's
    table), so in Hounsfield units where these are computed tomography. A window, which is for eyes, is not applied.
    MONOCHROME1 has bright lows. Colour is RGB, of palettes and YBR likewise.

    Raises:
      ValueError: pydicom is missing, more than one frame, no pixels, a compression that nothing reads.
    """
    pydicom = _library()
    from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array

    dataset = pydicom.dcmread(io.BytesIO(source) if isinstance(source, bytes) else source)
    _size(dataset)
    model, bits = str(dataset.PhotometricInterpretation), int(dataset.BitsStored)
    pixels = pixel_array(dataset)  # RGB of YBR
    if model == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, dataset)
        bits = 8 * pixels.dtype.itemsize
    if model not in ("MONOCHROME1", "MONOCHROME2"):
        if pixels.ndim != 3 or pixels.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"it is {model} of type {pixels.dtype}: save it as RGB of 8 or 16 bits")
        return _unsigned(pixels, bits, inverted=False)
    pixels = _stored_bits(pixels, bits, int(dataset.HighBit))[..., None]
    inverted, scaled = model == "MONOCHROME1", "ModalityLUTSequence" in dataset or "RescaleSlope" in dataset
    if not scaled and pixels.dtype == np.uint8:
        return _unsigned(pixels, bits, inverted)
    ends = np.array([0, 2**bits - 1]) - (2 ** (bits - 1) if pixels.dtype.kind == "i" else 0)
    values = apply_modality_lut(pixels, dataset).astype(np.float64)
    nominal = None
    if bits < 16 and "ModalityLUTSequence" not in dataset:  # a scanner that says 16 uses some of them
        low, high = sorted(apply_modality_lut(ends, dataset).astype(np.float64).tolist())
        nominal = (low, high)
    return Stored(values, "dicom", nominal, inverted)


def size(source: bytes | Path) -> tuple[int, int]:
    """The (height, width) of the image by its header."""
    data = io.BytesIO(source) if isinstance(source, bytes) else source
    return _size(_library().dcmread(data, stop_before_pixels=True))


def _library() -> Any:
    try:
        import pydicom
    except ImportError as error:
        raise ValueError("it is DICOM, which needs pydicom: pip install 'jaxad[dicom]'") from error
    return pydicom


def _size(dataset: Any) -> tuple[int, int]:
    if (frames := int(dataset.get("NumberOfFrames") or 1)) > 1:
        raise several(frames, "frames")
    if "Rows" not in dataset or "Columns" not in dataset:
        raise ValueError("it is DICOM without an image")
    return int(dataset.Rows), int(dataset.Columns)


def _unsigned(pixels: np.ndarray, bits: int, inverted: bool) -> Stored:
    if pixels.dtype == np.uint8:
        return Stored(full_bytes(pixels, bits), "uint8", inverted=inverted)
    return Stored(pixels, "uint16", (0.0, 2.0**bits - 1), inverted)


def _stored_bits(pixels: np.ndarray, bits: int, high: int) -> np.ndarray:
    """Values of the bits that are stored; those above may hold an overlay."""
    if high != bits - 1:
        raise ValueError(f"its {bits} bits end at bit {high}: save them as the lowest")
    pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    unused = 8 * pixels.dtype.itemsize - bits
    return pixels if unused <= 0 else (pixels << unused) >> unused
