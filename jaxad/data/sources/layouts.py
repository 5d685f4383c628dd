"""What a folder of images is, by the names of its sub-folders: found without opening a file."""

from pathlib import Path
from typing import NamedTuple

from jaxad.data.images import IMAGE_SUFFIXES, image_files, subfolders

NORMAL_NAMES = frozenset({"good", "normal", "ok", "regular"})
KNOWN = (
    "good images alone, directly in it or in one sub-folder; a sub-folder for each class; or train/good, test/good and "
    "test/DEFECT, with ground_truth/DEFECT where there are masks"
)
"""The layouts of `folder:PATH`, for messages."""


class Parts(NamedTuple):
    """A folder with a training and a test part, in the layout of MVTec AD."""

    name: str  # of the good class
    train: Path  # where good training images are
    defects: tuple[str, ...]  # sub-folders of test/ that hold no good images
    test: Path | None  # where good test images are
    masks: Path | None  # where sub-folders of masks are


def find_parts(path: Path) -> Parts | None:
    """The parts of a folder; None where it has no train/ with good images beside a test/ with sub-folders."""
    train, test = path / "train", path / "test"
    if not train.is_dir() or not test.is_dir() or not subfolders(test):
        return None
    good = normal_name([folder.name for folder in subfolders(train)])
    if good is None and not has_images(train):
        return None
    tested = [folder.name for folder in subfolders(test)]
    normal = normal_name(tested)
    name = good or normal or "good"
    defects = tuple(folder for folder in tested if folder != normal)
    masks = path / "ground_truth"
    places = (train if good is None else train / good, defects, None if normal is None else test / normal)
    return Parts(name, *places, masks if masks.is_dir() else None)


def find_classes(path: Path) -> list[Path]:
    """The sub-folders that hold images, or the folder itself where none does and it has some; may be empty."""
    inside = [folder for folder in subfolders(path) if has_images(folder)]
    return inside if inside or not has_images(path) else [path]


def normal_name(names: list[str]) -> str | None:
    """The one name that says normal; None where there is none, or more than one."""
    found = [name for name in names if name.lower() in NORMAL_NAMES]
    return found[0] if len(found) == 1 else None


def has_images(path: Path) -> bool:
    """Whether there is an image file directly in a folder."""
    return any(file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".") for file in path.iterdir())


def no_images(path: Path) -> ValueError:
    """What to raise for a folder in which nothing is found."""
    return ValueError(f"no images in {path} as {KNOWN}; known suffixes are {', '.join(sorted(IMAGE_SUFFIXES))}")


def mask_files(folder: Path, images: list[Path]) -> list[Path | None]:
    """For each image NAME.* the file NAME_mask.* or NAME.* in a folder of masks; None where there is none."""
    masks = {file.stem: file for file in image_files(folder)} if folder.is_dir() else {}
    return [masks.get(f"{image.stem}_mask", masks.get(image.stem)) for image in images]
