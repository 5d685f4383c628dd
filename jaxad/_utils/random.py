"""Random pytrees. One draw for all leaves: each draw of its own takes about a second to compile."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import jax

from jaxad.types import Array, Key


def normal_like(key: Key, tree: Any) -> Any:
    """Standard normal float32 numbers, shaped as the arrays (or shapes) of `tree`."""
    return _filled(tree, lambda count: jax.random.normal(key, (count,)))


def uniform_like(key: Key, tree: Any, low: float, high: float) -> Any:
    """Uniform float32 numbers in [low, high), shaped as the arrays (or shapes) of `tree`."""
    return _filled(tree, lambda count: jax.random.uniform(key, (count,), minval=low, maxval=high))


def _filled(tree: Any, draw: Callable[[int], Array]) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    edges = list(itertools.accumulate((math.prod(leaf.shape) for leaf in leaves), initial=0))
    numbers = draw(edges[-1])
    parts = [numbers[a:b].reshape(leaf.shape) for leaf, a, b in zip(leaves, edges, edges[1:])]
    return jax.tree.unflatten(structure, parts)
