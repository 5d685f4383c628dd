"""Files that people read: JSON, CSV and text, each written so that a crash leaves the old file or the new one."""

import csv
import dataclasses
import enum
import io
import json
import math
import os
import types
import typing
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Prediction(NamedTuple):
    """One line of predictions.csv."""

    id: str  # which image: a file name or its index
    part: str  # train, valid or test
    label: int | None  # 1 = anomalous, None = unknown
    score: float  # higher = more anomalous
    decision: int | None  # 1 = called anomalous


def write_atomic(path: str | Path, chunks: Iterable[Any]) -> None:
    """Write bytes-like chunks to `path` so that a crash leaves either the old file or the new one.

    Raises ValueError in one line when the disk is full or the folder cannot be written; the old file stays.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                for chunk in chunks:
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise ValueError(
            f"cannot write {path}: {error.strerror or error}; "
            "free disk space or choose a folder you may write to (what was there before is unharmed)"
        ) from error
    if hasattr(os, "O_DIRECTORY"):  # the rename itself is durable only once the folder is synced
        with suppress(OSError):  # some network file systems refuse to sync folders
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def to_json(value: Any) -> Any:
    """What JSON can hold of `value`: NaN and infinities become None, arrays lists, dataclasses dicts.

    Takes NumPy and JAX scalars and arrays, dataclasses (by their method `to_json`, if any), NamedTuples, enums (by
    name), paths, sets (sorted). Raises ValueError for anything else, naming it.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if hasattr(value, "to_json"):
            return to_json(value.to_json())
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return to_json(value._asdict())
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(to_json(item) for item in value)
    if hasattr(value, "__array__") and hasattr(value, "tolist"):
        return to_json(np.asarray(value).tolist())
    raise ValueError(f"{value!r} is a {type(value).__name__}, which JSON cannot hold; convert it before saving")


def from_json(hint: Any, value: Any, name: str) -> Any:
    """What `to_json` made JSON of, as its type hint says that it was.

    Args:
      hint: a dataclass or NamedTuple, of which all fields and no others must be there (one with a class method
        `from_json(value, name)` reads itself), tuple[X, ...], tuple[X, Y], dict[str, X], a Literal, a union such as
        X | None, a plain type, or Any.
      value: what JSON gave.
      name: of the value, for errors; its parts are named like "architecture.layers[1].kernel".

    Raises:
      ValueError: a missing or unknown field, a value of another type (None, too, which NaN and infinities have become),
        and what a dataclass itself refuses.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and types.NoneType in arguments:
            return None
        *others, last = (choice for choice in arguments if choice is not types.NoneType)
        for choice in others:
            with suppress(ValueError):
                return from_json(choice, value, name)
        return from_json(last, value, name)
    if dataclasses.is_dataclass(hint) or hasattr(hint, "_fields"):
        if hasattr(hint, "from_json"):
            return hint.from_json(value, name)
        fields = getattr(hint, "_fields", None) or [field.name for field in dataclasses.fields(hint)]
        return hint(**fields_from_json(hint, value, name, fields))
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{name} is {value!r}; give a list")
        hints = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
        if len(value) != len(hints):
            raise ValueError(f"{name} has {len(value)} entries; give {len(hints)}")
        return tuple(from_json(part, item, f"{name}[{i}]") for i, (part, item) in enumerate(zip(hints, value)))
    if origin is dict and isinstance(value, dict):
        return {key: from_json(arguments[1], item, f"{name}.{key}") for key, item in value.items()}
    if origin is typing.Literal:
        if value not in arguments:
            raise ValueError(f"{name} is {value!r}; choose one of {', '.join(map(str, arguments))}")
        return value
    kinds = (int, float) if hint is float else origin or hint
    # True is an int to Python, but not to a reader of the file.
    if hint is Any or (isinstance(value, kinds) and isinstance(value, bool) == (hint is bool)):
        return value
    raise ValueError(f"{name} is {value!r}; give a value of type {getattr(hint, '__name__', hint)}")


def fields_from_json(hint: type, value: Any, name: str, fields: Sequence[str]) -> dict[str, Any]:
    """The fields of a dataclass or NamedTuple, these and no others, as `from_json` reads each of them.

    One with a default may be missing, as it is in files that are older than the field.
    """
    needed = {field for field in fields if not _has_default(hint, field)}
    if not isinstance(value, dict) or not needed <= set(value) <= set(fields):
        found = sorted(value) if isinstance(value, dict) else type(value).__name__
        raise ValueError(f"{name} has fields {found}; give exactly {', '.join(fields)}")
    hints = typing.get_type_hints(hint)
    return {field: from_json(hints[field], value[field], f"{name}.{field}") for field in fields if field in value}


def _has_default(hint: type, field: str) -> bool:
    if dataclasses.is_dataclass(hint):
        (found,) = (each for each in dataclasses.fields(hint) if each.name == field)
        return found.default is not dataclasses.MISSING or found.default_factory is not dataclasses.MISSING
    return field in hint._field_defaults


def write_json(path: str | Path, value: Any) -> None:
    """Write `to_json(value)`, indented, atomically; raises ValueError when it cannot be written."""
    write_text(path, json.dumps(to_json(value), indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """What `write_json` wrote; raises ValueError for a file that is missing or damaged."""
    try:
        return json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}; is it complete?") from error


def write_text(path: str | Path, text: str) -> None:
    """Write a text as UTF-8, atomically; raises ValueError when it cannot be written."""
    # Names of files that are not UTF-8 reach Python as surrogate escapes, and leave as they came.
    write_atomic(path, [text.encode("utf-8", "surrogateescape")])


def write_array(path: str | Path, array: np.ndarray) -> None:
    """Write an array as .npy, atomically; raises ValueError when it cannot be written."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_atomic(path, [buffer.getvalue()])


