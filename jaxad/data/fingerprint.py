"""What tells the data of a run from others: every image by its content, beside its name, label, mask and part.

A run that goes on with other images would test on some that it has trained on. So it remembers whose data it was begun
with, and what differs is said by name. Names alone count for nothing: data that have moved are the same data.
"""

import itertools
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np

from jaxad._utils.files import from_json, to_json
from jaxad.data.image_set import ImageSet
from jaxad.data.task import Split

THREADS = min(8, os.cpu_count() or 1)  # hashing lets others run meanwhile
TOGETHER = 2**22  # bytes of images that a thread takes at a time
NAMED = 2  # images of a kind that a message names
DIGEST = 8  # bytes of a digest: of a million images two are alike by chance once in 10^7 sets


class Part(NamedTuple):
    """One part of some data."""

    form: str  # of its images, such as "28x28x1 uint8"
    names: list[str]  # [N], without what all of them begin with
    images: list[str]  # [N] digests
    labels: list[int] | None  # [N]
    masks: list[str] | None  # [N] digests
    classes: list[int] | list[str] | None  # of every training image, or the names of what labels count


class Fingerprint(NamedTuple):
    """What data are made of."""

    digest: str  # of all that results depend on: everything but names
    parts: dict[str, Part]

    def summary(self) -> dict[str, Any]:
        """In a few words: the digest, and how many images of which form every part has."""
        counts = {name: f"{len(part.images)} images {part.form}" for name, part in self.parts.items()}
        return {"digest": self.digest, "parts": counts}


def fingerprint(data: Any) -> Fingerprint:
    """Take the fingerprint of some data, in a few milliseconds for small sets and about a second a gigabyte.

    Args:
      data: a `Task`, or whatever else has parts: a NamedTuple, a mapping or an iterator of (name, data) of `Split`s,
        `ImageSet`s and arrays [N, ...] of images, at any depth. What is none of these, such as a name, does not count.

    >>> import jaxad
    >>> task = jaxad.load_task("digits", normal_classes=["0"], anomaly_ratio=0.3, limit=20)
    >>> fingerprint(task).summary()["parts"]["train"]
    '12 images 8x8x1 uint8'
    >>> fingerprint(task) == fingerprint(task._replace(name="another"))
    True
    """
    parts = {name: _part(value) for name, value in _parts(data, "")}
    cut = _common([name for part in parts.values() for name in part.names])
    digest = blake2b(digest_size=16)
    for name, part in parts.items():
        digest.update(repr((name, part._replace(names=[]))).encode())
        parts[name] = part._replace(names=[name[cut:] for name in part.names])
    return Fingerprint(digest.hexdigest(), parts)


def to_plain(known: Fingerprint) -> dict[str, Any]:
    """What a file holds of it."""
    return to_json(known)


def from_plain(value: Any) -> Fingerprint:
    """What `to_plain` gave; ValueError for anything else."""
    return from_json(Fingerprint, value, "data")


def differences(known: Fingerprint, found: Fingerprint) -> list[str]:
    """What differs between the data that were and those that are, in phrases such as "1 image was added (a.png)".

    None where the digests are equal, however the images are called.
    """
    if known.digest == found.digest:
        return []
    forms = [" and ".join(sorted({part.form for part in one.parts.values()})) for one in (known, found)]
    if forms[0] != forms[1]:
        return [f"images were {forms[0]} and are {forms[1]}"]
    said = [*_images(known, found), *_labels(known, found)]
    if said:
        return said
    old, new = (_places(one) for one in (known, found))
    moved = [digest for digest in new if new[digest] != old.get(digest)]
    if moved:
        names, was, now = _names(found), old[moved[0]], new[moved[0]]
        where = f"{names[moved[0]]} was in {' and '.join(was)} and is in {' and '.join(now)}"
        return [f"the split is another: {_count(len(moved), 'image')} changed parts ({where})"]
    return ["the same images come in another order"]


# ---- taking it ---------------------------------------------------------------------------------------------------


