"""TIFF, by tifffile: of any depth, sign, byte order, layout and number of channels."""

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxad.data.formats import pillow
from jaxad.data.formats.stored import Stored, full_bytes, kind_of, native, several, upright

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPageSeries

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK = 0, 1, 2, 3, 5  # tag 262
LOSSY = frozenset({6, 7, 33007, 34892, 50001, 52546})  # tag 259: JPEG, WebP, JPEG XL
WITH_PREDICTOR = frozenset({5, 8, 32946})  # tag 259 of LZW and deflate; with others libtiff passes over tag 317
MOST_COMPRESSED = 100_000  # bytes of pixels that one byte of a file may stand for: more is damage, and fills the memory
ALPHA = (1, 2)  # tag 338: associated and not; 0 is a channel like the others


def read(source: bytes | Path, *, keep_alpha: bool = False) -> Stored:
    """The only image of a file; smaller copies of it, such as thumbnails and pyramids, are passed over.

    Args:
      keep_alpha: return transparency as well.

    Raises:
      ValueError: more than one image, a file that is cut off, a colour model or a compression that nothing reads.
    """
    with _opened(source) as file:
        series = _only_image(file)
        page = series.keyframe
        model, bits = BLACK_IS_ZERO if page.photometric is None else int(page.photometric), _bits(page.bitspersample)
        lossy = int(page.compression) in LOSSY
        extras = [int(extra) for extra in page.extrasamples]
        orientation = page.tags.valueof(pillow.ORIENTATION)
        _check_whole(series, file.filehandle.size)
        if model not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK):
            name = getattr(page.photometric, "name", model)
            return _by_pillow(source, series, lossy, keep_alpha, f"its colour model is {name}: save it as grey or RGB")
        try:
            pixels = series.asarray()
        except Exception as error:  # of several types
            if "imagecodecs" not in str(error):
                raise
            name = getattr(page.compression, "name", page.compression)
            why = f"{bits} bits compressed by {name} need another package: pip install imagecodecs"
            return _by_pillow(source, series, lossy, keep_alpha, why)
        if pixels.shape != series.shape:  # tifffile returns what there is, and logs
            raise ValueError(f"it has {pixels.size} of {math.prod(series.shape)} numbers that its header promises")
        pixels = _channels_last(native(pixels), series.axes)
        colormap = page.colormap if model == PALETTE else None
    first = pixels.shape[2] - len(extras)
    hidden = [first + i for i, extra in enumerate(extras) if extra in ALPHA]
    alpha = pixels[..., hidden[0]] if hidden and keep_alpha else None
    pixels = np.delete(pixels, hidden, axis=2) if hidden else pixels
    nominal = None
    if pixels.dtype == bool:
        pixels = pixels * np.uint8(255)
    elif colormap is not None:
        pixels = _coloured(pixels, colormap)
    elif pixels.dtype == np.uint8:
        pixels = full_bytes(pixels, bits)
    elif pixels.dtype == np.uint16 and bits < 16:
        nominal = (0.0, 2.0**bits - 1)
    if model == CMYK:
        pixels = _rgb_of_cmyk(pixels)
    kind, pixels = kind_of(pixels.dtype), upright(pixels, orientation)
    alpha = None if alpha is None else upright(alpha, orientation)
    return Stored(pixels, kind, nominal, model == WHITE_IS_ZERO, bool(hidden), alpha, lossy)


def size(source: bytes | Path) -> tuple[int, int]:
    """The (height, width) of the image as it is shown, by its header."""
    with _opened(source) as file:
        page = _only_image(file).keyframe
        turned = page.tags.valueof(pillow.ORIENTATION) in (5, 6, 7, 8)
        return (page.imagewidth, page.imagelength) if turned else (page.imagelength, page.imagewidth)


def _opened(source: bytes | Path) -> "TiffFile":
    from tifffile import TiffFile

    return TiffFile(io.BytesIO(source) if isinstance(source, bytes) else source)


