"""Class folders: a sub-folder of images for each class."""

from pathlib import Path

import numpy as np

from jaxad.data.image_set import ImageSet
from jaxad.data.images import IMAGE_SUFFIXES, image_files, read_images, subfolders
from jaxad.data.sources.registry import Request, source


@source("folder", "folder:PATH", "A sub-folder of images for each class.")
def folder(request: Request) -> ImageSet:
    """Reads a folder of class sub-folders; a folder of images alone is one class, named after it.

    Raises:
      ValueError: no images, an unreadable file, or different sizes where no `image_size` is given.
    """
    path = request.path()
    classes = [(f, image_files(f)) for f in subfolders(path)] or [(path, image_files(path))]
    classes = [(f, files) for f, files in classes if files]
    if not classes:
        raise ValueError(f"no images in {path} or its sub-folders: known suffixes are {sorted(IMAGE_SUFFIXES)}")
    names = tuple(f.name for f, _ in classes)
    files = np.array([str(file) for _, group in classes for file in group])
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), [len(group) for _, group in classes])
    index = request.choose(lambda: labels, len(labels), names)
    images = read_images([Path(file) for file in files[index]], request.image_size)
    return ImageSet(path.name, images, labels[index], names, None, files[index])
