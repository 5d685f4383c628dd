"""The layout of MVTec AD (Bergmann et al., CVPR 2019) and BTAD: good images to train on, and defects to test on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxad.data.image_set import ImageSet
from jaxad.data.images import subfolders
from jaxad.data.sources.arranged import read_layout
from jaxad.data.sources.inside import OF_MASKS, Missed, images_inside, missing_words
from jaxad.data.sources.layouts import Layout, find_parts
from jaxad.data.sources.registry import Request, source

ENDS = ("_mask", "", "_gt", "_label")  # of the names of masks, the likelier first
ELSEWHERE = "images that are no part of this layout"
UNUSED = "masks of no image"


def parts_layout(path: Path) -> Layout:
    """The images of `train/good` or directly in `train`, `test/good` and `test/DEFECT`, at any depth, and their masks.

    Masks are `ground_truth/DEFECT/NAME_mask.*`, or NAME.*, NAME_gt.*, NAME_label.*. Class 0 is "good", or normal, ok,
    regular where the folder is called so.

    Raises:
      ValueError: another layout.
    """
    parts = find_parts(path)
    if parts is None:
        raise ValueError(f"{path} has no train/good and test folders: give one category, such as mvtec:DIR/bottle")
    missed: list[Missed] = []

    def inside(folder: Path, deep: bool = True) -> list[Path]:
        found = images_inside(folder, deep=deep)
        missed.append(found.missed)
        return found.files

    train, test = parts.folders
    places = [parts.test] if parts.test is not None else []
    groups = [("train", 0, inside(parts.train, deep=parts.train != train))]
    groups += [("test", 0, inside(place)) for place in places]
    groups += [("test", 1 + i, inside(test / name)) for i, name in enumerate(parts.defects)]
    masks: list[Path | None] = []
    for part, kind, files in groups:
        if parts.masks is None or part == "train":
            masks += [None] * len(files)
            continue
        name = parts.defects[kind - 1] if kind else parts.test.name  # some sets have blank masks of good images
        masks += mask_files(parts.masks / name, files, test / name)[0]
    if parts.masks is not None:
        matched = set(masks)
        missed.append({UNUSED: [str(file) for file in images_inside(parts.masks).files if file not in matched]})
    used = {file for _, _, files in groups for file in files}
    here = [path, *(folder for folder in subfolders(path) if folder != parts.masks)]
    others = [images_inside(folder, deep=folder != path) for folder in here]
    missed.append({ELSEWHERE: [str(file) for found in others for file in found.files if file not in used]})
    missed += [{OF_MASKS: found.missed.get(OF_MASKS, [])} for found in others]
    with_masks = f", with masks in {parts.masks.name}" if any(mask is not None for mask in masks) else ""
    known = "BTAD" if (parts.name.lower(), parts.defects) == ("ok", ("ko",)) else "MVTec AD"
    trained = train.name if parts.train == train else f"{train.name}/{parts.train.name}"
    tested = "" if parts.test is None else f", {test.name}/{parts.test.name}"
    return Layout(
        f"{trained}{tested} and {test.name}/DEFECT{with_masks} ({known})",
        (parts.name, *parts.defects),
        tuple(file for _, _, files in groups for file in files),
        np.repeat(np.array([kind for _, kind, _ in groups], np.int32), [len(files) for *_, files in groups]),
        tuple(part for part, _, files in groups for _ in files),
        tuple(masks),
        missing_words(missed, path),
    )


def mask_files(folder: Path, images: Sequence[Path], root: Path) -> tuple[list[Path | None], list[Path]]:
    """For each image its mask, of the same name at the same depth in a folder, None where there is none; and others.

    Args:
      root: the folder of the images.
    """
    files = images_inside(folder, of_masks=True).files if folder.is_dir() else []
    masks = {file.relative_to(folder).with_suffix(""): file for file in files}
    found = []
    for image in images:
        name = image.relative_to(root).with_suffix("")
        named = (masks.get(name.with_name(f"{name.name}{end}")) for end in ENDS)
        found.append(next((file for file in named if file is not None), None))
    used = set(found)
    return found, [file for file in files if file not in used]


def _read(request: Request) -> ImageSet:
    if request.split not in ("train", "test"):
        raise ValueError(f"MVTec-layout folders have no part {request.split!r}: choose train or test")
    path = request.path()
    return read_layout(request, parts_layout(path), path.name)


@source(
    "mvtec",
    "mvtec:PATH/CATEGORY",
    "The layout of MVTec AD (train/good, test/good, test/DEFECT), with masks where ground_truth/DEFECT has them.",
    parts=("train", "test"),
    defects=True,
    files=True,
    layout=lambda argument: parts_layout(Path(argument).expanduser()),
)
def mvtec(request: Request) -> ImageSet:
    """Reads one part ("train" or "test") of a category in the layout of MVTec AD; see `parts_layout`."""
    return _read(request)


@source(
    "btad",
    "btad:PATH/PRODUCT",
    "A product of BTAD (train/ok, test/ok, test/ko, ground_truth/ko).",
    parts=("train", "test"),
    defects=True,
    files=True,
    layout=lambda argument: parts_layout(Path(argument).expanduser()),
)
def btad(request: Request) -> ImageSet:
    """Reads one part of a product of BTAD (Mishra et al., ISIE 2021), whose masks are called as their images are."""
    return _read(request)
