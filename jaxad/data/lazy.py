"""Images of any number of files, each read when it is its turn."""

import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from jaxad.data.images import IMAGE_SUFFIXES, decode
from jaxad.data.loading import load


class LazyImage(NamedTuple):
    """An image that can be read."""

    name: str  # its path; of an image in an archive that of the archive, a slash and its number
    read: Callable[[], np.ndarray]  # -> [H, W, C]; ValueError where it cannot be read


def find_images(paths: Iterable[Path]) -> list[LazyImage]:
    """Every image that the paths stand for, once: image files, folders of them at any depth, and .npz archives.

    An archive holds `images` [N, H, W, C]. Hidden files and folders inside a folder are left out.

    Raises:
      ValueError: a path that does not exist, or a folder without images. What cannot be read says so when it is.
    """
    return list({image.name: image for path in paths for image in _find(path)}.values())


def _find(path: Path) -> Iterator[LazyImage]:
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        shown = [p for p in inside if not any(part.startswith(".") for part in p.relative_to(path).parts)]
        if not shown:
            raise ValueError(f"no images in {path}: known suffixes are {', '.join(sorted(IMAGE_SUFFIXES))}")
        yield from (LazyImage(str(p), functools.partial(decode, p)) for p in shown)
    elif not path.exists():
        raise ValueError(f"{path} does not exist: check the path")
    elif path.suffix.lower() == ".npz":
        try:
            archive = load(f"npz:{path}").images
        except ValueError as error:
            yield LazyImage(str(path), functools.partial(_raise, error))
        else:
            yield from (LazyImage(f"{path}/{i}", lambda image=image: image) for i, image in enumerate(archive))
    else:
        yield LazyImage(str(path), functools.partial(decode, path))


def _raise(error: ValueError) -> NoReturn:
    raise error
