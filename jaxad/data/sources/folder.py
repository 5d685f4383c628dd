"""Folders of images: good ones alone, a sub-folder for each class, or parts for training and test."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxad.data.image_set import ImageSet
from jaxad.data.images import image_files
from jaxad.data.reading import read_files
from jaxad.data.sources.layouts import find_classes, find_parts, no_images, normal_name
from jaxad.data.sources.mvtec import mvtec
from jaxad.data.sources.registry import Request, source


def _look(argument: str) -> dict[str, Any]:
    """What a folder is as a source."""
    path = Path(argument).expanduser()
    parts = find_parts(path)
    if parts is not None:
        return {"defects": True, "masks": parts.masks is not None, "parts": ("train", "test"), "normal": (parts.name,)}
    classes = find_classes(path)
    if not classes:
        raise no_images(path)
    if len(classes) == 1:
        return {"good": True}
    normal = normal_name([folder.name for folder in classes])
    return {} if normal is None else {"normal": (normal,)}


@source(
    "folder",
    "folder:PATH",
    "Images of your own: good ones alone, a sub-folder for each class, or train/good, test/good and test/DEFECT.",
    files=True,
    look=_look,
)
def folder(request: Request) -> ImageSet:
    """Reads a folder of class sub-folders, or one of images alone, which are one class, named after it.

    Of a folder with parts (`train/good`, `test/good`, `test/DEFECT`) it reads one as `mvtec` does. Files that cannot be
    read are left out.

    Raises:
      ValueError: no images, more than half of them unreadable, or different sizes where no `image_size` is given.
    """
    path = request.path()
    if find_parts(path) is not None:
        return mvtec(request)
    classes = [(f, image_files(f)) for f in find_classes(path)]
    if not classes:
        raise no_images(path)
    names = tuple(f.name for f, _ in classes)
    files = np.array([str(file) for _, group in classes for file in group])
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), [len(group) for _, group in classes])
    index = request.choose(lambda: labels, len(labels), names)
    read = read_files([Path(file) for file in files[index]], request.sizing)
    index = index[read.kept]
    beside = 0 if classes[0][0] == path else len(image_files(path))
    reading = read.reading._replace(beside=beside)
    return ImageSet(path.name, read.images, labels[index], names, None, files[index], reading)
