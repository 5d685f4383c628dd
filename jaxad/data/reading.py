"""Reading many image files: straight to the wanted size, in threads, and with word of what could not be read."""

import functools
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from jaxad.data.decoding import decode_file, decode_mask, file_size, reason_of
from jaxad.data.depth import Depth, Span, ranges_of, scaled, span_of
from jaxad.data.fitting import Sizing, check_room, fit_images, fit_mask, make_sizing
from jaxad.data.images import to_channels, to_dtype
from jaxad.data.mask_values import anomalous_pixels
from jaxad.data.provenance import Reading, size_facts

THREADS = 16  # at most; pillow decodes and resizes without holding the interpreter's lock

Item = TypeVar("Item")
Result = TypeVar("Result")


class FilesRead(NamedTuple):
    """Images of files."""

    images: np.ndarray  # [n, H, W, C]
    kept: np.ndarray  # [n] indices of the files that could be read
    sizes: list[tuple[int, int]]  # of each of these in its file
    reading: Reading


def in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """[function(item) for item in items], several at a time."""
    workers = min(THREADS, os.cpu_count() or 1, len(items))
    if workers < 2:
        return [function(item) for item in items]
    # Tiny images take less time than handing them to a thread does.
    many = max(1, min(64, len(items) // (4 * workers)))
    with ThreadPoolExecutor(workers) as pool:
        groups = pool.map(
            lambda start: [function(item) for item in items[start : start + many]], range(0, len(items), many)
        )
        return [result for group in groups for result in group]


class _Fitted(NamedTuple):
    """An image of a file at the size that is wanted."""

    pixels: np.ndarray
    size: tuple[int, int]  # (height, width) in the file
    had_alpha: bool
    kind: str
    beyond: bool  # whether it has values beyond the range of its kind


def read_files(
    files: Sequence[Path | bytes],
    sizing: Sizing,
    *,
    size: tuple[int, int] | None = None,
    strict: bool = False,
    depth: Depth | None = None,
) -> FilesRead:
    """Reads image files (or their bytes) to one array; those that cannot be read are left out.

    A mixture of grey and colour becomes RGB, of 8 and more bits float32. No more images than there are threads are in
    memory in full size, where they are brought to another. Files of more than 8 bits are read twice where nobody says
    which values are black and white, since all of them tell.

    Args:
      sizing: the size that is wanted. By "auto", headers are read first.
      size: (height, width) of all files, where it is known without reading them.
      strict: raise ValueError for the first unreadable file.
      depth: which stored values are black and white, where that is known.

    Raises:
      ValueError: no files, more than half of them unreadable, or different sizes that are to stay.
    """
    if not files:
        raise ValueError("no image files to read: name at least one")
    target = (
        sizing.target([size] if size else _header_sizes(files)) if sizing.image_size == "auto" else sizing.target([])
    )

    if target is not None:
        check_room(len(files), target)

    def read(file: Path | bytes, depth: Depth) -> _Fitted | Span | str:
        try:
            stored = decode_file(file)
        except ValueError as error:
            if strict:
                raise
            return reason_of(error.__cause__ or error)
        pixels, beyond = stored.pixels, ""
        if stored.kind != "uint8" or stored.inverted:  # otherwise there is nothing to do, which tiny images feel
            if depth.range_of(stored.kind) is None:
                return span_of(stored)
            pixels, beyond = scaled(stored, depth, _name(file))
        # Copied, so that a picture in full size is not kept for the sake of its middle.
        fitted = pixels if target is None else fit_images(pixels[None], target, sizing.fit)[0].copy()
        return _Fitted(fitted, pixels.shape[:2], stored.had_alpha, stored.kind, bool(beyond))

    depth = Depth() if depth is None else depth
    found = in_threads(functools.partial(read, depth=depth), files)
    again = [i for i, item in enumerate(found) if isinstance(item, Span)]
    told = tuple((_name(files[i]), found[i]) for i in again)
    if told:
        depth = depth._replace(ranges=dict(depth.ranges) | ranges_of(span for _, span in told))
        for i, item in zip(again, in_threads(functools.partial(read, depth=depth), [files[i] for i in again])):
            found[i] = item
    kept = np.array([i for i, item in enumerate(found) if not isinstance(item, str)], int)
    unreadable = tuple(f"{_name(files[i])}: {item}" for i, item in enumerate(found) if isinstance(item, str))
    check_readable(len(files), unreadable)
    images, sizes, alphas, kinds, beyond = map(list, zip(*(found[i] for i in kept.tolist())))
    del found
    other = next((i for i, image in enumerate(images) if image.shape[:2] != images[0].shape[:2]), 0)
    if other:
        a, b = (f"{_name(files[kept[i]])} is {'x'.join(map(str, sizes[i]))}" for i in (0, other))
        raise ValueError(f"{a} but {b} pixels: give an image size to resize all")
    channels = Counter(image.shape[2] for image in images)
    if not set(channels) <= {1, 3} and len(channels) > 1:
        a, b = (next(i for i, image in enumerate(images) if image.shape[2] == n) for n in list(channels)[:2])
        a, b = (f"{_name(files[kept[i]])} has {images[i].shape[2]}" for i in (a, b))
        raise ValueError(f"{a} but {b} channels: give images of one kind")
    deep = sum(kind != "uint8" for kind in kinds)
    stacked = np.empty((len(images), *images[0].shape[:2], max(channels)), np.float32 if deep else np.uint8)
    for i, image in enumerate(images):
        if image.dtype != stacked.dtype or image.shape != stacked.shape[1:]:
            image = to_channels(to_dtype(image, stacked.dtype)[None], stacked.shape[3])[0]
        stacked[i] = image
        images[i] = None  # so that no image is in memory twice
    reading = Reading(
        *size_facts(sizes, stacked.shape[1:3], sizing.fit), unreadable, channels[1], channels[3], deep, sum(alphas),
        ranges=tuple((kind, *depth.range_of(kind)) for kind in sorted(set(kinds))), beyond=sum(beyond), told=told,
    )  # fmt: skip
    return FilesRead(stacked, kept, sizes, reading)


def read_images(
    files: Sequence[Path], image_size: int | Sequence[int] | None = None, fit: str = "stretch"
) -> np.ndarray:
    """Reads image files to one array [N, H, W, C].

    A mixture of grey and colour becomes RGB, of 8 and more bits float32, by the range of all of them (see
    `jaxad.data.depth`).

    Args:
      image_size: side or (height, width) to bring all to, "auto" for the default of `load_task`, or None.
      fit: how, see `fit_images`.

    Raises:
      ValueError: an unreadable file, or different sizes where no `image_size` is given.
    """
    return read_files([Path(file) for file in files], make_sizing(image_size, fit), strict=True).images


class MaskedFiles(NamedTuple):
    """Images of files with their masks."""

    read: FilesRead  # without images whose mask cannot be read
    masks: np.ndarray  # [n, H, W] uint8
    anomalous: np.ndarray  # [n] booleans, whether a pixel of the mask is, in full size


def add_masks(read: FilesRead, files: Sequence[Path], masks: Sequence[Path | None], fit: str) -> MaskedFiles:
    """Reads the masks of images to where the images' pixels are now; which are anomalous `anomalous_pixels` says.

    Args:
      files: of all images that were asked for, of which `read.kept` could be read.
      masks: their files; without a file no pixel is anomalous.
      fit: how the images were fitted.

    Raises:
      ValueError: a mask of another size than its image, or that could mean either; more than half of the images
        without an image or mask that can be read.
    """
    shape = read.images.shape[1:3]

    def one(k: int) -> tuple[np.ndarray, bool] | str:
        file = masks[read.kept[k]]
        if file is None:
            return np.zeros(shape, np.uint8), False
        try:
            stored = decode_mask(file)
        except ValueError as error:
            return f"{file}: {reason_of(error.__cause__ or error)}"
        mask = anomalous_pixels(stored, str(file)).astype(np.uint8)
        if mask.shape != read.sizes[k]:
            raise ValueError(f"mask {file} is {mask.shape}, its image {read.sizes[k]}: resize one of them")
        return fit_mask(mask, shape, fit), bool(mask.any())

    found = in_threads(one, range(len(read.kept)))
    fine = [k for k, item in enumerate(found) if not isinstance(item, str)]
    unreadable = (*read.reading.unreadable, *(item for item in found if isinstance(item, str)))
    check_readable(len(files), unreadable)
    if len(fine) < len(found):
        sizes, reading = [read.sizes[k] for k in fine], read.reading._replace(unreadable=unreadable)
        read = FilesRead(read.images[fine], read.kept[fine], sizes, reading)
    return MaskedFiles(read, np.stack([found[k][0] for k in fine]), np.array([found[k][1] for k in fine]))


def check_readable(count: int, unreadable: Sequence[str]) -> None:
    """Raises ValueError unless at least half of so many files could be read."""
    if 2 * len(unreadable) > count:
        what = "none" if len(unreadable) == count else f"only {count - len(unreadable)}"
        raise ValueError(f"{what} of {count} images can be read ({unreadable[0]}): replace them, or check the folder")


def _header_sizes(files: Sequence[Path | bytes]) -> list[tuple[int, int]]:
    """(height, width) of those files whose header can be read."""

    def read(file: Path | bytes) -> tuple[int, int] | None:
        try:
            return file_size(file)
        except ValueError:
            return None  # decoding will say why

    return [size for size in in_threads(read, files) if size is not None]


def _name(file: Path | bytes) -> str:
    return "an image" if isinstance(file, bytes) else str(file)
