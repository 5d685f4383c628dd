"""Images that a listing names: a CSV file of path, label and, where known, mask and split, and VisA, which has one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxad.data.image_set import ImageSet, class_index
from jaxad.data.provenance import LeftOut
from jaxad.data.sources.arranged import read_layout
from jaxad.data.sources.inside import EXAMPLES, Missed, images_inside, missing_words
from jaxad.data.sources.layouts import ANNOTATIONS, Layout, find_listing, normal_name
from jaxad.data.sources.listing import Row, read_listing
from jaxad.data.sources.registry import Request, source

SPLIT = Path("split_csv", "1cls.csv")  # of VisA, beside its categories
UNLISTED = "images beside those that the listing names"


def listing_layout(file: Path, *, whole: bool = True) -> Layout:
    """The images that a CSV file names, by paths that are absolute or begin at its folder.

    Args:
      whole: whether what lies beside these images is wanted, too.

    Raises:
      ValueError: what `read_listing` refuses; training images of several labels none of which says normal, or anomalous
        ones.
    """
    rows = read_listing(file)
    files = [located(file.parent, row.path) for row in rows]
    masks = [located(file.parent, row.mask) if row.mask else None for row in rows]
    named = {str(path) for path in (*files, *masks) if path is not None}
    beside = [
        name
        for folder in sorted({path.parent for path in files} if whole else ())
        if folder.is_dir()
        for name in map(str, images_inside(folder, deep=False).files)
        if name not in named
    ]
    left_out = missing_words([{UNLISTED: beside}], file.parent)
    return _arranged(f"listing {file.name}", file, rows, files, masks, left_out)


def visa_layout(path: Path) -> Layout:
    """A category of VisA (Zou et al., ECCV 2022), its parts as `split_csv/1cls.csv` beside it says.

    Without that file its images are one set of normal and anomalous ones.

    Raises:
      ValueError: another layout, or a category that the file does not name.
    """
    images, masks = path / "Data" / "Images", path / "Data" / "Masks" / "Anomaly"
    if not images.is_dir():
        raise ValueError(f"{path} has no Data/Images: give one category of VisA, such as visa:DIR/candle")
    found = {name: images_inside(images / name) for name in ("Normal", "Anomaly") if (images / name).is_dir()}
    missed: list[Missed] = [each.missed for each in found.values()]
    listing = path.parent / SPLIT
    if not listing.is_file():
        files = [file for each in found.values() for file in each.files]
        labels = np.repeat(np.arange(len(found), dtype=np.int32), [len(each.files) for each in found.values()])
        of_defects = {file.stem: file for file in images_inside(masks).files} if masks.is_dir() else {}
        names = tuple(found)
        own = [of_defects.get(file.stem) if names[kind] == "Anomaly" else None for file, kind in zip(files, labels)]
        words = f"VisA, Data/Images/Normal and Anomaly, without {SPLIT}"
        return Layout(words, names, tuple(files), labels, None, _some(own), missing_words(missed, path))
    rows = [row for row in read_listing(listing) if row.object == path.name]
    if not rows:
        raise ValueError(f"{listing} names no image of {path.name}: give a category that it names, or complete it")
    files = [located(path.parent, row.path) for row in rows]
    named = set(files)
    missed.append({UNLISTED: [str(file) for each in found.values() for file in each.files if file not in named]})
    own = [located(path.parent, row.mask) if row.mask else None for row in rows]
    return _arranged(f"VisA, parts by {SPLIT}", listing, rows, files, own, missing_words(missed, path))


def annotated_layout(path: Path) -> Layout:
    """The validation part of Tiny-ImageNet: `images/NAME`, of the classes that `val_annotations.txt` says.

    (Its training part, `train/CLASS/images/NAME`, is a folder of class sub-folders; its test part says no classes.)

    Raises:
      ValueError: a line without name and class, or a file that is no text.
    """
    file = path / ANNOTATIONS
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {file} ({getattr(error, 'strerror', None) or error}): copy it again") from error
    fields = [line.split("\t") for line in lines if line.strip()]
    wrong = next((number for number, words in enumerate(fields, 1) if len(words) < 2 or not all(words[:2])), None)
    if wrong or not fields:
        raise ValueError(f"{file}, line {wrong or 1}: no name and class, separated by a tab: copy it again")
    labels, names = class_index(np.array([words[1] for words in fields]))
    files = tuple(path / "images" / words[0] for words in fields)
    inside, named = images_inside(path / "images"), set(files)
    missed: list[Missed] = [inside.missed, {UNLISTED: [str(each) for each in inside.files if each not in named]}]
    left_out = missing_words(missed, path)
    return Layout(f"images, of the classes of {ANNOTATIONS}", names, files, labels, None, None, left_out)


def located(root: Path, name: str) -> Path:
    """A path in a listing; one that was written on Windows has other separators."""
    path = root / name
    return root / name.replace("\\", "/") if "\\" in name and not path.exists() else path


def _arranged(
    words: str,
    file: Path,
    rows: Sequence[Row],
    files: Sequence[Path],
    masks: Sequence[Path | None],
    left_out: tuple[LeftOut, ...],
) -> Layout:
    labels, names = class_index(np.array([row.label for row in rows]))
    rows = [row._replace(label=names[label]) for row, label in zip(rows, labels)]
    parts = None
    if any(row.split for row in rows):
        parts = tuple(row.split for row in rows)
        normal = _normal(file, rows)
        names = (normal, *(name for name in names if name != normal))
        labels = np.array([names.index(row.label) for row in rows], np.int32)
    return Layout(words, names, tuple(files), labels, parts, _some(masks), left_out)


def _some(masks: Sequence[Path | None]) -> tuple[Path | None, ...] | None:
    """The masks of a layout, None where no image has one."""
    return tuple(masks) if any(mask is not None for mask in masks) else None


def _normal(file: Path, rows: Sequence[Row]) -> str:
    """The label of normal images: the one that says so, or else the only one of training images."""
    trained = list(dict.fromkeys(row.label for row in rows if row.split == "train"))
    if not trained:
        raise ValueError(f"{file} has no line of split train: write train, test and, where wanted, valid")
    normal = trained[0] if len(trained) == 1 else normal_name(sorted({row.label for row in rows}))
    if normal is None:
        raise ValueError(
            f"{file}: training images are labelled {', '.join(trained[:EXAMPLES])}, and it is not known which is "
            "normal: call it good, normal, ok or regular"
        )
    wrong = [row for row in rows if row.split == "train" and row.label != normal]
    if wrong:
        raise ValueError(
            f"{file}: {len(wrong)} training images are not {normal}, such as {wrong[0].path} (line {wrong[0].line}, "
            f"{wrong[0].label}): training images are normal, move others to valid or test"
        )
    return normal


def look_at(layout: Layout) -> dict[str, Any]:
    """What a set of that layout is as a source."""
    masks = layout.masks is not None
    if layout.parts is not None:
        known = tuple(part for part in ("train", "valid", "test") if part in layout.parts)
        return {"defects": True, "masks": masks, "parts": known, "normal": layout.classes[:1]}
    if len(layout.classes) == 1:
        return {"good": True}
    normal = normal_name(layout.classes)
    return {"masks": masks} | ({} if normal is None else {"normal": (normal,)})


@source(
    "csv",
    "csv:FILE",
    "Images that a CSV file lists, with a header: path, label and, where known, mask and split (train, valid, test).",
    masks=True,
    files=True,
    look=lambda argument: look_at(listing_layout(find_listing(Path(argument).expanduser()), whole=False)),
    layout=lambda argument: listing_layout(find_listing(Path(argument).expanduser())),
)
def listed(request: Request) -> ImageSet:
    """Reads the images of a listing, or one part of them where it has parts; see `listing_layout`."""
    file = find_listing(request.path())
    return read_layout(request, listing_layout(file), file.stem)


@source(
    "visa",
    "visa:PATH/CATEGORY",
    "A category of VisA as it is published, its parts by split_csv/1cls.csv.",
    masks=True,
    files=True,
    look=lambda argument: look_at(visa_layout(Path(argument).expanduser())),
    layout=lambda argument: visa_layout(Path(argument).expanduser()),
)
def visa(request: Request) -> ImageSet:
    """Reads one part of a category of VisA; see `visa_layout`."""
    path = request.path()
    return read_layout(request, visa_layout(path), path.name)
