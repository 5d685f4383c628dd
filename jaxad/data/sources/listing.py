"""Listings of images: a CSV file with a header and a line for every image."""

import csv
import posixpath
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

COLUMNS = {
    "path": ("path", "image", "image_path", "file", "filename"),
    "label": ("label", "class"),
    "mask": ("mask", "mask_path"),
    "split": ("split", "part", "set"),
    "object": ("object",),
}
"""What the columns are called, in any case and order; others are not read."""

PARTS = {
    "train": "train", "training": "train", "test": "test", "testing": "test", "val": "valid", "valid": "valid",
    "validation": "valid",
}  # fmt: skip
"""What the parts are called, in any case."""


NOTHING = frozenset({"nan", "none", "null"})  # what programs write into empty fields
LONGEST = 65_536  # characters of a header


class Row(NamedTuple):
    """A line of a listing, of which all but the path may be empty."""

    line: int
    path: str
    label: str
    mask: str
    split: str
    object: str  # which of several sets it belongs to


def is_listing(file: Path) -> bool:
    """Whether a file begins with a header of a listing: columns of paths and labels."""
    try:
        with open(file, newline="", encoding="utf-8-sig") as lines:
            columns, _ = _header(lines.readline(LONGEST))
    except (OSError, ValueError):
        return False
    return {"path", "label"} <= set(columns)


def read_listing(file: Path) -> list[Row]:
    """The lines of a listing: fields separated by commas, semicolons or tabs, and quoted where they contain them.

    Raises:
      ValueError: a file that cannot be read, without a column of paths or labels, a line with too many or too few
        fields, without a path or label, the same path twice, or an unknown part; naming file, line and remedy.
    """
    try:
        with open(file, newline="", encoding="utf-8-sig") as lines:
            first = lines.readline(LONGEST)
            columns, delimiter = _header(first)
            lines.seek(0)
            records = [
                (reader.line_num, fields)
                for reader in [csv.reader(lines, delimiter=delimiter, strict=True)]
                for fields in reader
                if any(field.strip() for field in fields)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        remedy = "close its quotes" if isinstance(error, csv.Error) else "give a CSV file in UTF-8"
        raise ValueError(f"cannot read {file} ({reason}): {remedy}") from error
    for name in ("path", "label"):
        if name not in columns:
            found = ", ".join(field.strip() for field in records[0][1]) if records else "nothing"
            names = " or ".join(COLUMNS[name])
            raise ValueError(f"{file} has no column called {names} (it begins with {found}): write a header")
    width, rows = len(records[0][1]), []
    for line, fields in records[1:]:
        if len(fields) != width:
            raise ValueError(f"{file}, line {line}: {len(fields)} fields where the header has {width}: quote commas")
        found = {name: fields[columns[name]].strip() if name in columns else "" for name in COLUMNS}
        for name in ("label", "mask"):
            found[name] = "" if found[name].lower() in NOTHING else found[name]
        rows.append(Row(line, **found))
    _check(file, rows, "split" in columns)
    return [row._replace(split=PARTS.get(row.split.lower(), "")) for row in rows]


def _header(line: str) -> tuple[dict[str, int], str]:
    """Which column is which, and what separates them."""
    best: tuple[dict[str, int], str] = {}, ","
    for delimiter in ",;\t":
        fields = [field.strip().lower() for field in next(csv.reader([line], delimiter=delimiter), [])]
        columns = {}
        for name, known in COLUMNS.items():
            found = [fields.index(word) for word in known if word in fields]
            if found:
                columns[name] = found[0]
        if len(columns) > len(best[0]):
            best = columns, delimiter
    return best


def _check(file: Path, rows: Sequence[Row], has_parts: bool) -> None:
    if not rows:
        raise ValueError(f"{file} lists no images: write a line for each")
    for row in rows:
        empty = [name for name in ("path", "label") if not getattr(row, name)]
        if empty:
            raise ValueError(f"{file}, line {row.line}: no {empty[0]}: give one, or leave the line out")
        if has_parts and row.split.lower() not in PARTS:
            raise ValueError(f"{file}, line {row.line}: unknown split {row.split!r}: write train, valid or test")
    path, count = Counter(_plain(row.path) for row in rows).most_common(1)[0]
    if count > 1:
        lines = ", ".join(str(row.line) for row in rows if _plain(row.path) == path)
        raise ValueError(f"{file} lists {path} {count} times (lines {lines}): list each image once")


def _plain(path: str) -> str:
    """A path in one of the ways to write it: "./a.png" is "a.png"."""
    return posixpath.normpath(path)
