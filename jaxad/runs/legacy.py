"""Weights that version 0.1.0 saved, under the names that they have now.

Networks have become Flax modules since, whose variables have other names and, in places, another layout. A method's
function is given what its file holds, {path: array}, and returns what its state holds now; methods whose states have
not changed have none.
"""

from collections.abc import Callable
from typing import Any

FORMAT = "jaxad-detector-2"  # of detector.json, as 0.1.0 wrote it
Arrays = dict[str, Any]  # {"params/dense/kernel": array, ...}

METHODS: dict[str, Callable[[Arrays], Arrays]] = {}


def converted(method: str, arrays: Arrays) -> Arrays:
    """What a detector of this method, saved by 0.1.0, would be saved as now."""
    return METHODS.get(method, lambda unchanged: unchanged)(arrays)
