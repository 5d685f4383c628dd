"""Image sets of tensorflow-datasets, read from ArrayRecord files without TensorFlow."""

import contextlib
import difflib
import json
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxad.data.image_set import ImageSet
from jaxad.data.reading import read_files
from jaxad.data.sources.registry import SOURCES, Request, source

COMMON = ("fashion_mnist", "mnist", "cifar10")
HOST = "https://www.tensorflow.org"  # that is asked for before a download is tried
PATIENCE = 5.0  # seconds that it has to answer


@source(
    "tfds",
    f"{', '.join(COMMON)} or any other TFDS name",
    "An image set of TensorFlow Datasets, read without TensorFlow.",
    parts=None,
    anomaly_ratio=0.05,  # of AutoAD
)
def tfds(request: Request) -> ImageSet:
    """Reads an image classification set by its TFDS name, such as "fashion_mnist" or "mnist_corrupted/fog".

    The part is one of the set's own, or an expression such as "train[:10%]". Of several label features the first says
    of what class an image is, unless another is asked for. Only images that are chosen are decoded,
    and labels are read for all only if the choice asks for them. Prepared sets are in `data_dir`, else in the folder
    that the environment variable TFDS_DATA_DIR names, else in ~/tensorflow_datasets.

    Raises:
      ValueError: an unknown set, part or label feature, a set that is not prepared and cannot be, a set without images,
        damaged files.
    """
    import tensorflow_datasets as library

    name, split = request.argument, request.split
    builder = _builder(library, name, request.data_dir)
    features = builder.info.features
    image_key = _only(features, library.features.Image, name)
    label_key = _label(features, library.features.ClassLabel, name, request.label)
    positions = _positions(library, builder, name, split)
    with _intact(builder, positions):
        source = builder.as_data_source(split, decoders={image_key: library.decode.SkipDecoding()})
        count = len(source)

    class_names = tuple(features[label_key].names) if label_key else ()
    examples: dict[int, tuple[int, bytes]] = {}  # the compressed images are small beside the decoded ones

    def read(index: Sequence[int]) -> None:
        for start in range(0, len(index), 4096):
            block = index[start : start + 4096]
            with _intact(builder, positions):
                for i, example in zip(block, source.__getitems__(block)):
                    examples[i] = (example[label_key] if label_key else 0, example[image_key])

    def labels() -> np.ndarray | None:
        if label_key is None:
            return None
        read(list(range(count)))
        return np.array([examples[i][0] for i in range(count)], np.int32)

    index = request.choose(labels, count, class_names).tolist()
    read([i for i in index if i not in examples])
    height, width, _ = features[image_key].shape
    size = None if None in (height, width) else (height, width)
    with _intact(builder, positions):
        files = [examples[i][1] for i in index]
        decoded = read_files(files, request.sizing, size=size, strict=True, depth=request.depth)
    chosen = np.array([examples[i][0] for i in index], np.int32) if label_key else None
    return ImageSet(name, decoded.images, chosen, class_names, None, positions[index], decoded.reading)


