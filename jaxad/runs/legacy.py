"""Weights that version 0.1.0 saved, under the names that they have now.

Networks have become Flax modules since, whose variables have other names and, in places, another layout. A method's
function is given what its file holds, {path: array}, and returns what its state holds now; methods whose states have
not changed have none.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

FORMAT = "jaxad-detector-2"  # of detector.json, as 0.1.0 wrote it
Arrays = dict[str, Any]  # {"params/dense/kernel": array, ...}


def renamed(arrays: Arrays, rules: Mapping[str, str]) -> Arrays:
    """Arrays under new names: of the rules (regular expression of a whole name: replacement) the first that fits."""

    def new(name: str) -> str:
        for pattern, replacement in rules.items():
            if match := re.fullmatch(pattern, name):
                return match.expand(replacement)
        return name

    return {new(name): array for name, array in arrays.items()}


def ama(arrays: Arrays) -> Arrays:
    """The adversarial mirrored autoencoder: blocks have names, statistics lie by network and layer."""
    last = max(int(name.split("/")[2]) for name in arrays if name.startswith("moments/generator/"))
    generator = {
        f"moments/generator/{2 * block + place}/{old}": rf"statistics/generator/block{block}/norm{place + 1}/{new}"
        for block in range(last // 2)
        for place in (0, 1)
        for old, new in (("mean", "mean"), ("variance", "var"))
    }
    rules = {
        r"encoder/blocks/(\d+)/kernel": r"encoder/conv\1/kernel",
        r"encoder/blocks/(\d+)/norm/scale": r"encoder/norm\1/scale",
        r"encoder/blocks/(\d+)/norm/offset": r"encoder/norm\1/bias",
        r"generator/norm/offset": r"generator/norm/bias",
        r"generator/blocks/(\d+)/(norm\d)/offset": r"generator/block\1/\2/bias",
        r"(generator|critic)/blocks/(\d+)/(.*)": r"\1/block\2/\3",
        r"moments/encoder/(\d+)/mean": r"statistics/encoder/norm\1/mean",
        r"moments/encoder/(\d+)/variance": r"statistics/encoder/norm\1/var",
        **generator,
        r"moments/generator/\d+/mean": r"statistics/generator/norm/mean",
        r"moments/generator/\d+/variance": r"statistics/generator/norm/var",
    }
    return renamed(arrays, rules)


METHODS: dict[str, Callable[[Arrays], Arrays]] = {"ama": ama}


def converted(method: str, arrays: Arrays) -> Arrays:
    """What a detector of this method, saved by 0.1.0, would be saved as now."""
    return METHODS.get(method, lambda unchanged: unchanged)(arrays)
