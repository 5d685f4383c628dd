"""Near-copies: images that show the same picture, encoded or scaled anew, by what is left of them at 8x8 pixels.

Of such a small image, codecs change little, and other photographs of the same thing differ. By how much depends on the
set, so that distances count beside those to other neighbours, as in the ratio test of Lowe (IJCV 2004). What looks
alike then has to agree in detail: of evenly grey crops of a texture, each has a grain of its own. Images that show next
to nothing are not compared.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

SIDE, FINE = 8, 32  # cells of a side: that images are found by, and whose detail confirms it
SAMPLES = 64  # rows and columns of an image that are looked at, at most
FAR = 3.0  # levels of 255: the largest distance of near-copies
PLAIN = 2.5  # levels: the least deviation within an image that shows enough to be known again
NEIGHBOUR, RATIO = 10, 0.35  # which neighbour's distance a near-copy's is compared with, and its largest share of that
TYPICAL, NEAR = 0.1, 1.5  # of the median distance, and levels: also a near-copy, be it one of many
AGREEMENT, SMOOTH = 0.4, 1.0  # least correlation of details, and levels of their deviation below which there are none
NOWHERE = 12.0  # levels by which none of 16x16 cells may differ, where one image is normal and one anomalous
BLOCK = 512  # images that are compared with all others at once
MOST = 4000  # images of a kind that are compared for the table of a task
NAMED = 3  # pairs that it names


class Near(NamedTuple):
    """Two images that are nearly equal."""

    first: int
    second: int
    distance: float  # root of the mean square over 8x8 grey cells, in levels of 255


def thumbnails(images: np.ndarray) -> np.ndarray:
    """[N, 1024] float32 in 0..255: the mean grey of 32x32 equal cells of images [N, H, W, C], uint8 or in [0, 1]."""
    height, width = images.shape[1:3]
    rows, columns = (slice(None, None, max(1, side // SAMPLES)) for side in (height, width))
    seen = images[:, rows, columns]
    down, across = (_cells(side) for side in seen.shape[1:3])
    scale = np.float32(1.0 if images.dtype == np.uint8 else 255.0)
    made = np.empty((len(images), FINE, FINE), np.float32)
    for start in range(0, len(images), BLOCK):
        grey = seen[start : start + BLOCK].mean(3, dtype=np.float32)
        made[start : start + BLOCK] = scale * (down @ grey @ across.T)
    return made.reshape(len(images), -1)


def near_copies(thumbs: np.ndarray, groups: Sequence[int] | np.ndarray) -> list[Near]:
    """The images that are nearly equal to one of an earlier group, each with the nearest such.

    Args:
      thumbs: [N, 1024] from `thumbnails`.
      groups: [N] integers; within a group nobody minds.
    """
    n, groups = len(thumbs), np.asarray(groups)
    if n < 3 or len(set(groups.tolist())) < 2:
        return []
    order = np.argsort(groups, kind="stable")
    thumbs, groups = thumbs[order], groups[order]
    blocks = thumbs.reshape(n, SIDE, FINE // SIDE, SIDE, FINE // SIDE)
    small = blocks.mean((2, 4)).reshape(n, -1)
    centred, own, cells = small - small.mean(0), _own(small), small.shape[1]
    shows, own_squares = thumbs.std(1) >= PLAIN, (own**2).sum(1)
    squares = (centred**2).sum(1)
    aims = np.where(shows, squares, np.inf)
    neighbour = min(NEIGHBOUR, max(2, n // 3))
    found = []
    for start in range(0, n, BLOCK):
        stop = min(start + BLOCK, n)
        # Groups come one after the other, so that all earlier groups are the first columns.
        earlier = int(np.searchsorted(groups, groups[start]))
        distances = -2 * centred[start:stop] @ centred[:stop].T
        distances += aims[:stop]
        distances[:, earlier:][groups[start:stop, None] <= groups[earlier:stop]] = np.inf
        nearest = distances.argmin(1)
        best = distances[np.arange(stop - start), nearest] + squares[start:stop]
        best = np.sqrt(np.maximum(best, 0) / cells)
        for k in np.flatnonzero((best <= FAR) & shows[start:stop]):  # few, as a rule
            i, j = start + int(k), int(nearest[k])
            others = np.sqrt(np.maximum(own_squares[i] + own_squares - 2 * own @ own[i], 0) / cells)
            usual, median = np.partition(np.delete(others, i), (neighbour - 1, n // 2 - 1))[[neighbour - 1, n // 2 - 1]]
            alike = others[j] <= RATIO * usual or (best[k] <= NEAR and others[j] <= TYPICAL * median)
            if alike and _agree(blocks[i], blocks[j]):
                found.append(Near(*sorted((int(order[i]), int(order[j]))), float(best[k])))
    return sorted(found)


def near_details(
    parts: Sequence[tuple[str, np.ndarray, np.ndarray, np.ndarray]], *, across: bool = True
) -> dict[str, Any]:
    """What there is to say, in the details of a task, of images that are nearly equal.

    Of one kind those in different parts count; of a normal and an anomalous image, which may differ by a small defect,
    those that nowhere differ by more than a codec makes them.

    Args:
      parts: name, images, labels (0 is normal) and ids of each. Kinds of more than 4,000 images are not looked through.
      across: whether normal and anomalous images are compared.
    """
    numbers = np.repeat(np.arange(len(parts)), [len(images) for _, images, _, _ in parts])
    labels = np.concatenate([each for _, _, each, _ in parts])
    names = [f"{part} {name}" for part, _, _, ids in parts for name in ids]
    if np.bincount(labels, minlength=2).max() > MOST:
        return {}
    thumbs = np.concatenate([thumbnails(images) for _, images, _, _ in parts])
    alike, both = [], []
    for label in (0, 1):
        chosen = np.flatnonzero(labels == label)
        alike += [(chosen[near.first], chosen[near.second]) for near in near_copies(thumbs[chosen], numbers[chosen])]
    if across:
        pairs = near_copies(thumbs, labels)
        both = [(one, other) for one, other, _ in pairs if _farthest(thumbs[one] - thumbs[other]) <= NOWHERE]
    found = {"near_copies": alike, "near_contradictions": both}
    return {
        kind: {"pairs": len(pairs), "named": [f"{names[other]} and {names[one]}" for one, other in pairs[:NAMED]]}
        for kind, pairs in found.items()
        if pairs
    }


def near_lines(details: dict[str, Any]) -> list[str]:
    """The same in words, for the table of the task."""
    lines = []
    for kind, head, what in (
        ("near_copies", "near-copies", "pairs of images in different parts are nearly equal"),
        ("near_contradictions", "contradiction", "pairs of a normal and an anomalous image are nearly equal"),
    ):
        if found := details.get(kind):
            more = f" and {found['pairs'] - len(found['named'])} more" if found["pairs"] > len(found["named"]) else ""
            lines.append(f"{head}: {found['pairs']} {what} ({', '.join(found['named'])}{more})")
    return lines


def _agree(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether what two images show within their cells is the same, or nothing."""
    one, other = (blocks - blocks.mean((1, 3), keepdims=True) for blocks in (one, other))
    deviations = one.std(), other.std()
    return max(deviations) < SMOOTH or (one * other).mean() >= AGREEMENT * deviations[0] * deviations[1]


def _farthest(difference: np.ndarray) -> float:
    """The largest difference of two thumbnails in one of 16x16 cells."""
    half = FINE // 2
    return float(np.abs(difference.reshape(half, 2, half, 2).mean((1, 3))).max())


def _own(small: np.ndarray) -> np.ndarray:
    """What of each image is neither brightness nor the picture that all show: more or less light makes no near-copy."""
    usual = small.mean(0)
    shared, _ = np.linalg.qr(np.stack([np.ones(len(usual)), usual + 1e-3 * np.arange(len(usual))], 1))
    centred = small - usual
    return (centred - centred @ shared @ shared.T).astype(np.float32)


def _cells(side: int) -> np.ndarray:
    """[32, side]: by how much each of `side` pixels in a row counts in the mean of each of 32 equal parts of it."""
    edges = np.linspace(0, side, FINE + 1)
    pixels = np.arange(side)
    shares = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    shares = np.maximum(shares, 0)
    return (shares / shares.sum(1, keepdims=True)).astype(np.float32)
