"""Populations as pytrees with a leading axis: one member of them, and members put side by side."""

from collections.abc import Sequence
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
