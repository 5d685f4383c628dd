"""An image set: the images of one source with what is known about each."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxad.data.images import check_channels_last, check_images, check_masks
from jaxad.data.provenance import Reading

WHOLE = re.compile(r"[+-]?[0-9]+[.]0*")  # a whole number that was written as if it were none
NUMBER = re.compile(r"[+-]?[0-9]+([.][0-9]*)?")  # the name of a class that is a number


class ImageSet(NamedTuple):
    """Images of one source with what is known about each."""

    name: str
    images: np.ndarray  # [N, H, W, C] uint8, or float32 in [0, 1] where the source has more than 8 bits
    labels: np.ndarray | None  # [N] int32 index into class_names
    class_names: tuple[str, ...]
    masks: np.ndarray | None  # [N, H, W] uint8, 1 = anomalous pixel
    ids: np.ndarray  # [N] str, where each image comes from, such as "fashion_mnist/train/123"; unique
    reading: Reading | None = None  # what came of reading its files


def take(dataset: ImageSet, index: np.ndarray) -> ImageSet:
    """The images at `index` ([n] integers or [N] booleans), in that order."""
    return dataset._replace(
        images=dataset.images[index],
        labels=None if dataset.labels is None else dataset.labels[index],
        masks=None if dataset.masks is None else dataset.masks[index],
        ids=dataset.ids[index],
    )


def numbered(prefix: str, n: int) -> np.ndarray:
    """The ids "prefix/0" ... "prefix/n-1"."""
    return np.array([f"{prefix}/{i}" for i in range(n)])


def from_arrays(
    images: np.ndarray,
    labels: np.ndarray | None = None,
    masks: np.ndarray | None = None,
    *,
    name: str = "arrays",
    class_names: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
) -> ImageSet:
    """Makes an ImageSet of arrays.

    Args:
      images: [N, H, W, C] uint8, or floats in [0, 1] (kept as float32); any number of channels.
      labels: [N] class of each image: names or numbers, or indices into `class_names` where these are given.
      masks: [N, H, W] 0 and 1.
      ids: [N] unique names; "name/0", "name/1" ... where None.

    Raises:
      ValueError: shapes, values or ids that do not fit.
    """
    images = check_images(images, f"{name}: images")
    check_channels_last(images.shape, f"{name}: images")
    if images.dtype != np.uint8:
        images = images.astype(np.float32)
    names = tuple(class_names or ())
    if labels is not None:
        labels = _checked_labels(np.asarray(labels), name)
        if labels.shape != (len(images),):
            raise ValueError(f"{name}: labels have shape {labels.shape}, but {len(images)} images need one each")
        if not names:
            labels, names = class_index(labels)
        elif labels.dtype.kind not in "biuf" or (labels != labels.astype(np.int64)).any():
            raise ValueError(f"{name}: labels are indices into {len(names)} class names: give whole numbers")
        elif labels.min() < 0 or labels.max() >= len(names):
            raise ValueError(f"{name}: labels reach from {labels.min()} to {labels.max()} for {len(names)} class names")
        labels = labels.astype(np.int32)
    if masks is not None:
        masks = check_masks(masks, images, f"{name}: masks")
    ids = numbered(name, len(images)) if ids is None else np.asarray(ids, str)
    if len(np.unique(ids)) != len(images) or ids.shape != (len(images),):
        raise ValueError(f"{name}: {len(images)} images need {len(images)} different ids, not {len(np.unique(ids))}")
    return ImageSet(name, images, labels, names, masks, ids)


def class_index(values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Turns labels of any kind (numbers, names) into indices [N] int32 and the sorted class names.

    Whole numbers have the same names whatever they are saved as: 5.0 and "5.0" are "5".
    """
    values = np.asarray(values)
    if values.dtype.kind == "f" and (values == np.rint(values)).all() and (np.abs(values) < 2**53).all():
        values = values.astype(np.int64)
    if values.dtype.kind == "U" and all(WHOLE.fullmatch(value) for value in np.unique(values)):
        values = np.char.partition(values, ".")[..., 0]
    names, index = np.unique(values, return_inverse=True)
    return index.reshape(-1).astype(np.int32), tuple(str(name) for name in names)


def _checked_labels(labels: np.ndarray, name: str) -> np.ndarray:
    """The labels, as numbers or str; ValueError for other types, and where one is missing.

    Missing is NaN, infinity, an empty name, or what pandas writes for none.
    """
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "surrogateescape")
    if labels.dtype.kind not in "biufU":
        raise ValueError(f"{name}: labels have type {labels.dtype}: give whole numbers or names")
    missing = np.zeros(labels.shape, bool)
    if labels.dtype.kind == "f":
        missing = ~np.isfinite(labels)
    elif labels.dtype.kind == "U":
        missing = np.isin(np.char.lower(np.char.strip(labels)), ("", "nan"))
    if missing.any():
        first = np.flatnonzero(missing)[0]
        raise ValueError(
            f"{name}: {missing.sum()} of {missing.size} labels are missing or no number, the first that of image "
            f"{first} ({labels.flat[first]!s}): give every image a class, or leave such images out"
        )
    return labels


def class_indices(dataset: str, class_names: Sequence[str], wanted: Sequence[str | float]) -> list[int]:
    """Finds classes by name or, where no class is called by a number, by index; 5.0 is "5", as in `class_index`.

    Raises:
      ValueError: an unknown class or none, listing the classes; also a number that is the name of none where others
        are called by numbers, so that it might be meant either way.
    """
    found = []
    for item in wanted:
        index = int(item) if str(item).isdecimal() and not _numbers(class_names) else len(class_names)
        whole = str(item).partition(".")[0] if WHOLE.fullmatch(str(item)) else ""
        if (name := str(item)) in class_names or (name := whole) in class_names:
            found.append(class_names.index(name))
        elif index < len(class_names):
            found.append(index)
        else:
            no_index = "; these are names, and a number is no position among them" if str(item).isdecimal() else ""
            no_index = no_index if _numbers(class_names) else ""
            raise ValueError(f"{dataset} has no class {item!r}: choose from {list_classes(class_names)}{no_index}")
    if not found:
        raise ValueError(f"no normal class of {dataset} given: choose from {list_classes(class_names)}")
    return sorted(set(found))


def list_classes(class_names: Sequence[str]) -> str:
    """ "0 T-shirt/top, 1 Trouser, ..." for messages; without the index where names are numbers themselves."""
    numbers = _numbers(class_names)
    shown = [name if numbers else f"{i} {name}" for i, name in enumerate(class_names[:20])]
    more = f" and {len(class_names) - 20} more" if len(class_names) > 20 else ""
    return ", ".join(shown) + more if shown else "no labels"


def _numbers(class_names: Sequence[str]) -> bool:
    """Whether some class is called by a number."""
    return any(NUMBER.fullmatch(name) for name in class_names)
