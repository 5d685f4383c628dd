"""From the name of an image set to its arrays: one function, `load`, for all kinds of sources."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxad.data.image_set import ImageSet, take
from jaxad.data.images import check_images, image_shape, resize
from jaxad.data.sources import bundled
from jaxad.data.sources import folders as files
from jaxad.data.sources import tfds as prepared
from jaxad.data.sources.bundled import NOISE
from jaxad.data.sources.folders import Choose, Labels

KINDS = {
    "idx": "idx:FOLDER (IDX files named as MNIST's)",
    "folder": "folder:PATH (a sub-folder of images for each class)",
    "mvtec": "mvtec:PATH/CATEGORY (train/good, test/DEFECT, ground_truth/DEFECT)",
    "npz": "npz:FILE (arrays images, labels, masks)",
}
BUNDLED = ("digits", "textures", *NOISE)


def available() -> tuple[str, ...]:
    """What `load` understands, for help texts: bundled names, common TFDS names, and the forms KIND:PATH."""
    return (*BUNDLED, "mnist", "fashion_mnist", "cifar10", "any other TFDS name", *KINDS.values())


def load(
    spec: str,
    *,
    data_dir: str | os.PathLike | None = None,
    split: str = "train",
    image_size: int | Sequence[int] | None = None,
    shape: Sequence[int] = (28, 28, 1),
    limit: int | None = None,
    choose: Choose | None = None,
    seed: int = 0,
) -> ImageSet:
    """Loads an image set by name.

    Args:
      spec: "digits"; "textures" or "textures:SIZE" (crop side in pixels, 32); "gaussian" or "uniform" noise;
        "idx:FOLDER"; "folder:PATH"; "mvtec:PATH/CATEGORY"; "npz:FILE"; or a TFDS name.
      data_dir: folder of prepared TFDS sets; TFDS_DATA_DIR when None.
      split: the part of TFDS (also "train[:10%]"), IDX and MVTec sets; other sets have one part.
      image_size: resize to this side or (height, width); needed where a folder mixes sizes.
      shape: (height, width, channels) of noise images.
      limit: load at most this many images, drawn by `seed`; noise: how many to make, 1,000 when None.
      choose: instead of `limit`, a function (labels, n, class_names) -> indices of the images to load, where
        labels() gives the [N] labels.
      seed: of noise and of the draw of `limit`.

    Returns:
      An ImageSet of uint8 images (float32 in [0, 1] for noise, 16-bit files and float arrays).

    Raises:
      ValueError: an unknown or unreadable set, naming the remedy.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit {limit} is too small: at least 1 image is needed")
    if image_size is not None:
        image_size = image_shape(image_size)
    choose = choose or _sample(limit, seed)
    kind, _, rest = spec.partition(":")
    path = Path(rest).expanduser()
    if spec in NOISE:
        dataset = bundled.noise(spec, shape, n=limit or 1000, seed=seed)
    elif spec == "digits" or kind == "textures":
        dataset = bundled.digits() if spec == "digits" else bundled.textures(_crop_size(spec))
        labels = dataset.labels
        dataset = take(dataset, choose(lambda: labels, len(dataset.images), dataset.class_names))
    elif kind in KINDS and not rest:
        raise ValueError(f"{spec!r} names no path: write {KINDS[kind]}")
    elif kind == "idx":
        dataset = files.idx(path, split, choose)
    elif kind == "folder":
        dataset = files.folder(path, choose, image_size)
    elif kind == "mvtec":
        dataset = files.mvtec(path, split, choose, image_size)
    elif kind == "npz":
        dataset = files.npz(path, choose, image_size)
    else:
        dataset = prepared.tfds(spec, split, choose, data_dir, image_size, available())
    check_images(dataset.images, dataset.name)
    # Readers of folders resize file by file and their masks too; for the other sets it is done here.
    return dataset if image_size is None else dataset._replace(images=resize(dataset.images, image_size))


def _sample(limit: int | None, seed: int) -> Choose:
    def choose(labels: Labels, n: int, class_names: tuple[str, ...]) -> np.ndarray:
        if limit is None or limit >= n:
            return np.arange(n)
        return np.sort(np.random.default_rng(seed).permutation(n)[:limit])

    return choose


def _crop_size(spec: str) -> int:
    size = spec.partition(":")[2] or "32"
    if not size.isdecimal():
        raise ValueError(f"{spec!r} is no texture set: write textures or textures:SIZE, with the crop side in pixels")
    return int(size)


def class_indices(dataset: str, class_names: Sequence[str], wanted: Sequence[str | int]) -> list[int]:
    """Finds classes by name, or else by index.

    Raises:
      ValueError: an unknown class or none, listing the classes.
    """
    found = []
    for item in wanted:
        if str(item) in class_names:
            found.append(class_names.index(str(item)))
        elif str(item).isdecimal() and int(item) < len(class_names):
            found.append(int(item))
        else:
            raise ValueError(f"{dataset} has no class {item!r}: choose from {list_classes(class_names)}")
    if not found:
        raise ValueError(f"no normal class of {dataset} given: choose from {list_classes(class_names)}")
    return sorted(set(found))


def list_classes(class_names: Sequence[str]) -> str:
    """ "0 T-shirt/top, 1 Trouser, ..." for messages; names that are their own index appear once."""
    shown = [name if name == str(i) else f"{i} {name}" for i, name in enumerate(class_names[:20])]
    more = f" and {len(class_names) - 20} more" if len(class_names) > 20 else ""
    return ", ".join(shown) + more if shown else "no labels"