def _parts(data: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(data, Split | ImageSet | np.ndarray):
        yield name or "images", data
        return
    named = data._asdict() if hasattr(data, "_asdict") else data
    for key, value in named.items() if isinstance(named, Mapping) else named if isinstance(named, Iterator) else ():
        yield from _parts(value, f"{name}, {key}" if name else str(key))


def _part(value: Any) -> Part:
    if isinstance(value, np.ndarray):
        return Part(_form(value), [str(i) for i in range(len(value))], _digests(value), None, None, None)
    if isinstance(value, ImageSet):
        classes: Any = list(value.class_names)
    else:
        classes = None if value.classes is None else value.classes.tolist()
    return Part(
        _form(value.images), [str(name) for name in value.ids], _digests(value.images),
        None if value.labels is None else value.labels.tolist(),
        None if value.masks is None else _digests(value.masks), classes,
    )  # fmt: skip


def _form(images: np.ndarray) -> str:
    return f"{'x'.join(map(str, images.shape[1:]))} {images.dtype}"


def _common(names: Sequence[str]) -> int:
    """How many characters of all names are folders that all are in."""
    if not names:
        return 0
    first, last = min(names).split("/")[:-1], max(names).split("/")[:-1]
    return sum(len(a) + 1 for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last)))


def _digests(arrays: np.ndarray) -> list[str]:
    arrays = np.ascontiguousarray(arrays)
    rows = arrays.reshape(len(arrays), -1).view(np.uint8) if arrays.size else arrays.reshape(len(arrays), 0)
    step = max(1, TOGETHER // max(1, rows.shape[1]))

    def some(start: int) -> list[str]:
        return [blake2b(row, digest_size=DIGEST).hexdigest() for row in rows[start : start + step]]

    starts = range(0, len(rows), step)
    if len(starts) < 2:
        return some(0)
    with ThreadPoolExecutor(THREADS, "jaxad-hash") as pool:
        return [digest for group in pool.map(some, starts) for digest in group]


# ---- comparing two -----------------------------------------------------------------------------------------------


def _images(known: Fingerprint, found: Fingerprint) -> list[str]:
    """Images that were added, removed, or have other pixels than before."""
    old, new = (Counter(d for part in one.parts.values() for d in part.images) for one in (known, found))
    gone, come = (_named(one, left) for one, left in ((known, old - new), (found, new - old)))
    changed = [name for name in come if name in set(gone)]
    added = [name for name in come if name not in set(changed)]
    removed = [name for name in gone if name not in set(changed)]
    kinds = (("have other pixels", "has other pixels", changed), ("were added", "was added", added))
    kinds += (("are gone", "is gone", removed),)
    return [
        f"{_count(len(names), 'image')} {one if len(names) == 1 else many}{_some(names)}"
        for many, one, names in kinds
        if names
    ]


def _named(one: Fingerprint, digests: Counter[str]) -> list[str]:
    """The names of images with these digests."""
    left, names = Counter(digests), []
    for part in one.parts.values():
        for name, digest in zip(part.names, part.images):
            if left[digest] > 0:
                left[digest] -= 1
                names.append(name)
    return list(dict.fromkeys(names))


def _labels(known: Fingerprint, found: Fingerprint) -> list[str]:
    """Images whose labels, classes or masks are others than before."""
    names, said = _names(found), []
    both = _names(known).keys() & names.keys()
    places = [_places(one) for one in (known, found)]
    for field in ("labels", "classes", "masks"):
        old, new = (dict(_of_images(one, field)) for one in (known, found))
        # Some parts have classes or masks and others none: what a split has put there or taken away has kept its own.
        other = [
            digest
            for digest in names
            if digest in both
            and old.get(digest) != new.get(digest)
            and ((digest in old and digest in new) or places[0][digest] == places[1][digest])
        ]
        if other:
            count = _count(len(other), "image")
            named = _some([names[digest] for digest in other])
            said.append(f"{count} {'has' if len(other) == 1 else 'have'} other {field}{named}")
    return said


def _of_images(one: Fingerprint, field: str) -> Iterator[tuple[str, Any]]:
    """(digest, what a field says of the image): a class is that of its label, where labels count classes."""
    for part in one.parts.values():
        values = getattr(part, field)
        if values is None:
            continue
        if field == "classes" and part.labels is not None and values and isinstance(values[0], str):
            values = [values[label] for label in part.labels]
        yield from zip(part.images, values)


def _places(one: Fingerprint) -> dict[str, list[str]]:
    """The parts that every image is in, by its digest."""
    places: dict[str, list[str]] = {}
    for name, part in one.parts.items():
        for digest in part.images:
            places.setdefault(digest, []).append(name)
    return places


def _names(one: Fingerprint) -> dict[str, str]:
    return {digest: name for part in one.parts.values() for name, digest in zip(part.names, part.images)}


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f" ({', '.join(names[:NAMED])}{more})"


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"
