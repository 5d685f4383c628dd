"""What a folder of images is, by the names in it: found without opening an image.

`recognise` says which layout it is, the modules of the layouts make a `Layout` of it, and `jaxad.data.sources.folder`
reads that.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxad.data.images import IMAGE_SUFFIXES, subfolders
from jaxad.data.provenance import LeftOut
from jaxad.data.sources.inside import MASKS, has_images, unread_images
from jaxad.data.sources.listing import is_listing

ANNOTATIONS = "val_annotations.txt"  # of Tiny-ImageNet's validation part, beside its images
NORMAL_NAMES = frozenset({"good", "normal", "ok", "regular"})
KNOWN = (
    "good images alone, directly in it or in one sub-folder; a sub-folder for each class; train/good, test/good and "
    "test/DEFECT, with ground_truth/DEFECT where there are masks; a category of VisA; images/ and masks/; or a listing "
    "of path, label, mask and split, PATH/NAME.csv"
)
"""The layouts of `folder:PATH`, for messages."""


class Layout(NamedTuple):
    """The images of a folder or listing, by name alone."""

    words: str  # what layout it is, for the table of a task
    classes: tuple[str, ...]  # where there are parts, the first is normal
    files: tuple[Path, ...]
    labels: np.ndarray  # [N] int32 index into classes
    parts: tuple[str, ...] | None  # of each file train, valid or test; None where it is one set
    masks: tuple[Path | None, ...] | None  # of each file; None where there are none for any
    left_out: tuple[LeftOut, ...]  # what is there, and no part of it


class Parts(NamedTuple):
    """A folder with a training and a test part, in the layout of MVTec AD."""

    name: str  # of the good class
    folders: tuple[Path, Path]  # of the training and the test part
    train: Path  # where good training images are
    defects: tuple[str, ...]  # sub-folders of test/ that hold no good images
    test: Path | None  # where good test images are
    masks: Path | None  # where sub-folders of masks are


def recognise(path: Path) -> str:
    """Which layout a path has: "csv", "visa", "parts", "annotated", "pairs", "classes" or "alone".

    Raises:
      ValueError: none, or one that can be meant in two ways; naming what was found and the remedy.
    """
    if path.is_file():
        if not is_listing(path):
            remedy = f"write npz:{path}" if path.suffix == ".npz" else "a header with path and label comes first"
            raise ValueError(f"{path} is no folder, and no listing of images: {remedy}")
        return "csv"
    folders = subfolders(path)
    if (path / "Data" / "Images").is_dir():
        return "visa"
    if find_parts(path) is not None:
        return "parts"
    if None not in (folders_of_parts := _part_folders(path)):
        raise _no_parts(path, *folders_of_parts)
    if (path / ANNOTATIONS).is_file():
        return "annotated"
    pair = find_pairs(path)
    if pair and not any(has_images(folder) for folder in folders if folder not in pair):
        if listings := _listings(path):
            raise ValueError(
                f"{path} holds {pair[0].name} and {pair[1].name}, and the listing {listings[0].name}: say which is "
                f"meant, pairs:{path} or csv:{listings[0]}"
            )
        return "pairs"
    categories = [folder.name for folder in folders if _is_category(folder)]
    if categories:
        raise ValueError(f"{path} holds categories ({', '.join(categories)}): give one, folder:{path / categories[0]}")
    classes = find_classes(path)
    if len(classes) > 1:
        return "classes"
    if _listings(path):
        return "csv"
    if classes:
        return "alone"
    raise no_images(path)


def find_listing(path: Path) -> Path:
    """The listing that a path is, or the one that is in it; ValueError where there is none, or more than one."""
    if path.is_file():
        return path
    found = _listings(path) if path.is_dir() else []
    if len(found) != 1:
        what = f"{len(found)} listings of images, such as {found[0]}" if found else "no listing of images"
        raise ValueError(f"{path} holds {what}: give one, csv:FILE")
    return found[0]


def find_parts(path: Path) -> Parts | None:
    """The parts of a folder; None where it has no train/ with good images beside a test/ with sub-folders.

    Names count in any case, and masks may be in a folder called as `jaxad.data.sources.inside.MASKS` says.
    """
    train, test = _part_folders(path)
    if train is None or test is None or not subfolders(test):
        return None
    good = normal_name([folder.name for folder in subfolders(train)])
    if good is None and not has_images(train, deep=False):
        return None
    tested = [folder.name for folder in subfolders(test) if folder.name.lower() not in MASKS]
    normal = normal_name(tested)
    name = good or normal or "good"
    defects = tuple(folder for folder in tested if folder != normal)
    masks = [folder for folder in subfolders(path) if folder.name.lower() in MASKS]
    places = (train if good is None else train / good, defects, None if normal is None else test / normal)
    return Parts(name, (train, test), *places, masks[0] if len(masks) == 1 else None)


def _part_folders(path: Path) -> tuple[Path | None, Path | None]:
    """train/ and test/, each None where there is none; asked for by name, since listing a large folder takes time."""

    def named(name: str) -> Path | None:
        return next((path / each for each in (name, name.capitalize(), name.upper()) if (path / each).is_dir()), None)

    return named("train"), named("test")


def find_pairs(path: Path) -> tuple[Path, Path] | None:
    """The sub-folder of images and that of masks, by their names alone; None unless there is one of each."""
    folders = subfolders(path)
    images = [folder for folder in folders if folder.name.lower() in ("images", "image")]
    masks = [folder for folder in folders if folder.name.lower() in MASKS]
    return (images[0], masks[0]) if len(images) == len(masks) == 1 else None


def find_classes(path: Path) -> list[Path]:
    """The sub-folders that hold images at any depth, or the folder itself where it is one class; may be empty.

    Raises:
      ValueError: a sub-folder with images none of which is of a kind that is read, or images both in the folder and in
        its only sub-folder, which may be meant in two ways.
    """
    folders = [folder for folder in subfolders(path) if folder.name.lower() not in MASKS]
    inside = [folder for folder in folders if has_images(folder)]
    for folder in folders:
        if folder not in inside and (unread := unread_images(folder)):
            raise ValueError(
                f"{folder} has {len(unread)} images and none that can be read (such as {unread[0]}): convert them to "
                f"one of {', '.join(sorted(IMAGE_SUFFIXES))}, or move the folder elsewhere"
            )
    direct = has_images(path, deep=False)
    if path.name.lower() in NORMAL_NAMES and normal_name([folder.name for folder in inside]) is None:
        return [path] if inside or direct else []
    if direct and len(inside) == 1 and normal_name([inside[0].name]) is None:
        raise ValueError(
            f"{path} holds images, and its sub-folder {inside[0].name} does: give every class a sub-folder of its own, "
            f"such as {path / 'good'}, or name the one that is meant, folder:{inside[0]}"
        )
    return inside if inside or not direct else [path]


def normal_name(names: Sequence[str]) -> str | None:
    """The one name that says normal; None where there is none, or more than one."""
    found = [name for name in names if name.lower() in NORMAL_NAMES]
    return found[0] if len(found) == 1 else None


def no_images(path: Path) -> ValueError:
    """What to raise for a folder in which nothing is found."""
    unread = unread_images(path)
    known = f"known suffixes are {', '.join(sorted(IMAGE_SUFFIXES))}"
    if unread:
        return ValueError(f"no images in {path} that can be read, but {len(unread)} others ({unread[0]}): {known}")
    return ValueError(f"no images in {path} as {KNOWN}; {known}")


def _listings(path: Path) -> list[Path]:
    files = [file for file in sorted(path.iterdir()) if file.suffix.lower() in (".csv", ".tsv") and file.is_file()]
    return [file for file in files if is_listing(file)]


def _is_category(folder: Path) -> bool:
    return find_parts(folder) is not None or (folder / "Data" / "Images").is_dir()


def _no_parts(path: Path, train: Path, test: Path) -> ValueError:
    """Why train/ and test/ are not the parts of a task."""
    folders = {
        part: [folder.name for folder in subfolders(place)] for part, place in (("train", train), ("test", test))
    }
    if not folders["test"]:
        why = "test has no sub-folders: sort its images into test/good and test/DEFECT"
    elif not folders["train"]:
        why = "train has no images: put good ones there"
    else:
        why = (
            f"none or several of the sub-folders of train ({', '.join(folders['train'])}) are called good, normal, ok "
            f"or regular: rename one, or take the classes of one part, folder:{train}"
        )
    return ValueError(f"{path} has train and test, but {why}")
