"""Arrays of images: decoding, checking, resizing, channels and number type. Knows NumPy and pillow only."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".pgm", ".ppm"})
WITH_ALPHA = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})  # pillow's modes
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, the weights of pillow's "L" and of OpenCV


def check_images(images: np.ndarray, name: str = "images") -> np.ndarray:
    """Returns the images unchanged if every method of the library can work with them.

    Args:
      images: [N, H, W, C] with N, H, W, C > 0; uint8 in 0..255, or floating point in [0, 1].
      name: what to call the array in an error message.

    Raises:
      ValueError: naming the offending value, the limit and the remedy.
    """
    images = np.asarray(images)
    if images.ndim != 4:
        remedy = "add the channel axis with images[..., None]" if images.ndim == 3 else "stack to [N, H, W, C]"
        raise ValueError(f"{name} has shape {images.shape}, but 4 axes [N, H, W, C] are needed: {remedy}")
    if 0 in images.shape:
        raise ValueError(f"{name} is empty (shape {images.shape}); at least one image of one pixel is needed")
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(
            f"{name} has dtype {images.dtype}, but uint8 (0..255) or floats in [0, 1] are needed: convert it"
        )
    # min and max propagate NaN and see infinities, so two passes answer both questions.
    low, high = float(images.min()), float(images.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = np.flatnonzero(~np.isfinite(images).all(axis=(1, 2, 3)))
        raise ValueError(f"{name} holds NaN or infinity in {len(bad)} image(s), first at {bad[0]}: remove them")
    if low < 0 or high > 1:
        remedy = "divide by 255" if low >= 0 and 1 < high <= 255 else "rescale it"
        raise ValueError(f"{name} has values in [{low:g}, {high:g}], outside [0, 1]: {remedy}")
    return images


def check_masks(masks: np.ndarray, images: np.ndarray, name: str = "masks") -> np.ndarray:
    """Returns masks as uint8 [N, H, W] of 0 and 1; raises ValueError unless they fit the images."""
    masks = np.asarray(masks)
    if masks.shape != images.shape[:3]:
        raise ValueError(f"{name} has shape {masks.shape}, but the images need {images.shape[:3]}: one mask each")
    if not np.isin(masks, (0, 1)).all():
        raise ValueError(f"{name} has values other than 0 and 1 (1 = anomalous pixel): threshold it first")
    return masks.astype(np.uint8)


def to_dtype(images: np.ndarray, dtype: np.dtype | type) -> np.ndarray:
    """Converts between uint8 (0..255) and float32 ([0, 1]); rounds to the nearest of the 256 levels."""
    if images.dtype == dtype:
        return images
    if np.dtype(dtype) == np.uint8:
        return np.rint(images.astype(np.float32) * 255).astype(np.uint8)
    if images.dtype == np.uint8:
        return images.astype(dtype) / np.asarray(255, dtype)
    return images.astype(dtype)


def image_shape(size: int | Sequence[int]) -> tuple[int, int]:
    """Reads an image size, one number for squares or (height, width), in pixels."""
    height, width = (size, size) if isinstance(size, (int, np.integer)) else tuple(size)
    if height < 1 or width < 1:
        raise ValueError(f"image size {height}x{width} is too small: at least 1x1 pixel is needed")
    return int(height), int(width)


def resize(images: np.ndarray, size: int | Sequence[int]) -> np.ndarray:
    """Resizes [N, H, W, C] to `size` (a side or (height, width)) without keeping the aspect ratio.

    pillow's bilinear filter, channel by channel: when shrinking, the triangle is widened by the scale, which
    averages all covered pixels (antialiasing). uint8 stays uint8 (rounded), floats become float32.
    """
    images = check_images(images)
    height, width = image_shape(size)
    if images.shape[1:3] == (height, width):
        return images
    if images.dtype != np.uint8:
        images = images.astype(np.float32)
    out = np.empty((len(images), height, width, images.shape[3]), images.dtype)
    for source, target in zip(images, out):
        if out.dtype == np.uint8 and images.shape[3] == 3:  # in one call, which gives what three give
            target[:] = Image.fromarray(np.ascontiguousarray(source)).resize((width, height), Image.Resampling.BILINEAR)
            continue
        for c in range(images.shape[3]):
            channel = Image.fromarray(np.ascontiguousarray(source[..., c]))
            target[..., c] = channel.resize((width, height), Image.Resampling.BILINEAR)
    # The filter's weights sum to one only up to rounding.
    return out if out.dtype == np.uint8 else np.clip(out, 0, 1)


def resize_mask(mask: np.ndarray, size: int | Sequence[int]) -> np.ndarray:
    """Resizes one mask [H, W] of 0 and 1 by nearest neighbour, so that it stays 0 and 1."""
    height, width = image_shape(size)
    resized = Image.fromarray(mask.astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(resized)


def to_channels(images: np.ndarray, channels: int) -> np.ndarray:
    """Converts [N, H, W, C] between grey (1) and RGB (3): luma weights BT.601, or three equal channels.

    Raises:
      ValueError: for any other change of channels, whose meaning only the user can know.
    """
    have = images.shape[3]
    if have == channels:
        return images
    if (have, channels) == (1, 3):
        return np.repeat(images, 3, axis=3)
    if (have, channels) == (3, 1):
        grey = (images.astype(np.float32) @ LUMA)[..., None]
        if images.dtype == np.uint8:
            return np.rint(grey).astype(np.uint8)
        return np.clip(grey, 0, 1)
    raise ValueError(
        f"cannot turn {have} channels into {channels}: only grey (1) <-> RGB (3) is defined, convert first"
    )


class Decoded(NamedTuple):
    """An image of a file."""

    pixels: np.ndarray  # [H, W, 1] or [H, W, 3], uint8, or float32 for 16 bits
    had_alpha: bool  # whether transparency was dropped


def decode(source: bytes | Path) -> np.ndarray:
    """Decodes one image file (or its bytes) to [H, W, 1] or [H, W, 3], uint8, or float32 for 16 bits.

    Palettes and other colour models become RGB, an alpha channel is dropped, bilevel images become 0 and 255.
    """
    return decode_file(source).pixels


def decode_file(source: bytes | Path) -> Decoded:
    """What `decode` returns, and what it dropped; ValueError where that cannot be read as an image."""
    try:
        with _open(source) as image:
            if image.mode.startswith("I"):  # 16-bit PNG and TIFF arrive as I;16 or as 32-bit I
                return Decoded(np.clip(np.asarray(image, np.float32) / 65535, 0, 1)[..., None], False)
            alpha = image.mode in WITH_ALPHA or "transparency" in image.info
            if image.mode not in ("L", "RGB"):
                image = image.convert("L" if image.mode in ("1", "LA") else "RGB")
            pixels = np.asarray(image)
    except MemoryError:
        raise
    except Exception as error:  # on damaged files pillow's readers raise many types
        raise _unreadable(source, error) from error
    return Decoded(pixels if pixels.ndim == 3 else pixels[..., None], alpha)


def file_size(source: bytes | Path) -> tuple[int, int]:
    """The (height, width) of an image by its header, without decoding it; ValueError where there is none."""
    try:
        with _open(source) as image:
            return image.height, image.width
    except Exception as error:
        raise _unreadable(source, error) from error


def _open(source: bytes | Path) -> Image.Image:
    return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)


def reason_of(error: BaseException) -> str:
    """Why pillow could not read an image, without naming the file."""
    unknown = isinstance(error, UnidentifiedImageError)
    return "no known format of images" if unknown else str(error) or type(error).__name__


def _unreadable(source: bytes | Path, error: Exception) -> ValueError:
    what = "image bytes" if isinstance(source, bytes) else source
    return ValueError(f"cannot read {what} as an image ({reason_of(error)}): remove or replace it")


def image_files(path: Path) -> list[Path]:
    """All image files directly in a folder, sorted by name; hidden files are left out."""
    files = (f for f in path.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith("."))
    return sorted(files)


def subfolders(path: Path) -> list[Path]:
    """All folders directly in a folder, sorted by name; hidden ones are left out."""
    if not path.is_dir():
        raise ValueError(f"no folder {path}: check the path")
    return sorted(f for f in path.iterdir() if f.is_dir() and not f.name.startswith("."))
