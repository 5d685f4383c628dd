"""The folder layout of MVTec AD (Bergmann et al., CVPR 2019): good images to train on, masks of defects to test on."""

from pathlib import Path

import numpy as np

from jaxad.data.image_set import ImageSet
from jaxad.data.images import image_files, subfolders
from jaxad.data.reading import add_masks, read_files
from jaxad.data.sources.layouts import find_parts, mask_files, no_images
from jaxad.data.sources.registry import Request, source


@source(
    "mvtec",
    "mvtec:PATH/CATEGORY",
    "The layout of MVTec AD (train/good, test/good, test/DEFECT), with masks where ground_truth/DEFECT has them.",
    parts=("train", "test"),
    defects=True,
    files=True,
)
def mvtec(request: Request) -> ImageSet:
    """Reads one part ("train" or "test") of a category in the layout of MVTec AD, with masks if all defects have one.

    Images: `train/good` or directly in `train`, `test/good`, `test/<defect>`; masks:
    `ground_truth/<defect>/NAME_mask.*` or `NAME.*`, where more than half of the range is anomalous, fitted by nearest
    neighbour. Class 0 is "good", or normal, ok, regular where the folder is called so. Where a defect has no mask, no
    mask is used. Files that cannot be read are left out.

    Raises:
      ValueError: another layout, a mask of another size than its image, more than half of the files unreadable,
        different image sizes where no `image_size` is given.
    """
    path, split = request.path(), request.split
    if split not in ("train", "test"):
        raise ValueError(f"MVTec-layout folders have no part {split!r}: choose train or test")
    parts = find_parts(path)
    if parts is None:
        raise ValueError(f"{path} has no train/good and test folders: give one category, such as mvtec:DIR/bottle")
    # Defects are listed from the test part for both parts, so that a class has one number.
    names = (parts.name, *parts.defects)
    if split == "train":
        groups = [image_files(parts.train)]
    else:
        good = [] if parts.test is None else image_files(parts.test)
        groups = [good, *(image_files(path / "test" / name) for name in parts.defects)]
    files = [file for group in groups for file in group]
    if not files:
        raise no_images(path / split)
    labels = np.repeat(np.arange(len(groups), dtype=np.int32), [len(group) for group in groups])
    masks: list[Path | None] = [None] * len(groups[0])
    for name, group in zip(parts.defects, groups[1:]):
        masks += [None] * len(group) if parts.masks is None else mask_files(parts.masks / name, group)
    index = request.choose(lambda: labels, len(labels), names)
    chosen, masks = [files[i] for i in index], [masks[i] for i in index]
    read = read_files(chosen, request.sizing)
    if split == "train":  # what else is there is no part of this layout
        other = sum(len(image_files(folder)) for folder in subfolders(path / "train") if folder != parts.train)
        read = read._replace(reading=read.reading._replace(beside=other))
    missing = sum(masks[k] is None for k in read.kept if labels[index[k]] > 0)
    pixels = None
    if missing:
        read = read._replace(reading=read.reading._replace(no_mask=missing))
    else:
        read, pixels, _ = add_masks(read, chosen, masks, request.sizing.fit)
    ids = np.array([str(chosen[k]) for k in read.kept])
    return ImageSet(path.name, read.images, labels[index[read.kept]], names, pixels, ids, read.reading)