@contextlib.contextmanager
def _intact(builder: Any, positions: np.ndarray) -> Iterator[None]:
    """Raises ValueError, with the files to get again, for whatever goes wrong in reading them.

    Args:
      positions: ids of the examples of the parts that are read.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # its readers raise RuntimeError, those of examples and images others
        if isinstance(error, ValueError) and error.__cause__ is None:
            raise  # what is asked for is wrong, not what is there
        parts = {name.split("/")[-2] for name in (positions[0], positions[-1])} if len(positions) else set()
        files = [str(file) for part in sorted(parts) for file in builder.info.splits[part].filepaths]
        missing = [file for file in files if not os.path.exists(file)]
        reason = "it is missing" if missing else str(error).split("; ")[0]
        named = missing or files
        more = f" or {len(named) - 1} more" if len(named) > 1 and not missing else ""
        raise ValueError(
            f"cannot read {named[0] if named else builder.data_path}{more} ({reason}): copy it again, or remove "
            f"{builder.data_path} and prepare the set anew"
        ) from error


def _only(features: Any, kind: type, name: str) -> str:
    keys = [key for key, feature in features.items() if isinstance(feature, kind)] if features else []
    if len(keys) != 1:
        raise ValueError(f"{name} has {len(keys)} image features, exactly 1 is needed: choose another set")
    return keys[0]


def _label(features: Any, kind: type, name: str, wanted: str | None) -> str | None:
    """The label feature that is wanted, by default the first; None where there is none."""
    keys = [key for key, feature in features.items() if isinstance(feature, kind)]
    if wanted is not None and wanted not in keys:
        raise ValueError(
            f"{name} has no label feature {wanted!r}: choose from {', '.join(keys) or 'none, it has none'}"
        )
    return wanted or next(iter(keys), None)


def _positions(library: Any, builder: Any, name: str, split: str) -> np.ndarray:
    """The ids "name/part/number" of a split expression, counted in the whole part: they never collide."""
    try:
        splits = dict(builder.info.splits.items())
        spans = library.core.ReadInstruction.from_spec(split).to_absolute(splits)
    except (ValueError, KeyError, AssertionError) as error:
        raise ValueError(f"{name} has no part {split!r}: choose from {', '.join(builder.info.splits)}") from error
    ids = []
    for span in spans:
        start, stop, _ = slice(span.from_, span.to).indices(splits[span.splitname].num_examples)
        ids += [f"{name}/{span.splitname}/{i}" for i in range(start, stop)]
    return np.array(ids)


def _builder(library: Any, name: str, data_dir: str | os.PathLike | None) -> Any:
    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR") or None
    place = data_dir or "~/tensorflow_datasets"
    try:
        builder = library.builder(name, data_dir=data_dir)
    except Exception as error:  # TFDS raises many types here, most of them its own
        for file in _torn(Path(place).expanduser(), name):
            remedy = f"copy it again, or remove {file.parent} and prepare {name} anew"
            raise ValueError(f"cannot read {file} (it is empty or torn): {remedy}") from error
        known = [entry.usage for entry in SOURCES.values()]
        names = {*SOURCES, *library.list_builders(with_community_datasets=False)}
        if name.partition("/")[0].partition(":")[0] in names:  # the set is known, and something else is wrong
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            remedy = "check the name after it, or copy or prepare it again"
            raise ValueError(f"cannot open {name} in {place} ({reason}): {remedy}") from error
        close = difflib.get_close_matches(name, sorted(names))
        hint = f"did you mean {' or '.join(close)}?" if close else f"choose from {', '.join(known)}"
        raise ValueError(f"unknown dataset {name!r}: {hint}") from error
    if builder.is_prepared():
        if builder.info.file_format != library.core.FileFormat.ARRAY_RECORD:
            raise ValueError(
                f"{name} in {place} is stored as {builder.info.file_format.value}, which needs TensorFlow: "
                "prepare it again with file_format='array_record' in another --data-dir"
            )
        return builder
    remedy = (
        f"set TFDS_DATA_DIR or --data-dir to a folder that holds it, or prepare it on a machine with network "
        f"and TensorFlow: tfds build {name} --file_format=array_record --data_dir={place}"
    )
    if not _online():
        raise ValueError(f"{name} is not prepared in {place} and there is no network to download it: {remedy}")
    try:
        builder.download_and_prepare(file_format=library.core.FileFormat.ARRAY_RECORD)
        return library.builder(name, data_dir=data_dir)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{name} is not prepared in {place} and TFDS could not do it ({reason}): {remedy}") from error


def _torn(place: Path, name: str) -> Iterator[Path]:
    """Descriptions of a prepared set that are no JSON objects."""
    folder = place / name.partition("/")[0].partition(":")[0]
    for file in sorted(folder.rglob("*.json")) if folder.is_dir() else ():
        try:
            sound = isinstance(json.loads(file.read_bytes()), dict)
        except (OSError, ValueError):
            sound = False
        if not sound:
            yield file


def _online() -> bool:
    """Whether a download can work at all, also by a proxy; TFDS itself would retry for minutes before giving up."""
    answered = threading.Event()

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(HOST, method="HEAD"), timeout=PATIENCE).close()
        except urllib.error.HTTPError as error:
            if error.code in (407, 502, 503, 504):  # said by a proxy that does not get there
                return
        except (OSError, ValueError):
            return
        answered.set()

    # In a thread that nobody waits for, because names are looked up for as long as the system likes.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(2 * PATIENCE)
    return answered.is_set()
