"""Whether what is asked for is what a run was begun with: the same program, the same settings, the same data.

Anything else is refused in one line that says what differs, before a run is touched: results of two questions must not
meet in one folder.
"""

import json
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from jaxad._utils.files import read_json, write_text
from jaxad.data import Task, parts
from jaxad.data.fingerprint import Fingerprint, differences, from_plain, to_plain

DATA = "data.json"  # beside config.json, which has the digest: what says which images differ, should they
PLACES = frozenset({"dataset", "ood", "data_dir", "test_folder", "task"})
"""Settings that say where data are, and what they are called: others for those who have the same data elsewhere."""
SCRIPT = "python experiments/"
PROGRAMS = {
    "autoad": "jaxad search", "detector": "jaxad train", "search": "jaxad.search", "ama": f"{SCRIPT}ama_ood.py",
    "agad": f"{SCRIPT}agad_oneclass.py", "nbs": f"{SCRIPT}nbs_segmentation.py",
    "compare": f"{SCRIPT}compare_search.py", "refinement": f"{SCRIPT}refinement.py",
}  # fmt: skip
"""What begins runs, by the name of the kind of run: a command, or a function of the library."""


def check_program(path: Path, stored: str, mine: str) -> None:
    """Raise ValueError where a run of the kind `stored` would be continued as one of the kind `mine`."""
    if stored != mine:
        whose, ours = PROGRAMS.get(stored, stored), PROGRAMS.get(mine, mine)
        how = f"{whose}(resume={str(path)!r})" if whose == "jaxad.search" else f"{whose} --resume {path}"
        raise ValueError(f"cannot resume {path}: this is a run of {whose}, not of {ours}; continue it with {how}")


def check_settings(path: Path, stored: dict, given: dict, may_differ: Collection[str]) -> None:
    """Raise ValueError naming the first settings whose values differ, but for those that may, or are within those."""
    a, b = _flatten(stored), _flatten(given)
    names = [
        name
        for name in a | b
        if not any(name == allowed or name.startswith(f"{allowed}.") for allowed in may_differ)
        and (name not in a or name not in b or a[name] != b[name])
    ]
    if names:
        shown = [f"{name} is {_show(a, name)} in the run but {_show(b, name)} was asked for" for name in names[:3]]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise ValueError(
            f"cannot resume {path} with another configuration: {', '.join(shown)}{more}; "
            "leave these options as they were, or start a new run"
        )


def remember_data(path: Path, data: Fingerprint) -> None:
    """Keep in a run folder what its data are made of."""
    write_text(path / DATA, json.dumps(to_plain(data), separators=(",", ":")) + "\n")


def check_data(path: Path, stored: dict[str, Any], data: Fingerprint) -> None:
    """Raise ValueError, with what differs, unless a run was begun with data of the same content.

    Args:
      stored: the summary of the fingerprint that the run was begun with.
    """
    if stored.get("digest") == data.digest:
        return
    try:
        said = "; ".join(differences(from_plain(read_json(path / DATA)), data))
    except ValueError:
        now = data.summary()["parts"]
        said = f"they had {stored.get('parts')} and have {now}, and {DATA}, which knows more, cannot be read"
    raise ValueError(
        f"cannot resume {path}: its data are others than when it was begun: {said}; "
        "give them as they were, or start a new run"
    )


def identity(task: Task) -> dict[str, Any]:
    """What tells a task from others: a run is continued with the same images or not at all."""
    checksum, found = 0, parts(task).values()
    for part in found:
        for array in (part.images, part.labels, part.masks):
            if array is not None:
                checksum = zlib.crc32(np.ascontiguousarray(array), checksum)
    return {"name": task.name, "images": [len(part.images) for part in found], "checksum": checksum}


def _flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, keyed by dotted path."""
    if not isinstance(config, dict) or (prefix and not config):
        return {prefix: config}
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _show(flat: dict[str, Any], name: str) -> str:
    return json.dumps(flat[name]) if name in flat else "absent"
