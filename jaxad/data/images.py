"""Arrays of images: decoding, checking, resizing, channels and number type. Knows NumPy and pillow only."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".pgm", ".ppm"})
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


def decode(source: bytes | Path) -> np.ndarray:
    """Decodes one image file (or its bytes) to [H, W, 1] or [H, W, 3], uint8, or float32 for 16 bits.

    Palettes and other colour models become RGB, an alpha channel is dropped, bilevel images become 0 and 255.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if image.mode.startswith("I"):  # 16-bit PNG and TIFF arrive as I;16 or as 32-bit I
                return np.clip(np.asarray(image, np.float32) / 65535, 0, 1)[..., None]
            if image.mode not in ("L", "RGB"):
                image = image.convert("L" if image.mode in ("1", "LA") else "RGB")
            pixels = np.asarray(image)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        what = "image bytes" if isinstance(source, bytes) else source
        raise ValueError(f"cannot read {what} as an image ({error}): remove or replace it") from error
    return pixels if pixels.ndim == 3 else pixels[..., None]


def read_images(files: Sequence[Path], image_size: int | Sequence[int] | None = None) -> np.ndarray:
    """Reads image files to one array [N, H, W, C].

    A mixture of grey and colour becomes RGB, of 8 and 16 bits float32.

    Raises:
      ValueError: an unreadable file, or different sizes where no `image_size` is given.
    """
    if not files:
        raise ValueError("no image files to read: name at least one")
    # Resizing one by one keeps a folder of large photographs out of memory.
    images = [decode(Path(file)) for file in files] if image_size is None else []
    for file in files if image_size is not None else ():
        images.append(resize(decode(Path(file))[None], image_size)[0])
    for file, image in zip(files, images):
        if image.shape[:2] != images[0].shape[:2]:
            first, other = ("x".join(map(str, x.shape[:2])) for x in (images[0], image))
            raise ValueError(f"{files[0]} is {first} but {file} is {other} pixels: give an image size to resize all")
    channels = max(image.shape[2] for image in images)
    dtype = np.uint8 if all(image.dtype == np.uint8 for image in images) else np.float32
    return np.stack([to_channels(to_dtype(image, dtype)[None], channels)[0] for image in images])


def image_files(path: Path) -> list[Path]:
    """All image files directly in a folder, sorted by name; hidden files are left out."""
    files = (f for f in path.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith("."))
    return sorted(files)


def subfolders(path: Path) -> list[Path]:
    """All folders directly in a folder, sorted by name; hidden ones are left out."""
    if not path.is_dir():
        raise ValueError(f"no folder {path}: check the path")
    return sorted(f for f in path.iterdir() if f.is_dir() and not f.name.startswith("."))
