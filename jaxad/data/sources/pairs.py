"""Folders of images and of masks that have the same names, such as CrackForest's."""

from pathlib import Path

import numpy as np

from jaxad.data.image_set import ImageSet
from jaxad.data.reading import add_masks, read_files
from jaxad.data.sources.inside import BESIDE, images_inside, missing_words
from jaxad.data.sources.layouts import Layout, find_pairs
from jaxad.data.sources.mvtec import UNUSED, mask_files
from jaxad.data.sources.registry import Request, source


def pairs_layout(path: Path) -> Layout:
    """The images `images/NAME.*` and their masks `masks/NAME.*`, of one class, since masks say what they are.

    Masks may be called NAME_mask, NAME_gt or NAME_label as well, and their folder as `jaxad.data.sources.inside.MASKS`
    says; that of the images may be called image. Masks may be .mat files as `jaxad.data.formats.matlab` says.

    Raises:
      ValueError: another layout, no images.
    """
    images, masks = _folders(path)
    inside = images_inside(images, deep=False)
    if not inside.files:
        raise ValueError(f"no images in {images}")
    found, unused = mask_files(masks, inside.files, images)
    beside = images_inside(path, deep=False)
    missed = [inside.missed, images_inside(masks, of_masks=True).missed, {UNUSED: [str(file) for file in unused]}]
    missed += [beside.missed, {BESIDE: [str(file) for file in beside.files]}]
    return Layout(
        f"{images.name}/NAME and {masks.name}/NAME",
        ("",),
        tuple(inside.files),
        np.zeros(len(inside.files), np.int32),
        None,
        tuple(found),
        missing_words(missed, path),
    )


def _folders(path: Path) -> tuple[Path, Path]:
    """The folder of images and that of masks; ValueError where there are none."""
    found = find_pairs(path) if path.is_dir() else None
    if found is None:
        missing = next((name for name in ("images", "masks") if not (path / name).is_dir()), "images")
        raise ValueError(f"no folder {path / missing}: image/mask pairs are in {path}/images and {path}/masks")
    return found


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
        said = f"no mask {_folders(path)[1] / missing[0].stem}.* for {missing[0]}{others}"
        raise ValueError(" ".join(said.split()))  # a name may have lines
    # Which class an image is of is known when its mask is read, so that all are read before some are chosen.
    fit = request.sizing.fit
    read = read_files(files, request.sizing, depth=request.depth)
    read, pixels, anomalous = add_masks(read, files, masks, fit)
    reading = read.reading._replace(layout=layout.words, left_out=layout.left_out)
    ids = np.array([str(files[i]) for i in read.kept])
    labels = anomalous.astype(np.int32)
    return request.sample(ImageSet(path.name, read.images, labels, ("good", "defect"), pixels, ids, reading))
