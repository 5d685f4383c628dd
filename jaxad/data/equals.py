"""Equal images: which of them a task uses, what their labels and masks say of each other, and the words for both."""

from collections.abc import Hashable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np

NAMED = 3  # groups of equal images that a table names


class Equals(NamedTuple):
    """What to do with images some of which are equal."""

    keep: np.ndarray  # [N] booleans, False for what is left out
    copies: int  # images that are left out because an equal one, of which the same is said, is kept
    contradictions: tuple[tuple[int, ...], ...]  # groups of equal images of which different things are said


def digests(*groups: np.ndarray) -> list[bytes]:
    """A digest of the values of every image, over all groups [N, ...] in order; those of equal images are equal."""
    return [
        blake2b(np.ascontiguousarray(image), digest_size=16).digest() for images in groups for image in images
    ]  # fmt: skip


def first_of_equals(*groups: np.ndarray) -> np.ndarray:
    """[sum of N] booleans over all images in order: False where an earlier image has equal pixels."""
    seen: set[bytes] = set()
    fresh = []
    for digest in digests(*groups):
        fresh.append(digest not in seen)
        seen.add(digest)
    return np.array(fresh, bool)


def sort_equals(groups: Sequence[np.ndarray], said: Sequence[Hashable], *, fixed: int = 0) -> Equals:
    """Which images a task can use: one of those that are equal, and none of which contradictory things are said.

    Args:
      groups: images [N, H, W, C] each.
      said: of every image over all groups what is known, such as (label, digest of its mask).
      fixed: so many of the first images stay whatever they equal, and others that equal them are left out.
    """
    places: dict[bytes, list[int]] = {}
    for i, digest in enumerate(digests(*groups)):
        places.setdefault(digest, []).append(i)
    keep = np.ones(len(said), bool)
    copies, contradictions = 0, []
    for members in places.values():
        if len(members) == 1:
            continue
        contradictory = any(said[i] != said[members[0]] for i in members)
        if contradictory:
            contradictions.append(tuple(members))
        leave = [i for i in members if i >= fixed]
        if members[0] >= fixed and not contradictory:
            leave = leave[1:]
        keep[leave] = False
        copies += 0 if contradictory else len(leave)
    return Equals(keep, copies, tuple(contradictions))


def sayings(labels: np.ndarray, masks: np.ndarray | None) -> list[Hashable]:
    """What `sort_equals` compares: of every image its label ([N]) and, where there are masks, its mask ([N, H, W])."""
    if masks is None:
        return labels.tolist()
    return list(zip(labels.tolist(), digests(masks)))


def equality_details(found: Equals, ids: Sequence[str]) -> dict[str, Any]:
    """What there is to say of it in the details of a task; `ids` are of all images."""
    details: dict[str, Any] = {"duplicates_dropped": found.copies}
    if found.contradictions:
        named = [" = ".join(str(ids[i]) for i in group[:NAMED]) for group in found.contradictions[:NAMED]]
        count = sum(map(len, found.contradictions))
        details["contradictions"] = {"images": count, "groups": len(found.contradictions), "named": named}
    return details


def equality_lines(details: dict[str, Any]) -> list[str]:
    """The same in words, a line each, for the table of a task."""
    lines = []
    if count := details.get("duplicates_dropped"):
        lines.append(f"left out: {count} exact copies of other images")
    if count := details.get("duplicates_in_test"):
        lines.append(f"kept: {count} exact copies within the official test part")
    if found := details.get("contradictions"):
        stay = "; those of the official test part stay" if "duplicates_in_test" in details else ""
        lines.append(f"contradiction: {contradiction_words(found)}: settle what they are{stay}")
    return lines


def contradiction_words(found: dict[str, Any]) -> str:
    """Which equal images contradict each other."""
    more = f" and {found['groups'] - len(found['named'])} more" if found["groups"] > len(found["named"]) else ""
    named = ", ".join(found["named"])
    return f"{found['images']} images are equal to others with another label or mask and left out ({named}{more})"


def constant_images(images: np.ndarray) -> np.ndarray:
    """[N] booleans: which images [N, H, W, C] have one colour throughout."""
    height, width = images.shape[1:3]
    first = images[:, :1, :1]
    found = np.ones(len(images), bool)
    for row, column in ((0, -1), (-1, 0), (-1, -1), (height // 2, width // 2), (height // 3, width // 5)):
        found &= (images[:, row, column] == first[:, 0, 0]).all(-1)
    some = np.flatnonzero(found)  # few, as a rule, so that no image is read to its end for nothing
    found[some] = [(images[i] == first[i]).all() for i in some]
    return found
