"""Reading the images of a layout, whichever it is, and their masks."""

from pathlib import Path

import numpy as np

from jaxad.data.image_set import ImageSet
from jaxad.data.reading import add_masks, read_files
from jaxad.data.sources.layouts import Layout
from jaxad.data.sources.registry import Request

NAMED = 3  # images that a message names


def read_layout(request: Request, layout: Layout, name: str) -> ImageSet:
    """Reads the chosen images of a layout, with masks where every image that needs one has one.

    Where there are parts, it reads the one that is asked for, and all images but those of the first class need a mask;
    otherwise those of every class of which some image has one. Files that cannot be read are left out.

    Raises:
      ValueError: no such part or no images in it, a mask of a defect that marks no pixel, a mask of another size than
        its image, more than half of the files unreadable, different image sizes where no `image_size` is given.
    """
    here = np.arange(len(layout.files))
    if layout.parts is not None:
        known = tuple(dict.fromkeys(layout.parts))
        if request.split not in ("train", "test", *known):
            raise ValueError(f"{request.spec} has no part {request.split!r}: choose from {', '.join(known)}")
        here = np.flatnonzero(np.array(layout.parts) == request.split)
    if not len(here):
        raise ValueError(f"{request.spec}: part {request.split} of {layout.words} has no images: add some")
    labels = layout.labels[here]
    index = request.choose(lambda: labels, len(here), layout.classes)
    labels, files = labels[index], [layout.files[i] for i in here[index]]
    read, pixels = read_files(files, request.sizing, depth=request.depth), None
    reading = read.reading._replace(layout=layout.words, left_out=layout.left_out)
    if layout.masks is not None:
        masks = [layout.masks[i] for i in here[index]]
        needed = _classes_with_masks(layout)
        lacking = sum(masks[k] is None for k in read.kept if labels[k] in needed)
        if lacking:
            reading = reading._replace(no_mask=lacking)
        else:
            read, pixels, anomalous = add_masks(read._replace(reading=reading), files, masks, request.sizing.fit)
            reading = read.reading
            if layout.parts is not None:
                _check_marked([files[k] for k in read.kept], labels[read.kept], anomalous)
    ids = np.array([str(files[k]) for k in read.kept])
    return ImageSet(name, read.images, labels[read.kept], layout.classes, pixels, ids, reading)


def _classes_with_masks(layout: Layout) -> set[int]:
    """The classes of which every image needs a mask, if masks are to be used."""
    if layout.parts is not None:
        return set(range(1, len(layout.classes)))
    return {int(label) for mask, label in zip(layout.masks, layout.labels) if mask is not None}


def _check_marked(files: list[Path], labels: np.ndarray, anomalous: np.ndarray) -> None:
    """Raises ValueError where masks say of images of defects that they have none."""
    blank = [file for file, label, marked in zip(files, labels, anomalous) if label and not marked]
    if blank:
        raise ValueError(
            f"the masks of {len(blank)} of {int((labels > 0).sum())} images of defects mark no pixel, such as those of "
            f"{', '.join(map(str, blank[:NAMED]))}: correct them, or take masks away to go without"
        )
