"""Arrays of images: checking, resizing, channels and number type; and which files are images, by their names."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from jaxad._utils.memory import check_memory

IMAGE_SUFFIXES = frozenset(
    {
        *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".bmp", ".dib", ".gif"),
        *(".jp2", ".j2k"),
        *(".pbm", ".pgm", ".ppm", ".pnm", ".tif", ".tiff", ".npy", ".dcm", ".dicom"),
    }
)
GREY_WEIGHTS, GREY_SUM = (299, 587, 114), 1000  # ITU-R BT.601, the weights of pillow's "L" and of OpenCV
LUMA = np.array(GREY_WEIGHTS, np.float32) / np.float32(GREY_SUM)
LARGE = 2**30  # bytes of resized images from which on it is asked whether they fit into memory


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


def check_channels_last(shape: Sequence[int], name: str) -> None:
    """Raises ValueError for a shape [N, H, W, C] (or of one image) that only makes sense as [N, C, H, W].

    That is: with more than four channels, on images of at most four rows, or that would be square and have more rows
    the other way round.
    """
    height, width, channels = shape[-3:]
    if channels > 4 and (height <= 4 < width or (height < width == channels)):
        raise ValueError(
            f"{name} has shape {tuple(shape)}, {height}x{width} pixels with {channels} channels, which looks like "
            f"[N, C, H, W]: move the channels last with np.moveaxis(images, {len(shape) - 3}, -1)"
        )


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

    Raises:
      ValueError: what `check_images` and `image_shape` refuse, and what does not fit into memory, with an estimate.
    """
    images = check_images(images)
    height, width = image_shape(size)
    if images.shape[1:3] == (height, width):
        return images
    if images.dtype != np.uint8:
        images = images.astype(np.float32)
    needed = len(images) * height * width * images.shape[3] * images.itemsize
    if needed > LARGE:  # asking takes longer than resizing a small image does
        check_memory(needed, f"{len(images)} images of {height}x{width} pixels", "give a smaller image size, or fewer")
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
    """Resizes one mask [H, W] of 0 and 1, so that no anomalous pixel is lost: uint8 of 0 and 1.

    Where it shrinks, a pixel is 1 if the middle of a pixel that is 1 falls into it; where it grows, nearest neighbour.
    """
    height, width = image_shape(size)
    return _stretch_axis(_stretch_axis(mask.astype(np.uint8), 0, height), 1, width)


def _stretch_axis(mask: np.ndarray, axis: int, length: int) -> np.ndarray:
    have = mask.shape[axis]
    if length >= have:
        return mask.take((2 * np.arange(length) + 1) * have // (2 * length), axis)
    # Pixel i of the smaller mask has those whose middle (2 y + 1) / (2 have) is at or behind i / length.
    first = -((length - 2 * have * np.arange(length)) // (2 * length))
    return np.maximum.reduceat(mask, first, axis)


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
        if images.dtype == np.uint8:
            # In whole numbers: one pixel of a thousand lies half-way between two levels, where sums of floats would
            # round it one way or the other, by processor.
            grey = sum(images[..., c : c + 1] * np.int32(weight) for c, weight in enumerate(GREY_WEIGHTS))
            return ((grey + GREY_SUM // 2) // GREY_SUM).astype(np.uint8)
        return np.clip((images.astype(np.float32) @ LUMA)[..., None], 0, 1)
    raise ValueError(
        f"cannot turn {have} channels into {channels}: only grey (1) <-> RGB (3) is defined, convert first"
    )


def subfolders(path: Path) -> list[Path]:
    """All folders directly in a folder, sorted by name; hidden ones are left out."""
    if not path.is_dir():
        raise ValueError(f"no folder {path}: check the path")
    return sorted(f for f in path.iterdir() if f.is_dir() and not f.name.startswith("."))
