"""Bringing images to a size: which size, and what becomes of another shape."""

from collections.abc import Collection, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxad._utils.memory import check_memory
from jaxad.data.images import image_shape, resize, resize_mask

Fit = Literal["stretch", "pad", "crop"]
WAYS = ("stretch", "pad", "crop")
ImageSize = int | tuple[int, int] | Literal["auto"] | None
SMALL = 64  # pixels of the longer side up to which images stay as they are
AUTO_SIDE = 224  # of the squares that others become: what features of ImageNet are made for


class Sizing(NamedTuple):
    """What size images are wanted in, and how others get there."""

    image_size: tuple[int, int] | Literal["auto"] | None  # (height, width); None leaves images as they are
    fit: str  # one of `WAYS`
    auto_side: int  # of the squares that "auto" makes of large images

    def target(self, sizes: Collection[tuple[int, int]]) -> tuple[int, int] | None:
        """The (height, width) that images of these sizes are to have, None where they stay.

        "auto": images of one size that are at most 64 pixels (and at most `auto_side`) on their longer side stay. Small
        images of several sizes become squares of the longest side there is, all others squares of `auto_side`.
        """
        if self.image_size != "auto":
            return self.image_size
        different = set(sizes)
        if not different:
            return None
        longest = max(max(size) for size in different)
        if longest > min(SMALL, self.auto_side):
            return self.auto_side, self.auto_side
        return None if len(different) == 1 else (longest, longest)


def make_sizing(image_size: Any = None, fit: str = "stretch", auto_side: int = AUTO_SIDE) -> Sizing:
    """Reads what a user says of sizes: a side, (height, width), "auto" or None; ValueError for anything else."""
    check_fit(fit)
    if auto_side < 1:
        raise ValueError(f"auto_side {auto_side} is too small: give the side of squares in pixels, such as {AUTO_SIDE}")
    if isinstance(image_size, str) and image_size != "auto":
        raise ValueError(f"image_size {image_size!r} is no size: give a side, (height, width), auto or None")
    known = image_size is None or image_size == "auto"
    return Sizing(image_size if known else image_shape(image_size), fit, int(auto_side))


def check_room(count: int, size: tuple[int, int], channels: int = 1) -> None:
    """Raises ValueError, with an estimate, where so many images of (height, width) do not fit into memory."""
    height, width = size
    what = f"{count} images of {height}x{width} pixels"
    check_memory(count * height * width * channels, what, "give a smaller image size, or a lower limit")


def check_fit(how: str) -> None:
    """Raises ValueError unless it is a way to fit images."""
    if how not in WAYS:
        raise ValueError(f"images cannot be fitted by {how!r}; choose one of {', '.join(WAYS)}")


def fit_images(images: np.ndarray, size: Sequence[int], how: str = "stretch") -> np.ndarray:
    """Images [N, H, W, C] brought to a size (height, width).

    Args:
      how: "stretch", which gives up the ratio of height and width; "pad", which shrinks what is larger, keeps the ratio
        and puts black around, so that small images stay as they are; or "crop", which takes as much of the middle
        as has the ratio of `size`.

    Raises:
      ValueError: an unknown way.
    """
    check_fit(how)
    height, width = images.shape[1:3]
    if (height, width) == tuple(size):
        return images
    if how == "pad":
        inner = _inner(height, width, size)
        return np.pad(resize(images, inner), [(0, 0), *_margins(inner, size), (0, 0)])
    if how == "crop":
        images = images[(slice(None), *_middle(height, width, size))]
    return resize(images, size)


def fit_mask(mask: np.ndarray, size: Sequence[int], how: str = "stretch") -> np.ndarray:
    """The mask [H, W] of an image, of 0 and 1, where `fit_images` brings its pixels, by `resize_mask`."""
    check_fit(how)
    height, width = mask.shape
    if (height, width) == tuple(size):
        return mask
    if how == "pad":
        inner = _inner(height, width, size)
        return np.pad(resize_mask(mask, inner), _margins(inner, size))
    return resize_mask(mask[_middle(height, width, size)] if how == "crop" else mask, size)


def placed(
    size: tuple[int, int], fitted: tuple[int, int], how: str = "stretch"
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where an image is after `fit_images`: what is left of its own rows and columns, and where these have gone.

    Args:
      size: (height, width) of the image.
      fitted: (height, width) that it was brought to.
    """
    check_fit(how)
    seen, shown = ((slice(0, height), slice(0, width)) for height, width in (size, fitted))
    if how == "pad":
        inner = _inner(*size, fitted)
        shown = tuple(slice(before, before + side) for (before, _), side in zip(_margins(inner, fitted), inner))
    if how == "crop":
        seen = _middle(*size, fitted)
    return seen, shown


def fit_words(size: Sequence[int], target: Sequence[int], how: str) -> str:
    """What was done to images of a size, for a table: "stretched; 16 of their pixels are one of ours"."""
    (height, width), (h, w) = size, target
    kept = (height, width)
    if how == "crop":
        rows, columns = _middle(height, width, target)
        kept = (rows.stop - rows.start, columns.stop - columns.start)
    if how == "pad":
        h, w = _inner(height, width, target)
    words = {
        "stretch": "stretched" if height * w != width * h else "resized",
        "pad": "black around",
        "crop": "the middle",
    }
    said = [words[how]]
    if kept != (height, width):
        said.append(f"{1 - kept[0] * kept[1] / (height * width):.0%} cut off")
    ratio = kept[0] * kept[1] / (h * w)
    if ratio >= 1.5:
        said.append(f"{ratio:.0f} of their pixels are one of ours")
    elif ratio < 1:
        said.append("enlarged")
    return "; ".join(said)


def _inner(height: int, width: int, size: Sequence[int]) -> tuple[int, int]:
    """The size that an image has inside its black border: its ratio is kept, and nothing is enlarged."""
    scale = min(1.0, size[0] / height, size[1] / width)
    return max(1, round(scale * height)), max(1, round(scale * width))


def _margins(inner: Sequence[int], size: Sequence[int]) -> list[tuple[int, int]]:
    """What padding adds above and below, left and right."""
    return [((whole - part) // 2, whole - part - (whole - part) // 2) for part, whole in zip(inner, size)]


def _middle(height: int, width: int, size: Sequence[int]) -> tuple[slice, slice]:
    """The rows and columns of the largest part in the middle that has the ratio of `size`."""
    scale = min(height / size[0], width / size[1])
    part = max(1, round(scale * size[0])), max(1, round(scale * size[1]))
    return tuple(slice((whole - n) // 2, (whole - n) // 2 + n) for whole, n in zip((height, width), part))
