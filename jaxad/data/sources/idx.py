"""The file format of MNIST: a folder of IDX files."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from jaxad.data.image_set import ImageSet, class_index, numbered
from jaxad.data.sources.registry import Request, source

PREFIXES = {"train": ("train",), "test": ("t10k", "test")}


def read_idx(file: Path) -> np.ndarray:
    """Reads one IDX file of bytes (magic 0x08, any number of axes), gzip-compressed or not."""
    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"cannot read {file} ({error}): download it again") from error
    if len(data) < 4 or data[:3] != b"\x00\x00\x08":
        raise ValueError(f"{file} is not an IDX file of bytes (it starts with {data[:4].hex()}, not 000008..)")
    header = 4 + 4 * data[3]
    if len(data) < header:
        raise ValueError(
            f"{file} has {len(data)} bytes, too few for the {data[3]} axes of its header: download it again"
        )
    shape = tuple(int(n) for n in np.frombuffer(data[4:header], ">u4"))
    if len(data) != header + math.prod(shape):
        raise ValueError(
            f"{file} has {len(data)} bytes where its header promises {header + math.prod(shape)}: download it again"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


@source("idx", "idx:FOLDER", "IDX files named as MNIST's.", parts=("train", "test"), anomaly_ratio=0.05)
def idx(request: Request) -> ImageSet:
    """Reads a folder of IDX files with the names of MNIST, part "train" or "test" (t10k)."""
    path, split = request.path(), request.split
    if split not in PREFIXES:
        raise ValueError(f"IDX folders have no part {split!r}: choose train or test")

    def read(kind: str) -> np.ndarray:
        names = [f"{prefix}-{kind}{end}" for prefix in PREFIXES[split] for end in ("", ".gz")]
        names += [name.replace("-idx", ".idx") for name in names]
        found = [path / name for name in names if (path / name).is_file()]
        if not found:
            raise ValueError(f"no file {names[0]} or {names[1]} in {path}: check the folder")
        return read_idx(found[0])

    images, labels = read("images-idx3-ubyte"), read("labels-idx1-ubyte")
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise ValueError(f"images {images.shape} and labels {labels.shape} in {path} do not belong together")
    index, names = class_index(labels)
    ids = numbered(f"{path}/{split}", len(index))
    return request.sample(ImageSet(path.name, images[..., None], index, names, None, ids))
