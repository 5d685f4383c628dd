"""Settings out of range, refused in one line that names setting, value and limit."""

import dataclasses
import numbers
import operator
import os
from collections.abc import Iterator
from typing import Any

PIXEL_BYTES = 1024  # that a training step of a convolutional network takes for a pixel of its batch, about

SEEDS = 2**32  # JAX makes one key of a seed and of the same modulo this
MOST = 2**31 - 1  # that JAX counts to
WIDEST = 1000  # times the channels of a paper


def check_at_least(config: Any, *names: str, least: int = 1) -> None:
    """Raise ValueError for a field of `config` that is no whole number, or below `least`; None passes."""
    for name in names:
        value = getattr(config, name)
        if value is None:
            continue
        check_whole(**{spelled(config, name): value})
        if value < least:
            raise ValueError(f"{spelled(config, name)} is {value}; the least is {least}")


def check_share(config: Any, *names: str, example: float = 0.05) -> None:
    """Raise ValueError for a field of `config` that is not between 0 and 1, both excluded; None passes."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 < value < 1:
            raise ValueError(f"{spelled(config, name)} is {value}; give a share between 0 and 1, such as {example:g}")


def check_counts(**values: Any) -> None:
    """Raise ValueError for an argument that is no integer of at least 1."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}; give an integer of at least 1")


def check_seed(seed: Any, name: str = "seed", *, count: int = 1) -> None:
    """Raise ValueError unless `count` seeds from this one on are integers that JAX tells apart."""
    try:
        first = operator.index(seed)
    except TypeError:
        raise ValueError(f"{name} is {seed!r}; give an integer from 0 to {SEEDS - 1}") from None
    if not 0 <= first <= SEEDS - count:
        several = f", of which {count} are wanted from there on" if count > 1 else ""
        raise ValueError(f"{name} is {seed}{several}; seeds are integers from 0 to {SEEDS - 1}")


def check_whole(**values: Any) -> None:
    """Raise ValueError for an argument that is no whole number; 8.0 is none."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Integral):
            raise ValueError(f"{name} is {value!r}; give a whole number")


def check_countable(config: Any) -> None:
    """Raise ValueError for a whole number beyond what can be counted, at any depth of a config; but for seeds."""
    for path, value in _whole_numbers(config):
        if abs(value) > MOST and path.rpartition(".")[2] != "seed":
            raise ValueError(f"{spelled(config, path)} is {value}; the most is {MOST}")


def _whole_numbers(value: Any, path: str = "") -> Iterator[tuple[str, int]]:
    """With where they are, such as "ama.steps"."""
    if isinstance(value, int):
        yield path, value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _whole_numbers(each, path)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _whole_numbers(getattr(value, field.name), f"{path}.{field.name}".removeprefix("."))


def check_multipliers(**values: float) -> None:
    """Raise ValueError for a multiplier of the channels of layers that leaves none, or more than anybody can train."""
    for name, value in values.items():
        if not 0 < value <= WIDEST:
            raise ValueError(f"{name} is {value}; give a number above 0 and up to {WIDEST}")


def check_step_fits(side: int, batch_size: int) -> None:
    """Raise ValueError where training on squares of that side would take more than all memory of this machine."""
    needed, there = PIXEL_BYTES * side**2 * batch_size, _memory()
    if needed > there:
        raise ValueError(
            f"batches of {batch_size} images of {side}x{side} take about {needed / 2**30:,.0f} GiB to train on, and "
            f"this machine has {there / 2**30:,.0f}: give a smaller --image-size, such as 64, or --batch-size"
        )


def _memory() -> float:
    """Bytes of memory of this machine; infinity where it does not say."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return float("inf")


def spelled(config: Any, name: str) -> str:
    """A field as whoever set it calls it: `--batch-size` where the config says that it is a command line."""
    return f"--{name.replace('_', '-')}" if getattr(config, "is_command_line", False) else name