def _only_image(file: "TiffFile") -> "TiffPageSeries":
    """The image of a file, whose pages may be its channels where the file says so."""
    images = [series for series in file.series if not series.keyframe.is_reduced] or file.series[:1]
    if not images:
        raise ValueError("it has no image")
    first = images[0]
    pages = math.prod(n for axis, n in zip(first.axes, first.shape) if axis not in "YXSC")
    if len(images) * pages > 1:
        raise several(len(images) if pages == 1 else pages, "pages")
    return first


def _bits(bits: int | tuple[int, ...]) -> int:
    return bits if isinstance(bits, int) else max(bits)


def _check_whole(series: "TiffPageSeries", size: int) -> None:
    """Raises ValueError where a file of `size` bytes cannot hold what its header promises; tifffile may put zeros."""
    for page in series.pages:
        if page is not None and any(at + n > size for at, n in zip(page.dataoffsets, page.databytecounts)):
            raise ValueError("it is cut off")
    if series.nbytes > MOST_COMPRESSED * size:
        raise ValueError(f"its header promises {series.nbytes} bytes of pixels, and the file has {size}")


def _channels_last(pixels: np.ndarray, axes: str) -> np.ndarray:
    """[H, W, C] of an array whose axes have these letters: Y, X, samples S, channels C, and others of length 1."""
    order = [axes.index("Y"), axes.index("X")]
    channels = [i for i, axis in enumerate(axes) if axis in "CS"]
    rest = [i for i in range(len(axes)) if i not in (*order, *channels)]
    pixels = pixels.transpose(*order, *channels, *rest)
    return pixels.reshape(*pixels.shape[:2], -1)


def _coloured(index: np.ndarray, colormap: np.ndarray) -> np.ndarray:
    """RGB uint8 of numbers of colours [H, W, 1], in a palette [3, n] of 16 bits (or of 8, as some programs write)."""
    colours = colormap >> 8 if colormap.max() > 255 else colormap
    return colours.T[index[..., 0]].astype(np.uint8)


def _rgb_of_cmyk(pixels: np.ndarray) -> np.ndarray:
    """RGB uint8 without a profile: (255 - ink) (255 - black) / 255, as pillow has it."""
    if pixels.dtype != np.uint8 or pixels.shape[2] != 4:
        raise ValueError(f"it has {pixels.shape[2]} inks of type {pixels.dtype}: save it as RGB")
    left = 255.0 - pixels
    return np.rint(left[..., :3] * left[..., 3:] / 255).astype(np.uint8)


def _by_pillow(source: bytes | Path, series: "TiffPageSeries", lossy: bool, keep_alpha: bool, why: str) -> Stored:
    """What tifffile leaves to others, where pillow decodes it right: up to 8 bits, and grey of 12, 16, or float32."""
    page = series.keyframe
    bits = _bits(page.bitspersample)
    form = page.sampleformat, bits  # unsigned is 1, float 3
    deep = page.samplesperpixel == 1 and page.photometric == BLACK_IS_ZERO
    # Of what libtiff decompresses pillow 13 swaps the bytes of big-endian floats (and of integers with a sign) again.
    forms = [(1, 12), (1, 16)] + ([(3, 32)] if page.parent.byteorder == "<" else [])
    right = (bits <= 8 and page.sampleformat == 1) or (deep and form in forms)
    other = any(int(extra) not in ALPHA for extra in page.extrasamples)
    ignored = int(page.predictor) != 1 and int(page.compression) not in WITH_PREDICTOR
    if not right or other or ignored or page.planarconfig != 1 or len(series.pages) > 1:
        raise ValueError(why)
    try:
        with pillow.open_image(source) as image:
            found = pillow.read(image, source, keep_alpha=keep_alpha)
    except (OSError, ValueError) as failed:
        raise ValueError(why) from failed
    if page.photometric == WHITE_IS_ZERO:  # pillow has turned it round
        found = found._replace(pixels=255 - found.pixels, inverted=True)
    return found._replace(lossy=lossy, nominal=(0.0, 4095.0) if bits == 12 else None)
