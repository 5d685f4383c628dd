"""What pillow decodes: PNG, JPEG, WebP, AVIF, BMP, GIF, netpbm. TIFF is tifffile's (`tiff.py`)."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from jaxad.data.formats.stored import Stored, native, several, upright

WITH_ALPHA = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})  # pillow's modes
LOSSY = frozenset({"JPEG", "MPO", "JPEG2000", "WEBP", "AVIF"})  # the last three may be lossless; nothing says so
WITH_EXIF = frozenset({"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"})  # where an orientation may be
ORIENTATION = 0x0112
DEEP_PNG = frozenset({"RGB;16B", "RGBA;16B", "LA;16B"})  # how pillow would read 16 bits, of which it keeps 8
STEPS = {"L;2": 85, "L;4": 17}  # by which pillow multiplies grey of 2 and 4 bits, but not the one that is transparent


def orientation_of(image: Image.Image) -> int | None:
    """The orientation that a file states, by what has been read of it so far."""
    return image.getexif().get(ORIENTATION) if WITH_EXIF & image.info.keys() else None


def size_of(image: Image.Image) -> tuple[int, int]:
    """The (height, width) of an image as it is shown, by its header."""
    width, height = image.size
    return (width, height) if image.info and orientation_of(image) in (5, 6, 7, 8) else (height, width)


def open_image(source: bytes | Path) -> Image.Image:
    """An image file, or its bytes, of which the header is read."""
    return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)


def read(image: Image.Image, source: bytes | Path, keep_alpha: bool = False) -> Stored:
    """The pixels of an image that pillow has opened.

    Palettes and other colour models become RGB, bilevel images 0 and 255. Of a phone's multi-picture JPEG (MPO) the
    picture is read, and not what lies beside it; other files of several images are refused.

    Args:
      source: what was opened.
      keep_alpha: return transparency as well.
    """
    form, mode, packed = image.format, image.mode, image.tile[0][3] if image.tile else ""
    if form != "MPO" and getattr(image, "is_animated", False):
        raise several(image.n_frames, "frames")
    if form == "JPEG2000" and mode != "L" and not mode.startswith("I") and (depth := _bits_of_jpeg2000(source)) > 8:
        raise ValueError(f"it is JPEG 2000 of {depth} bits and several channels, of which 8 would be kept: save a TIFF")
    if mode in ("L", "RGB") and not (form == "PNG" and packed in DEEP_PNG):
        # What `asarray` has, in two thirds of its time. An orientation may come after the pixels.
        width, height = image.size
        pixels = np.ndarray((height, width, len(mode)), np.uint8, image.tobytes())
        found = Stored(pixels, "uint8", None, False, False, None, form in LOSSY)
        if not image.info:
            return found
        found = found._replace(had_alpha="transparency" in image.info)
        if keep_alpha and found.had_alpha:
            found = found._replace(alpha=_keyed(pixels, image, STEPS.get(packed, 1)))
    else:
        found = _converted(image, source, keep_alpha)._replace(lossy=form in LOSSY)
    turn = orientation_of(image)
    if turn in (None, 1):
        return found
    alpha = None if found.alpha is None else upright(found.alpha, turn)
    return found._replace(pixels=upright(found.pixels, turn), alpha=alpha)


def _converted(image: Image.Image, source: bytes | Path, keep_alpha: bool) -> Stored:
    """An image in another mode than 8 bits of grey or RGB."""
    mode = image.mode
    if mode in ("RGB", "RGBA") and image.format == "PNG" and image.tile and (form := image.tile[0][3]) in DEEP_PNG:
        image.load()
        pixels = _deep_png(source, form)
        if form == "RGB;16B":
            return _deep(pixels, image, keep_alpha)
        return Stored(pixels[..., :-1], "uint16", had_alpha=True, alpha=pixels[..., -1] if keep_alpha else None)
    if mode.startswith("I;16"):
        return _deep(native(np.asarray(image))[..., None], image, keep_alpha)
    if mode == "I":  # 16 bits, of netpbm and, before pillow 11, of PNG
        values = np.asarray(image)[..., None]
        deep = image.format in ("PNG", "PPM")
        return Stored(values.astype(np.uint16), "uint16") if deep else Stored(values, "integer")
    if mode == "F":
        return Stored(np.asarray(image)[..., None], "float")
    alpha = mode in WITH_ALPHA or "transparency" in image.info
    seen = np.asarray(image.convert("RGBA"))[..., 3] if alpha and keep_alpha else None
    if isinstance(image.info.get("transparency"), bytes) and mode == "P":  # of every colour; pillow would warn
        image = image.convert("RGBA")
    pixels = np.asarray(image.convert("L" if mode in ("1", "LA") else "RGB"))
    return Stored(pixels if pixels.ndim == 3 else pixels[..., None], "uint8", had_alpha=alpha, alpha=seen)


def _deep(pixels: np.ndarray, image: Image.Image, keep_alpha: bool) -> Stored:
    """An image of 16 bits of which one colour may be transparent."""
    had_alpha = "transparency" in image.info
    return Stored(pixels, "uint16", None, False, had_alpha, _keyed(pixels, image) if had_alpha and keep_alpha else None)


def _keyed(pixels: np.ndarray, image: Image.Image, step: int = 1) -> np.ndarray:
    """The alpha [H, W] of an image with a transparent colour, whose numbers are `step` times those of the file."""
    key = step * np.atleast_1d(image.info["transparency"])
    return np.where((pixels == key).all(axis=2), 0, 255).astype(np.uint8)


def _bits_of_jpeg2000(source: bytes | Path) -> int:
    """Bits of the first channel, by the codestream's first marker segment (ISO 15444-1, A.5.1: SOC, then SIZ)."""
    data = source if isinstance(source, bytes) else source.read_bytes()
    at = data.index(b"\xff\x4f\xff\x51")
    return (data[at + 42] & 0x7F) + 1


def _deep_png(source: bytes | Path, form: str) -> np.ndarray:
    """All 16 bits of a PNG of several channels, of which pillow's own modes hold 8: [H, W, C] with alpha last.

    The same bytes are decoded twice, as numbers of either byte order, so that pillow keeps the high bytes once and the
    low ones once. Grey with alpha has as many bytes a pixel as RGBA of 8 bits, and is decoded as that.
    """
    if form == "LA;16B":
        return np.ascontiguousarray(_decoded_as(source, "RGBA")).view(">u2").astype(np.uint16)
    high, low = (_decoded_as(source, form.replace("16B", order)).astype(np.uint16) for order in ("16B", "16L"))
    return high << 8 | low


def _decoded_as(source: bytes | Path, form: str) -> np.ndarray:
    with open_image(source) as image:
        image.tile = [(*tuple(tile)[:3], form) for tile in image.tile]
        return np.asarray(image)
