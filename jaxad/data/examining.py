"""What every image of a set is, before a task is made of it: read one by one, in full size, and not kept."""

import math
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxad.data.decoding import decode_file, decode_mask, reason_of
from jaxad.data.depth import Span, ranges_of, span_of
from jaxad.data.equals import constant_images
from jaxad.data.formats.stored import KINDS, Stored
from jaxad.data.image_set import ImageSet
from jaxad.data.mask_values import anomalous_pixels
from jaxad.data.near_copies import thumbnails
from jaxad.data.provenance import LeftOut
from jaxad.data.reading import in_threads
from jaxad.data.sources.layouts import Layout
from jaxad.data.sources.registry import load, source_of


class Mask(NamedTuple):
    """What is known of a mask."""

    marked: float = math.nan  # anomalous share of its pixels; NaN where there is none that can be used
    digest: bytes = b""  # equal for masks with the same pixels
    fault: str = ""  # what is wrong with it


class Image(NamedTuple):
    """What is known of an image."""

    id: str
    part: str  # train, valid or test; empty where its set has no parts
    label: str  # its class; empty where there is none
    size: tuple[int, int]  # (height, width)
    channels: int
    depth: str  # of its numbers, in words
    digest: bytes  # equal for images of equal numbers
    constant: bool  # whether it has one colour throughout
    defect: bool  # whether its set says that it is one
    mask: Mask


class Examined(NamedTuple):
    """What is known of a set."""

    layout: str  # in words; empty where it is no folder or listing
    images: list[Image]
    thumbs: np.ndarray  # [N, 1024] of `thumbnails`
    unreadable: list[str]  # "file: reason"
    left_out: tuple[LeftOut, ...]


class _Read(NamedTuple):
    """An image of a file and what tells the range of its values."""

    image: Image
    thumb: np.ndarray  # [1024] of the stored numbers
    span: Span
    inverted: bool


def examine(spec: str, parts: Sequence[str] = ("train",), *, data_dir: str | None = None) -> Examined:
    """Look at every image of a set.

    Args:
      spec: as for `jaxad.data.load`.
      parts: of a set whose parts have names of their own, those to look at; of others all are.
      data_dir: folder of prepared TFDS sets.

    Raises:
      ValueError: a set that cannot be found or has no layout that is known.
    """
    entry = source_of(spec)
    argument = spec.partition(":")[2]
    if entry.layout is not None and argument:
        return examine_layout(entry.layout(argument))
    if entry.parts is not None and entry.name != "idx":
        parts = entry.parts
    found = [(part, load(spec, split=part or "train", data_dir=data_dir)) for part in parts or ("",)]
    images = [image for part, dataset in found for image in _of_set(dataset, part)]
    readings = [dataset.reading for _, dataset in found if dataset.reading is not None]
    thumbs = np.concatenate([thumbnails(dataset.images) for _, dataset in found])
    return Examined("", images, thumbs, [name for reading in readings for name in reading.unreadable], ())


def examine_layout(layout: Layout) -> Examined:
    """Look at every file of a layout, and its mask."""

    def one(i: int) -> _Read | str:
        try:
            stored = decode_file(layout.files[i])
        except ValueError as error:
            return f"{layout.files[i]}: {reason_of(error.__cause__ or error)}"
        return _of_file(layout, i, stored)

    found = in_threads(one, range(len(layout.files)))
    read = [item for item in found if not isinstance(item, str)]
    ranges = ranges_of(item.span for item in read)
    thumbs = np.zeros((len(read), 1024), np.float32)
    for i, item in enumerate(read):
        low, high = ranges[item.span.kind]
        shown = np.clip((item.thumb - low) * (255 / ((high - low) or 1.0)), 0, 255)
        thumbs[i] = 255 - shown if item.inverted else shown
    unreadable = [item for item in found if isinstance(item, str)]
    return Examined(layout.words, [item.image for item in read], thumbs, unreadable, layout.left_out)


def _of_file(layout: Layout, i: int, stored: Stored) -> _Read:
    height, width, channels = stored.pixels.shape
    file = None if layout.masks is None else layout.masks[i]
    image = Image(
        str(layout.files[i]),
        "" if layout.parts is None else layout.parts[i],
        layout.classes[layout.labels[i]],
        (height, width),
        channels,
        KINDS[stored.kind],
        _digest(stored.pixels),
        bool(constant_images(stored.pixels[None])[0]),
        layout.parts is not None and bool(layout.labels[i]),
        Mask() if file is None else _of_mask(file, (height, width)),
    )
    thumb = thumbnails(stored.pixels[None].astype(np.float32))[0] / 255
    return _Read(image, thumb, span_of(stored), stored.inverted)


def _of_mask(file: Path, size: tuple[int, int]) -> Mask:
    """What is known of the mask of an image of (height, width)."""
    try:
        mask = anomalous_pixels(decode_mask(file), str(file))
    except ValueError as error:
        return Mask(fault=reason_of(error))
    if mask.shape != size:
        shapes = ("x".join(map(str, shape)) for shape in (mask.shape, size))
        return Mask(fault="mask {} is {}, its image {}".format(file, *shapes))
    return Mask(float(mask.mean()), _digest(mask))


def _of_set(dataset: ImageSet, part: str) -> list[Image]:
    """Of images that are in memory anyway."""
    height, width, channels = dataset.images.shape[1:]
    depth = KINDS["uint8" if dataset.images.dtype == np.uint8 else "float"]
    constant = constant_images(dataset.images)
    masks = [Mask()] * len(dataset.ids)
    if dataset.masks is not None:
        masks = [Mask(float(mask.mean()), _digest(mask)) for mask in dataset.masks]
    names = [""] * len(dataset.ids)
    if dataset.labels is not None and dataset.class_names:
        names = [dataset.class_names[label] for label in dataset.labels]
    return [
        Image(
            str(dataset.ids[i]), part, names[i], (height, width), channels, depth, _digest(dataset.images[i]),
            bool(constant[i]), False, masks[i],
        )
        for i in range(len(dataset.ids))
    ]  # fmt: skip


def _digest(pixels: np.ndarray) -> bytes:
    form = blake2b(repr((pixels.shape, pixels.dtype.str)).encode(), digest_size=16).digest()
    return blake2b(np.ascontiguousarray(pixels), digest_size=16, person=form).digest()