def read_array(path: str | Path) -> np.ndarray:
    """What `write_array` wrote; raises ValueError, which names the file, where it is missing or damaged."""
    try:
        with open(path, "rb") as file:
            found = np.load(file, allow_pickle=False)
    except Exception as error:  # damaged headers raise whatever Python's parser does
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"cannot read {path}: {reason}; is it complete?") from error
    if not isinstance(found, np.ndarray):
        raise ValueError(f"cannot read {path}: it is an archive, not an array")
    return found


def append_line(path: str | Path, value: Any, *, sync: bool = False) -> None:
    """Append `to_json(value)` as one line; a line that was torn by a crash ends before it.

    With `sync` it is on disk before anything that comes after, even where the machine loses its power. Raises
    ValueError when it cannot be written.
    """
    line = json.dumps(to_json(value), allow_nan=False, separators=(",", ":")).encode() + b"\n"
    try:
        with open(path, "a+b") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else b"\n" + line
            file.write(line)
            if sync:
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror or error}; free disk space, then go on") from error


def read_lines(path: str | Path) -> list[Any]:
    """What `append_line` wrote; torn lines are left out, a file that is not there has none."""
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        return []
    values = []
    for line in content.split(b"\n"):
        with suppress(ValueError):
            values.append(json.loads(line))
    return values


def write_predictions(path: str | Path, rows: Iterable[Prediction | tuple]) -> None:
    """Write rows of (id, part, label, score, decision) as CSV, atomically; scores keep every digit.

    Raises ValueError for a row of another length, and when the file cannot be written.
    """
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(Prediction._fields)
    for number, row in enumerate(rows):
        if len(row) != len(Prediction._fields):
            raise ValueError(f"row {number} has {len(row)} fields, expected {', '.join(Prediction._fields)}")
        name, part, label, score, decision = row
        label, decision = ("" if x is None else int(x) for x in (label, decision))
        writer.writerow([name, part, label, float(score), decision])
    write_text(path, buffer.getvalue())
