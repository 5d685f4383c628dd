"""Image sets in files of the user's: IDX, class folders, MVTec-layout folders, NumPy archives.

Every reader takes `choose(labels, n, class_names) -> index`, which says which of the n images to decode, so
that a small sample of a large set costs little.
"""

import gzip
import math
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from jaxad.data.image_set import ImageSet, numbered, take
from jaxad.data.images import (
    IMAGE_SUFFIXES,
    check_images,
    check_masks,
    decode,
    read_images,
    resize,
    resize_mask,
    to_dtype,
)

Labels = Callable[[], np.ndarray | None]  # a function, because reading the labels of a large set takes time
Choose = Callable[[Labels, int, tuple[str, ...]], np.ndarray]
IDX_PREFIXES = {"train": ("train",), "test": ("t10k", "test")}


def class_index(values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Turns labels of any kind (numbers, names) into indices [N] int32 and the sorted class names."""
    names, index = np.unique(np.asarray(values), return_inverse=True)
    return index.reshape(-1).astype(np.int32), tuple(str(name) for name in names)


def read_idx(file: Path) -> np.ndarray:
    """Reads one IDX file of bytes (magic 0x08, any number of axes), gzip-compressed or not."""
    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"cannot read {file} ({error}): download it again") from error
    if len(data) < 4 or data[:3] != b"\x00\x00\x08":
        raise ValueError(f"{file} is not an IDX file of bytes (it starts with {data[:4].hex()}, not 000008..)")
    header = 4 + 4 * data[3]
    shape = tuple(int(n) for n in np.frombuffer(data[4:header], ">u4"))
    if len(data) != header + math.prod(shape):
        raise ValueError(f"{file} has {len(data)} bytes where its header promises {header + math.prod(shape)}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def idx(path: Path, split: str, choose: Choose) -> ImageSet:
    """Reads a folder of IDX files with the names of MNIST, `split` "train" or "test" (t10k)."""
    if split not in IDX_PREFIXES:
        raise ValueError(f"IDX folders have no part {split!r}: choose train or test")

    def read(kind: str) -> np.ndarray:
        names = [f"{prefix}-{kind}{end}" for prefix in IDX_PREFIXES[split] for end in ("", ".gz")]
        names += [name.replace("-idx", ".idx") for name in names]
        found = [path / name for name in names if (path / name).is_file()]
        if not found:
            raise ValueError(f"no file {names[0]} or {names[1]} in {path}: check the folder")
        return read_idx(found[0])

    images, labels = read("images-idx3-ubyte"), read("labels-idx1-ubyte")
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise ValueError(f"images {images.shape} and labels {labels.shape} in {path} do not belong together")
    index, names = class_index(labels)
    dataset = ImageSet(path.name, images[..., None], index, names, None, numbered(f"{path}/{split}", len(index)))
    return take(dataset, choose(lambda: index, len(index), names))


def image_files(path: Path) -> list[Path]:
    """All image files directly in a folder, sorted by name; hidden files are left out."""
    files = (f for f in path.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith("."))
    return sorted(files)


def _subfolders(path: Path) -> list[Path]:
    if not path.is_dir():
        raise ValueError(f"no folder {path}: check the path")
    return sorted(f for f in path.iterdir() if f.is_dir() and not f.name.startswith("."))


def folder(path: Path, choose: Choose, image_size: int | Sequence[int] | None = None) -> ImageSet:
    """Reads a folder of class sub-folders; a folder of images alone is one class, named after it.

    Raises:
      ValueError: no images, an unreadable file, or different sizes where no `image_size` is given.
    """
    classes = [(f, image_files(f)) for f in _subfolders(path)] or [(path, image_files(path))]
    classes = [(f, files) for f, files in classes if files]
    if not classes:
        raise ValueError(f"no images in {path} or its sub-folders: known suffixes are {sorted(IMAGE_SUFFIXES)}")
    names = tuple(f.name for f, _ in classes)
    files = np.array([str(file) for _, group in classes for file in group])
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), [len(group) for _, group in classes])
    index = choose(lambda: labels, len(labels), names)
    images = read_images([Path(file) for file in files[index]], image_size)
    return ImageSet(path.name, images, labels[index], names, None, files[index])


def mvtec(path: Path, split: str, choose: Choose, image_size: int | Sequence[int] | None = None) -> ImageSet:
    """Reads one part ("train" or "test") of a category in the layout of MVTec AD, with masks.

    Images: `train/good`, `test/good`, `test/<defect>`; masks: `ground_truth/<defect>/NAME_mask.png`, where
    more than half of the range is anomalous, resized by nearest neighbour. Class 0 is "good".

    Raises:
      ValueError: another layout, a mask missing or of another size than its image, different image sizes
        where no `image_size` is given.
    """
    if split not in ("train", "test"):
        raise ValueError(f"MVTec-layout folders have no part {split!r}: choose train or test")
    if not (path / "train" / "good").is_dir() or not (path / "test").is_dir():
        raise ValueError(f"{path} has no train/good and test folders: give one category, such as mvtec:DIR/bottle")
    # Defects are listed from the test part for both parts, so that a class has one number.
    names = ("good", *(f.name for f in _subfolders(path / "test") if f.name != "good"))
    groups = [image_files(path / split / name) if (path / split / name).is_dir() else [] for name in names]
    files = np.array([str(file) for group in groups for file in group])
    if len(files) == 0:
        raise ValueError(f"no images in {path / split}: known suffixes are {sorted(IMAGE_SUFFIXES)}")
    labels = np.repeat(np.arange(len(names), dtype=np.int32), [len(group) for group in groups])
    index = choose(lambda: labels, len(labels), names)
    files, labels = files[index], labels[index]
    images = read_images([Path(file) for file in files], image_size)
    masks = np.zeros(images.shape[:3], np.uint8)
    for i in np.flatnonzero(labels):
        masks[i] = _mvtec_mask(path, names[labels[i]], Path(files[i]), image_size, masks.shape[1:])
    return ImageSet(path.name, images, labels, names, masks, files)


def _mvtec_mask(path: Path, defect: str, image: Path, image_size, shape: tuple[int, int]) -> np.ndarray:
    file = path / "ground_truth" / defect / f"{image.stem}_mask.png"
    if not file.is_file():
        raise ValueError(f"no mask {file} for {image}: add it, or move the image to test/good")
    values = to_dtype(decode(file), np.float32)
    mask = (values.max(axis=2) > 0.5).astype(np.uint8)
    if image_size is not None:
        return resize_mask(mask, image_size)
    if mask.shape != shape:
        raise ValueError(f"mask {file} is {mask.shape}, its image {shape}: give an image size to resize both")
    return mask


def npz(path: Path, choose: Choose, image_size: int | Sequence[int] | None = None) -> ImageSet:
    """Reads a NumPy archive with `images` [N, H, W, C] and, if there, `labels` [N] and `masks` [N, H, W]."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in ("images", "labels", "masks") if key in archive}
            found = sorted(archive)
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"cannot read {path} as a .npz archive without objects ({error})") from error
    if "images" not in arrays:
        raise ValueError(f"{path} holds {found} but no array named images: save it with np.savez(path, images=...)")
    dataset = from_arrays(**arrays, name=path.stem)
    labels = dataset.labels
    dataset = take(dataset, choose(lambda: labels, len(dataset.images), dataset.class_names))
    if image_size is None:
        return dataset
    masks = dataset.masks
    if masks is not None:
        masks = np.stack([resize_mask(mask, image_size) for mask in masks])
    return dataset._replace(images=resize(dataset.images, image_size), masks=masks)


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
    if images.dtype != np.uint8:
        images = images.astype(np.float32)
    names = tuple(class_names or ())
    if labels is not None:
        labels = np.asarray(labels)
        if labels.shape != (len(images),):
            raise ValueError(f"{name}: labels have shape {labels.shape}, but {len(images)} images need one each")
        if not names:
            labels, names = class_index(labels)
        elif labels.min() < 0 or labels.max() >= len(names):
            raise ValueError(f"{name}: labels reach from {labels.min()} to {labels.max()} for {len(names)} class names")
        labels = labels.astype(np.int32)
    if masks is not None:
        masks = check_masks(masks, images, f"{name}: masks")
    ids = numbered(name, len(images)) if ids is None else np.asarray(ids, str)
    if len(np.unique(ids)) != len(images) or ids.shape != (len(images),):
        raise ValueError(f"{name}: {len(images)} images need {len(images)} different ids, not {len(np.unique(ids))}")
    return ImageSet(name, images, labels, names, masks, ids)
