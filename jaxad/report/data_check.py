"""What is in a set of images and what is wrong with it, in lines for a terminal."""

import math
from collections.abc import Iterable, Iterator, Sequence

from jaxad.data.checking import Checked, Count, Finding

SHOWN = 3  # names in a line


def data_check_lines(found: Checked) -> list[str]:
    """The lines, of which the last say what task the data make, or why they make none."""
    lines = [f"data: {found.dataset}"]
    if found.layout:
        lines.append(f"  layout: {found.layout}")
    lines += [f"  {line}" for line in (*_table(found.counts), *_kinds(found), *_faults(found))]
    if found.problem:
        lines.append(f"no task: {' '.join(found.problem.split())}")
    elif found.task:
        lines += ["task:", *(f"  {line}" for line in found.task.splitlines())]
    return lines


def _table(counts: Sequence[Count]) -> Iterator[str]:
    if not counts:
        return
    rows = [("part", "class", "images", "masks", "marked", "area")]
    rows += [
        (c.part or "all", c.label or "-", str(c.images), str(c.masks or ""), *_area(c)) for c in counts
    ]  # fmt: skip
    used = [column for column in range(6) if any(row[column] for row in rows[1:])]
    widths = {column: max(len(row[column]) for row in rows) for column in used}
    for row in rows:
        cells = (row[c].ljust(widths[c]) if c < 2 else row[c].rjust(widths[c]) for c in used)
        yield "  ".join(cells).rstrip()


def _area(count: Count) -> tuple[str, str]:
    marked = str(count.marked) if count.masks else ""
    return marked, "" if math.isnan(count.area) else f"{count.area:.2%}"


def _kinds(found: Checked) -> Iterator[str]:
    if not found.sizes:
        return
    first = ", ".join(f"{n:,} of {height}x{width}" for height, width, n in found.sizes[:SHOWN])
    others = found.sizes[SHOWN:]
    more = f", {sum(n for *_, n in others):,} of {len(others)} other sizes" if others else ""
    yield f"size: {first}{more}"
    words = {1: "grey", 3: "RGB"}
    channels = ", ".join(f"{n:,} {words.get(count, f'of {count} channels')}" for count, n in found.channels)
    yield f"pixels: {channels}; {', '.join(f'{n:,} of {depth}' for depth, n in found.depths)}"


def _faults(found: Checked) -> Iterator[str]:
    yield from _line("unreadable", "files cannot be read and are left out", found.unreadable)
    for what, count, names in found.left_out:
        yield f"left out: {count:,} {what} ({_some(names, count)})"
    yield from _line("contradiction", "groups of equal images have different classes or masks", found.contradictions)
    yield from _line("masks", "cannot be used", found.masks)
    yield from _line("masks", "of defects mark no pixel", found.unmarked)
    yield from _line("copies", "groups of equal images are in several parts", found.shared)
    yield from _line("copies", "images are equal to others of their part and class", found.copies)
    if found.near is None:
        yield "near-copies: not looked for among so many images"
    else:
        yield from _line("near-copies", "pairs of images are nearly equal", found.near)
    yield from _line("constant", "images have one colour throughout", found.constant)
    equal = (found.contradictions, found.shared, found.copies, found.near)
    if found.counts and all(finding is not None and not finding.count for finding in equal):
        yield "no copies, near-copies or contradictions"


def _line(head: str, what: str, finding: Finding) -> Iterator[str]:
    if finding.count:
        yield f"{head}: {finding.count:,} {what} ({_some(finding.named, finding.count)})"


def _some(names: Iterable[str], count: int) -> str:
    shown = list(names)[:SHOWN]
    more = f" and {count - len(shown):,} more" if count > len(shown) else ""
    return ", ".join(shown) + more
