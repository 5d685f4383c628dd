"""From a file, or its bytes, to the pixels of its image, whatever its format."""

from pathlib import Path

import numpy as np
from PIL import UnidentifiedImageError

from jaxad.data.depth import ALONE, Depth, scaled
from jaxad.data.formats import dicom, matlab, pillow, plain, tiff
from jaxad.data.formats.stored import Stored

# Of these the first bytes are looked at first; all others are pillow's unless it does not know them.
OTHERS = frozenset({".tif", ".tiff", ".npy", ".dcm", ".dicom"})
LONGEST = 300  # characters of a reason
READERS = {"npy": plain.read_npy, "dicom": dicom.read}
SIZES = {"tiff": tiff.size, "npy": plain.npy_size, "dicom": dicom.size}


def decode(source: bytes | Path, depth: Depth = ALONE) -> np.ndarray:
    """Decodes one image file (or its bytes) to [H, W, C], uint8, or float32 in [0, 1] for more than 8 bits.

    Palettes and other colour models become RGB, an alpha channel is dropped, bilevel images become 0 and 255, and
    images are turned as their orientation (EXIF) says.

    Args:
      depth: which stored values are black and white, where there are more than 8 bits. By default 16 bits reach to
        65,535 and floats are in [0, 1]; what else there is needs a range, see `jaxad.data.depth`.

    Raises:
      ValueError: what cannot be read as one image, or has values without a range; with the file's name.
    """
    return scaled(decode_file(source), depth, name_of(source)).pixels


def decode_file(source: bytes | Path, *, keep_alpha: bool = False) -> Stored:
    """The image of a file as it is stored; ValueError where that cannot be read.

    Args:
      keep_alpha: whether transparency is wanted, where there is some.
    """
    try:
        stored = _read(source, keep_alpha)
        if stored.kind != "uint8" and stored.pixels.dtype.kind == "f" and not np.isfinite(stored.pixels).all():
            bad = int((~np.isfinite(stored.pixels)).sum())
            raise ValueError(f"{bad} of its {stored.pixels.size} values are NaN or infinite")
    except Exception as error:  # on damaged files readers raise many types
        raise _unreadable(source, error) from error
    return stored


def decode_mask(file: Path) -> Stored:
    """The mask of a file as it is stored, with its transparency; .mat files may be masks. ValueError as there."""
    if file.suffix.lower() != matlab.SUFFIX:
        return decode_file(file, keep_alpha=True)
    try:
        return matlab.read_mask(file)
    except Exception as error:  # on damaged files SciPy raises many types
        raise _unreadable(file, error) from error


def file_size(source: bytes | Path) -> tuple[int, int]:
    """The (height, width) of an image by its header, without decoding it; ValueError where there is none."""
    try:
        reader = _before_pillow(source)
        if not reader:
            try:
                with pillow.open_image(source) as image:
                    if image.format != "TIFF":
                        return pillow.size_of(image)
                reader = "tiff"
            except UnidentifiedImageError:
                reader = _other(source)
                if not reader:
                    raise
        return SIZES[reader](source)
    except Exception as error:
        raise _unreadable(source, error) from error


def _read(source: bytes | Path, keep_alpha: bool) -> Stored:
    reader = _before_pillow(source)
    if not reader:  # written out, since of tiny images every call counts
        try:
            with pillow.open_image(source) as image:
                form = image.format
                if form != "TIFF":
                    deep = _read_netpbm(source) if form == "PPM" else None
                    return pillow.read(image, source, keep_alpha) if deep is None else deep
            reader = "tiff"
        except UnidentifiedImageError:
            reader = _other(source)
            if not reader:
                raise
    return tiff.read(source, keep_alpha=keep_alpha) if reader == "tiff" else READERS[reader](source)


def _read_netpbm(source: bytes | Path) -> Stored | None:
    return plain.read_netpbm(source if isinstance(source, bytes) else source.read_bytes())


def _before_pillow(source: bytes | Path) -> str:
    """Who reads a file that need not be shown to pillow first; empty where nobody does."""
    if isinstance(source, bytes):
        return _other(source)
    name = str(source)
    return _other(source) if name[name.rfind(".") :].lower() in OTHERS else ""


def _other(source: bytes | Path) -> str:
    """Who else reads a file, by its first bytes; empty where pillow does."""
    if isinstance(source, bytes):
        head = source[:132]
    else:
        with open(source, "rb") as file:
            head = file.read(132)
    if head[128:] == dicom.MAGIC:  # before it DICOM has room for a header of TIFF, which some files have
        return "dicom"
    if head.startswith(tiff.MAGIC):
        return "tiff"
    return "npy" if head.startswith(plain.NPY) else ""


def name_of(source: bytes | Path) -> str:
    """What to call an image in a message."""
    return "image bytes" if isinstance(source, bytes) else str(source)


def reason_of(error: BaseException) -> str:
    """Why an image could not be read, in one line, without naming the file."""
    if isinstance(error, UnidentifiedImageError):
        return "no known format of images"
    if isinstance(error, MemoryError):
        return "it needs more memory than there is"
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= LONGEST else f"{words[:LONGEST]} ..."


def _unreadable(source: bytes | Path, error: Exception) -> ValueError:
    return ValueError(f"cannot read {name_of(source)} as an image ({reason_of(error)}): remove or replace it")
