"""What came of reading the images of a set, and the words for it in the table of a task."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxad.data.depth import Span
from jaxad.data.fitting import fit_words
from jaxad.data.formats.stored import KINDS

NAMED = 3  # unreadable files, and others that are left out, that a table names


class LeftOut(NamedTuple):
    """What is in a folder and was not read."""

    what: str
    count: int
    names: tuple[str, ...]  # of some of it


class Reading(NamedTuple):
    """What came of reading the images of a set."""

    sizes: tuple[tuple[int, int, int], ...] = ()  # (height, width) in the sources, and how many images have it
    fit: str = ""  # how images were brought to another size, where they were
    unreadable: tuple[str, ...] = ()  # "file: reason", of those that are left out
    grey: int = 0  # images of one channel, of three, of more than 8 bits, of which transparency was dropped
    colour: int = 0
    deep: int = 0
    alpha: int = 0
    no_mask: int = 0  # images of defects without a mask, for which no mask is used
    layout: str = ""  # what the folder was found to be
    left_out: tuple[LeftOut, ...] = ()  # what is there, and no part of that
    ranges: tuple[tuple[str, float, float], ...] = ()  # kinds of stored numbers, and which are black and white
    beyond: int = 0  # images with values beyond their range, which became black or white
    told: tuple[tuple[str, Span], ...] = ()  # files that told the ranges, and what each did


def size_facts(
    sizes: Iterable[tuple[int, int]], shape: tuple[int, ...], fit: str
) -> tuple[tuple[tuple[int, int, int], ...], str]:
    """The first two fields of a `Reading`: sizes with the commonest first, and `fit` if one differs from `shape`."""
    counts = Counter(tuple(size) for size in sizes)
    return tuple((*size, n) for size, n in counts.most_common()), fit if any(s != shape[:2] for s in counts) else ""


def reading_details(readings: Iterable[Reading | None], images: np.ndarray) -> dict[str, Any]:
    """What there is to say of readings, as plain values for the details of a task of such `images` [N, H, W, C].

    Normal images first. A reading that is named twice, as two parts of one set do, counts once.
    """
    unique = list({id(reading): reading for reading in readings if reading is not None}.values())
    fits = [reading.fit for reading in unique if reading.fit]
    layouts = [reading.layout for reading in unique if reading.layout]
    parts = zip(*(reading._replace(fit=0, layout=0) for reading in unique))
    total = Reading(*(sum(part, start=type(part[0])()) for part in parts))
    details: dict[str, Any] = {}
    if fits:
        counts = Counter()
        for height, width, n in total.sizes:
            counts[height, width] += n
        first = next(reading.sizes[0] for reading in unique if reading.sizes)
        details["fitted_from"] = [*first[:2], fits[0]]
        if len(counts) > 1:
            smallest, largest = (list(pick(counts, key=lambda size: size[0] * size[1])) for pick in (min, max))
            details["sizes"] = {"different": len(counts), "smallest": smallest, "largest": largest}
    mixed = {3: ("grey_to_rgb", total.grey), 1: ("rgb_to_grey", total.colour)}.get(images.shape[3])
    if mixed is not None and mixed[1]:
        details[mixed[0]] = mixed[1]
    if total.deep:
        details["sixteen_bit"] = [total.deep, sum(n for *_, n in total.sizes)]
    if total.ranges:
        details["ranges"] = {kind: [low, high] for kind, low, high in reversed(total.ranges)}  # the first one counts
    named = {"alpha_dropped": total.alpha, "masks_missing": total.no_mask}
    named["beyond_range"] = total.beyond
    details |= {name: count for name, count in named.items() if count}
    if layouts:
        details["layout"] = layouts[0]
    if total.left_out:  # once, where it is said of both parts of a folder
        details["left_out"] = [[what, n, list(names)] for what, n, names in dict.fromkeys(total.left_out)]
    if total.unreadable:
        details["unreadable"] = list(total.unreadable)
    return details


def size_words(details: dict[str, Any], shape: Sequence[int]) -> str:
    """From what sizes images have become those of a task, for its table; empty where they are as they were."""
    if "fitted_from" not in details:
        return ""
    *size, how = details["fitted_from"]
    words, mixed = fit_words(size, shape, how), details.get("sizes")
    if mixed is None:
        return f", from {_times(size)} ({words})"
    between = f"{_times(mixed['smallest'])} to {_times(mixed['largest'])}"
    return f", from {mixed['different']} sizes, {between}, mostly {_times(size)} ({words})"


def reading_lines(details: dict[str, Any]) -> list[str]:
    """What else is to be said of how images were read, a line each."""
    lines = []
    if layout := details.get("layout"):
        lines.append(f"layout: {layout}")
    if n := details.get("tiles"):
        size = _times(details["tiled_from"])
        lines.append(f"tiles: {n} along each side of {size}; counts and figures are of tiles, the threshold of images")
    if unreadable := details.get("unreadable"):
        more = f", and {len(unreadable) - NAMED} more" if len(unreadable) > NAMED else ""
        files = "file" if len(unreadable) == 1 else "files"
        lines.append(f"left out: {len(unreadable)} unreadable {files} ({', '.join(unreadable[:NAMED])}{more})")
    for what, count, names in details.get("left_out", ()):
        more = ", ..." if count > NAMED else ""
        lines.append(f"left out: {count} {what} ({', '.join(names[:NAMED])}{more})")
    if count := details.get("grey_to_rgb"):
        lines.append(f"mixed: {count} grey images became RGB like the others")
    if count := details.get("rgb_to_grey"):
        lines.append(f"mixed: {count} RGB images became grey like the normal ones")
    if count := details.get("alpha_dropped"):
        lines.append(f"dropped: the transparency of {count} images")
    if "sixteen_bit" in details:
        deep, total = details["sixteen_bit"]
        lines.append(f"number type: {deep} of {total} images have more than 8 bits, so all are float32")
        known = {kind: ends for kind, ends in details.get("ranges", {}).items() if kind != "uint8"}
        words = (f"{low:g} to {high:g} of {KINDS[kind]}" for kind, (low, high) in known.items())
        lines.append(f"values: {', '.join(words)} became 0 to 1; a saved detector reads new images likewise")
    if count := details.get("beyond_range"):
        lines.append(f"cut: {count} images have values beyond that range, now 0 or 1 (--value-range says another)")
    if count := details.get("masks_missing"):
        lines.append(f"without masks: {count} images of defects have none, so labels of images alone are used")
    return lines


def _times(size: Sequence[int]) -> str:
    return "x".join(map(str, size))
