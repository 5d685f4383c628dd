"""Folders of images and of masks that have the same names, such as CrackForest's."""

from pathlib import Path

import numpy as np

from jaxad.data.image_set import ImageSet
from jaxad.data.reading import add_masks, read_files
from jaxad.data.sources.inside import images_inside, missing_words
from jaxad.data.sources.layouts import Layout
from jaxad.data.sources.registry import Request, source

UNUSED = "masks of no image"


def pairs_layout(path: Path) -> Layout:
    """The images `images/NAME.*` and their masks `masks/NAME.*`, of one class, since masks say what they are.

    Raises:
      ValueError: another layout, no images.
    """
    folders = [path / name for name in ("images", "masks")]
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"no folder {folder}: image/mask pairs are in {path}/images and {path}/masks")
    inside, other = (images_inside(folder, deep=False) for folder in folders)
    files, masks = inside.files, {file.stem: file for file in other.files}
    if not files:
        raise ValueError(f"no images in {folders[0]}")
    names = {file.stem for file in files}
    unused = {UNUSED: [str(file) for stem, file in masks.items() if stem not in names]}
    return Layout(
        "images/NAME and masks/NAME",
        ("",),
        tuple(files),
        np.zeros(len(files), np.int32),
        None,
        tuple(masks.get(file.stem) for file in files),
        missing_words([inside.missed, other.missed, unused], path),
    )


@source(
    "pairs",
    "pairs:FOLDER",
    "Images in images/NAME.* and their masks in masks/NAME.*.",
    masks=True,
    normal=("good",),
    files=True,
    layout=lambda argument: pairs_layout(Path(argument).expanduser()),
)
def pairs(request: Request) -> ImageSet:
    """Reads `images/NAME.*` and `masks/NAME.*` of a folder, such as CrackForest's.

    In masks what is not zero is anomalous (`jaxad.data.mask_values`). Class 0 "good" has no anomalous pixel, class 1
    "defect" has one.

    Raises:
      ValueError: another layout, an image without a mask, a mask of another size than its image.
    """
    path = request.path()
    layout = pairs_layout(path)
    files, masks = layout.files, layout.masks
    missing = [file for file, mask in zip(files, masks) if mask is None]
    if missing:
        others = f" and {len(missing) - 1} other(s)" if len(missing) > 1 else ""
        raise ValueError(f"no mask {path / 'masks' / missing[0].stem}.* for {missing[0]}{others}")
    # Which class an image is of is known when its mask is read, so that all are read before some are chosen.
    fit = request.sizing.fit
    read = read_files(files, request.sizing, depth=request.depth)
    read, pixels, anomalous = add_masks(read, files, masks, fit)
    reading = read.reading._replace(layout=layout.words, left_out=layout.left_out)
    ids = np.array([str(files[i]) for i in read.kept])
    labels = anomalous.astype(np.int32)
    return request.sample(ImageSet(path.name, read.images, labels, ("good", "defect"), pixels, ids, reading))
