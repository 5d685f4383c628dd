"""Folders of images: what one is is found out by the names in it."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxad.data.image_set import ImageSet
from jaxad.data.images import subfolders
from jaxad.data.sources.arranged import read_layout
from jaxad.data.sources.inside import BESIDE, MASKS, OF_MASKS, Missed, images_inside, missing_words
from jaxad.data.sources.layouts import (
    NORMAL_NAMES,
    Layout,
    find_classes,
    find_listing,
    find_parts,
    normal_name,
    recognise,
)
from jaxad.data.sources.listed import annotated_layout, listing_layout, look_at, visa_layout
from jaxad.data.sources.mvtec import parts_layout
from jaxad.data.sources.pairs import pairs, pairs_layout
from jaxad.data.sources.registry import Request, source

EMPTY = "folders without images"


def _look(argument: str) -> dict[str, Any]:
    """What a folder is as a source."""
    path = Path(argument).expanduser()
    kind = recognise(path)
    if kind == "parts":
        parts = find_parts(path)
        return {"defects": True, "masks": parts.masks is not None, "parts": ("train", "test"), "normal": (parts.name,)}
    if kind in ("visa", "csv"):
        return look_at(visa_layout(path) if kind == "visa" else listing_layout(find_listing(path), whole=False))
    if kind == "pairs":
        return {"masks": True, "normal": ("good",)}
    if kind == "alone":
        return {"good": True}
    if kind == "annotated":
        return {}
    normal = normal_name([folder.name for folder in find_classes(path)])
    return {} if normal is None else {"normal": (normal,)}


def class_layout(path: Path) -> Layout:
    """A folder of class sub-folders, or of one class, which is called as the folder that holds its images.

    Images at any depth belong to the class; folders of masks in it do not.

    Raises:
      ValueError: a class folder that holds class folders of its own.
    """
    folders, missed, files = find_classes(path), [], []
    labels: list[int] = []
    nested = False
    for label, folder in enumerate(folders):
        found = images_inside(folder, deep=True)
        inner = sorted(name for name in found.folders if name.lower() in NORMAL_NAMES)
        if inner and folder.name.lower() not in NORMAL_NAMES:
            raise ValueError(
                f"{folder} has class folders of its own ({', '.join(inner)}): give folder:{folder}, or move them up"
            )
        missed.append(found.missed)
        nested = nested or bool(found.folders)
        files += found.files
        labels += [label] * len(found.files)
    if folders != [path]:
        beside = images_inside(path, deep=False)
        missed += [beside.missed, {BESIDE: [str(file) for file in beside.files]}, _unused(path, folders)]
    words = "class folders" if len(folders) > 1 else "images alone"
    words += ", of images at any depth" if nested else ""
    names = tuple(folder.name for folder in folders)
    return Layout(words, names, tuple(files), np.array(labels, np.int32), None, None, missing_words(missed, path))


def _unused(path: Path, folders: list[Path]) -> Missed:
    """Sub-folders that are no classes."""
    others = [folder for folder in subfolders(path) if folder not in folders]
    of_masks = [folder for folder in others if folder.name.lower() in MASKS]
    return {
        OF_MASKS: [str(file) for folder in of_masks for file in images_inside(folder).files],
        EMPTY: [str(folder) for folder in others if folder not in of_masks],
    }


def layout_of(path: Path) -> Layout:
    """What a folder or listing holds, by its names alone.

    Raises:
      ValueError: no layout that is known, naming what was found.
    """
    kind = recognise(path)
    if kind == "csv":
        return listing_layout(find_listing(path))
    layouts = {
        "parts": parts_layout, "visa": visa_layout, "annotated": annotated_layout, "pairs": pairs_layout
    }  # fmt: skip
    return layouts.get(kind, class_layout)(path)


@source(
    "folder",
    "folder:PATH",
    "Images of your own: good ones alone, a sub-folder for each class, train/good, test/good and test/DEFECT, a "
    "category of BTAD or VisA, images/ and masks/, or a listing.",
    files=True,
    look=_look,
    layout=lambda argument: layout_of(Path(argument).expanduser()),
)
def folder(request: Request) -> ImageSet:
    """Reads a folder in whatever layout it has: see `jaxad.data.sources.layouts.KNOWN`.

    Files that cannot be read are left out, and what is no part of the layout is named.

    Raises:
      ValueError: no known layout, no images, more than half of them unreadable, or different sizes where no
        `image_size` is given.
    """
    path = request.path()
    if recognise(path) == "pairs":
        return pairs(request)
    return read_layout(request, layout_of(path), path.stem if path.is_file() else path.name)
