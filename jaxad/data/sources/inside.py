"""What is inside folders: images at any depth, and what is left out there, with how much of it and examples."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jaxad.data.formats import matlab
from jaxad.data.images import IMAGE_SUFFIXES
from jaxad.data.provenance import LeftOut

EXAMPLES = 10  # names that are kept of what is left out
MASKS = frozenset({"ground_truth", "groundtruth", "gt", "mask", "masks"})  # folders of masks, by their names
OTHER_IMAGES = frozenset(
    {
        *(".exr", ".fits", ".hdr", ".heic", ".heif", ".ico", ".jpx", ".jxl", ".pam", ".pcx", ".psd", ".svg", ".tga"),
        *(".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".raw", ".rw2", ".xpm"),
    }
)
"""Suffixes of images that are not read."""

SUFFIXES, OF_MASKS, LINKS = "files with other suffixes", "images in folders of masks", "links to folders"
BESIDE = "images beside the sub-folders that are read"
NO_FILES = "pipes, sockets or devices"
Missed = dict[str, list[str]]  # what is left out -> its names


class Inside(NamedTuple):
    """The files of a folder, at any depth."""

    files: list[Path]  # images, sorted
    missed: Missed
    folders: set[str]  # names of the folders inside it that have images


def images_inside(folder: Path, *, deep: bool = True, of_masks: bool = False) -> Inside:
    """All images in a folder and the folders in it; hidden ones and folders of masks are left out.

    Args:
      deep: whether to look into folders inside it.
      of_masks: whether it holds masks, which may be .mat files.

    Raises:
      ValueError: a folder that cannot be listed.
    """
    files: list[Path] = []
    missed: Missed = {}
    folders: set[str] = set()
    for place, names in _walk(folder, missed, deep):
        kinds = [is_image(name) or (of_masks and name.lower().endswith(matlab.SUFFIX)) for name in names]
        images, others = ([name for name, kind in zip(names, kinds) if kind is wanted] for wanted in (True, False))
        within = Path(place).relative_to(folder).parts
        masks = any(name.lower() in MASKS for name in within)
        if images and not masks:
            folders.update(within)
        if masks:
            missed.setdefault(OF_MASKS, []).extend(os.path.join(place, name) for name in images)
        else:
            files += [Path(place, name) for name in images]
        if others:
            missed.setdefault(SUFFIXES, []).extend(os.path.join(place, name) for name in others)
    if folders:  # otherwise they come sorted
        files.sort(key=lambda file: file.parts)
    return Inside(files, missed, folders)


def has_images(folder: Path, *, deep: bool = True) -> bool:
    """Whether there is an image file in a folder or the folders in it, those of masks aside; the first one suffices."""
    waiting = [str(folder)]
    while waiting:
        with _listed(waiting.pop()) as entries:
            for entry in entries:
                if is_image(entry.name) and (entry.is_file() or entry.is_symlink()):
                    return True
                hidden = entry.name.startswith(".") or entry.name.lower() in MASKS
                if deep and not hidden and entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
    return False


def unread_images(folder: Path) -> list[str]:
    """Names of files that are images by suffixes that are not read, at any depth."""
    return [
        os.path.join(place, name)
        for place, names in _walk(folder, {}, True)
        for name in names
        if os.path.splitext(name)[1].lower() in OTHER_IMAGES
    ]


def is_image(name: str) -> bool:
    """Whether a file is read as an image, by its name."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def missing_words(missed: Iterable[Missed], root: Path) -> tuple[LeftOut, ...]:
    """What was left out in all places, with examples named from `root` on."""
    found: dict[str, dict[str, None]] = {}
    for each in missed:
        for what, names in each.items():
            found.setdefault(what, {}).update(dict.fromkeys(names))
    return tuple(
        LeftOut(
            _kinds(what, names), len(names), tuple(os.path.relpath(name, root) for name in sorted(names)[:EXAMPLES])
        )
        for what, names in found.items()
        if names
    )


def _kinds(what: str, names: Iterable[str]) -> str:
    """What was left out; of other suffixes also which."""
    if what != SUFFIXES:
        return what
    suffixes = Counter(os.path.splitext(name)[1].lower() or "without any" for name in names)
    return f"{what}: {', '.join(f'{count} {suffix}' for suffix, count in suffixes.most_common(5))}"


def _walk(folder: Path, missed: Missed, deep: bool) -> Iterator[tuple[str, list[str]]]:
    """Folders and the names of their files, without what is hidden."""
    waiting = [str(folder)]
    while waiting:
        place = waiting.pop()
        with _listed(place) as entries:
            found = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda e: e.name)
        names, inner = [], []
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                inner.append(entry.path)
            elif entry.is_dir():  # links are not followed, because they may lead in circles
                if deep:
                    missed.setdefault(LINKS, []).append(entry.path)
            elif entry.is_file() or entry.is_symlink():  # of a broken link it is said that it cannot be read
                names.append(entry.name)
            else:
                missed.setdefault(NO_FILES, []).append(entry.path)
        yield place, names
        waiting += reversed(inner if deep else [])


def _listed(place: str) -> Any:
    """`os.scandir`, or a ValueError that says what cannot be listed."""
    try:
        return os.scandir(place)
    except OSError as error:
        raise ValueError(f"cannot list {place} ({error.strerror}): allow it, or leave it out") from error
