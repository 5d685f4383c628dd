"""Initial weights: a tree of what to draw becomes a tree of arrays with a single call of the generator."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxad._utils.random import normal_like, uniform_like
from jaxad.types import Key, Params


class Draw(NamedTuple):
    """An array still to be drawn: mean + scale * a standard number."""

    shape: tuple[int, ...]
    scale: float
    mean: float = 0.0


def glorot(gain: float, *shape: int) -> Draw:
    """A kernel [..., I, O] of the uniform distribution of Glorot & Bengio (2010) times a gain; for `draw_uniform`."""
    taps = math.prod(shape[:-2])
    return Draw(shape, gain * math.sqrt(6 / (taps * (shape[-2] + shape[-1]))))


def draw_uniform(key: Key, tree: Any) -> Params:
    """The tree with every `Draw` drawn from [-1, 1) and scaled; all other leaves stay."""
    return _drawn(tree, lambda wanted: uniform_like(key, wanted, -1.0, 1.0))


def draw_normal(key: Key, tree: Any) -> Params:
    """The tree with every `Draw` drawn from a Gaussian; all other leaves stay."""
    return _drawn(tree, lambda wanted: normal_like(key, wanted))


def convolve_in(dtype: str, params: Params) -> Params:
    """The weights of a network with the kernels of its convolutions in another number type, such as "bfloat16"."""
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if leaf.ndim == 4 else leaf, params)


def _drawn(tree: Any, numbers: Callable[[list[jax.ShapeDtypeStruct]], list[jax.Array]]) -> Params:
    # At once: each draw of its own would take a second to compile.
    leaves, structure = jax.tree.flatten(tree, is_leaf=_is_draw)
    wanted = [jax.ShapeDtypeStruct(leaf.shape, jnp.float32) for leaf in leaves if _is_draw(leaf)]
    drawn = iter(numbers(wanted))
    leaves = [leaf.mean + leaf.scale * next(drawn) if _is_draw(leaf) else leaf for leaf in leaves]
    return jax.tree.unflatten(structure, leaves)


def _is_draw(leaf: Any) -> bool:
    return isinstance(leaf, Draw)
