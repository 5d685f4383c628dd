"""Formats that are hardly more than their numbers: netpbm of more than 8 bits, and NumPy's .npy."""

import io
import re
from pathlib import Path

import numpy as np

from jaxad.data.formats.stored import Stored, kind_of, native
from jaxad.data.images import check_channels_last

NPY = b"\x93NUMPY"
_HEADER = re.compile(rb"P([2356])" + 3 * rb"(?:\s|#[^\r\n]*[\r\n])+(\d{1,9})" + rb"\s")


def read_netpbm(data: bytes) -> Stored | None:
    """A PGM or PPM, binary or in words, whose white is above 255; None for others, which pillow reads.

    Of these pillow 13 keeps 8 bits where they have colour.
    """
    header = _HEADER.match(data)
    if header is None or int(header[4]) < 256:
        return None
    form, width, height, white = (int(number) for number in header.groups())
    shape = height, width, 3 if form in (3, 6) else 1
    count, rest = height * width * shape[2], data[header.end() :]
    if form < 5:
        values = np.array(re.sub(rb"#[^\r\n]*", b" ", rest).split()[:count], np.int64)
    else:
        values = np.frombuffer(rest[: 2 * min(count, len(rest) // 2)], ">u2")
    if not count or len(values) < count:
        raise ValueError(f"it has {len(values)} of the {count} numbers that its header promises")
    if white > 65535 or values.max() > white or values.min() < 0:
        raise ValueError(f"it holds {values.max()} where its header allows {min(white, 65535)} at most")
    return Stored(values.astype(np.uint16).reshape(shape), "uint16", (0.0, float(white)))


def read_npy(source: bytes | Path) -> Stored:
    """An array [H, W] or [H, W, C] of integers, floats or booleans."""
    pixels = np.load(io.BytesIO(source) if isinstance(source, bytes) else source, allow_pickle=False)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    check_npy(pixels.shape)
    if pixels.dtype == bool:
        pixels = pixels * np.uint8(255)
    return Stored(native(pixels), kind_of(pixels.dtype))


def npy_size(source: bytes | Path) -> tuple[int, int]:
    """The (height, width) of an array by its header."""
    whole = isinstance(source, bytes)
    array = np.load(io.BytesIO(source) if whole else source, mmap_mode=None if whole else "r", allow_pickle=False)
    check_npy(array.shape if array.ndim == 3 else (*array.shape, 1))
    return array.shape[0], array.shape[1]


def check_npy(shape: tuple[int, ...]) -> None:
    """Raises ValueError unless an array of that shape is one image."""
    if len(shape) != 3 or 0 in shape:
        raise ValueError(
            f"its shape is {shape}: save an image [H, W] or [H, W, C]; an .npz holds many, as [N, H, W, C]"
        )
    check_channels_last(shape, "it")
