"""Images of any number of files, each read when it is its turn, or a little ahead of it."""

import functools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, NoReturn, TypeVar

import numpy as np

from jaxad.data.decoding import decode_file
from jaxad.data.depth import ALONE, Depth, scaled
from jaxad.data.formats.stored import Stored
from jaxad.data.images import IMAGE_SUFFIXES

THREADS = min(8, os.cpu_count() or 1)  # that decode; pillow lets others run meanwhile

Value = TypeVar("Value")


class LazyImage(NamedTuple):
    """An image that can be read."""

    name: str  # its path; of an image in an archive that of the archive, a slash and its number
    read: Callable[[], np.ndarray]  # -> [H, W, C]; ValueError where it cannot be read
    file: Path | None = None  # of an image that is a file of its own
    notes: Sequence[str] = ()  # what there was to say when it was read last


def find_images(
    paths: Iterable[Path],
    *,
    may_be_empty: bool = False,
    depth: Depth = ALONE,
    leave_out: Callable[[Path], bool] = lambda folder: False,
) -> list[LazyImage]:
    """Every image that the paths stand for, once: image files, folders of them at any depth, and .npz archives.

    An archive holds `images` [N, H, W, C]. Hidden files and folders inside a folder are left out.

    Args:
      may_be_empty: whether a folder may have no images yet.
      depth: which stored values are black and white; floats in archives are taken as they are.
      leave_out: says of every folder inside a folder whether to pass it over.

    Raises:
      ValueError: a path that does not exist, or a folder without images. What cannot be read says so when it is, be it
        a file or a folder inside a folder.
    """
    found = (image for path in paths for image in _find(path, may_be_empty, depth, leave_out))
    return list({image.name: image for image in found}.values())


def _find(path: Path, may_be_empty: bool, depth: Depth, leave_out: Callable[[Path], bool]) -> Iterator[LazyImage]:
    if path.is_dir():
        found = list(_inside(path, depth, leave_out))
        if not found and not may_be_empty:
            raise ValueError(f"no images in {path}: known suffixes are {', '.join(sorted(IMAGE_SUFFIXES))}")
        yield from found
    elif not path.exists():
        raise ValueError(f"{path} does not exist: check the path")
    elif path.suffix.lower() == ".npz":
        from jaxad.data.loading import load

        try:
            archive = load(f"npz:{path}").images
        except ValueError as error:
            yield LazyImage(str(path), functools.partial(_raise, error))
        else:
            yield from lazy_arrays(archive, str(path), depth)
    else:
        yield _of_file(path, depth)


def lazy_arrays(images: Iterable[np.ndarray], name: str, depth: Depth = ALONE) -> list[LazyImage]:
    """Images that are arrays [H, W, C], uint8 or floats in [0, 1], called NAME/0 and so on.

    Args:
      depth: which bytes are black and white; floats are taken as they are.
    """
    names = ((f"{name}/{i}", image) for i, image in enumerate(images))
    return [LazyImage(each, functools.partial(_of_array, image, depth, each)) for each, image in names]


def _of_array(image: np.ndarray, depth: Depth, name: str) -> np.ndarray:
    return scaled(Stored(image, "uint8"), depth, name).pixels if image.dtype == np.uint8 else image


def _of_file(path: Path, depth: Depth) -> LazyImage:
    notes: list[str] = []

    def read() -> np.ndarray:
        pixels, beyond = scaled(decode_file(path), depth, str(path))
        notes[:] = [f"cut: {beyond}, which training knew"] if beyond else []
        return pixels

    return LazyImage(str(path), read, path, notes)


def _inside(folder: Path, depth: Depth, leave_out: Callable[[Path], bool]) -> Iterator[LazyImage]:
    """The images of a folder, sorted by path; a folder in it that cannot be listed stands for its own."""
    errors: list[OSError] = []
    files = [
        Path(inside, name)
        for inside, _, names in _walk(folder, errors, leave_out)
        for name in names
        if not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES
    ]
    for path in sorted(files):
        if path.is_file():
            yield _of_file(path, depth)
    for error in errors:
        reason = f"cannot read folder {error.filename} ({error.strerror}): allow it, or leave it out"
        yield LazyImage(str(error.filename), functools.partial(_raise, ValueError(reason)))


def _walk(
    folder: Path, errors: list[OSError], leave_out: Callable[[Path], bool]
) -> Iterator[tuple[str, list[str], list[str]]]:
    """`os.walk` without hidden folders and those that are to be left out."""
    for inside, folders, names in os.walk(folder, onerror=errors.append):
        folders[:] = [name for name in folders if not name.startswith(".") and not leave_out(Path(inside, name))]
        yield inside, folders, names


def _raise(error: ValueError) -> NoReturn:
    raise error


def read_ahead(
    images: Iterable[LazyImage], read: Callable[[LazyImage], Value], *, ahead: int, threads: int = THREADS
) -> Iterator[tuple[LazyImage, Value | ValueError]]:
    """Images with what `read` makes of each, in their order, while the next ones are read in other threads.

    Args:
      read: called in another thread; a ValueError comes in place of its value.
      ahead: images that may be under way or wait; so many values are in memory at most.
      threads: that read.
    """

    def attempt(image: LazyImage) -> Value | ValueError:
        try:
            return read(image)
        except ValueError as error:
            return error

    with ThreadPoolExecutor(threads, "jaxad-read") as pool:
        waiting: deque = deque()
        try:
            for image in images:
                waiting.append((image, pool.submit(attempt, image)))
                if len(waiting) >= max(ahead, 1):
                    first, value = waiting.popleft()
                    yield first, value.result()
            while waiting:
                first, value = waiting.popleft()
                yield first, value.result()
        finally:  # also where nobody wants the rest
            pool.shutdown(wait=False, cancel_futures=True)
