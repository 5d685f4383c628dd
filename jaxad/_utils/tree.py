"""Populations as pytrees with a leading axis, and fields of states by their names."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp


def member(tree: Any, index: int) -> Any:
    """The member `index` of a population: every leaf without its leading axis."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def stack(members: Sequence[Any]) -> Any:
    """A population of members: every leaf with a leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)


def size(tree: Any) -> int:
    """How many members a population has."""
    return len(jax.tree.leaves(tree)[0])


def get_field(state: Any, path: str) -> Any:
    """A field of a NamedTuple, or of one within it: "inner.buffer"."""
    return functools.reduce(getattr, path.split("."), state)


def with_fields(state: Any, values: Mapping[str, Any]) -> Any:
    """A NamedTuple with other values of some fields, named as in `get_field`."""
    for path, value in values.items():
        name, _, rest = path.partition(".")
        state = state._replace(**{name: with_fields(getattr(state, name), {rest: value}) if rest else value})
    return state
