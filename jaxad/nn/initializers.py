"""Initialisers of Flax networks, all of whose weights are drawn at once.

XLA takes a good part of a second to compile each random draw of its own where it optimises. So these initialisers
also say what they drew, in a box of Flax's metadata around the array, and `redraw` replaces what a whole network has
drawn by pieces of a single draw: the single draws are then unused, and XLA drops them. Networks are not aware of it.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal

import flax.struct
import jax
import jax.numpy as jnp
from flax.core import meta
from jax.nn.initializers import Initializer

from jaxad._utils.random import normal_like, uniform_like
from jaxad.types import Array, Key

Distribution = Literal["normal", "uniform"]
_STANDARD: dict[str, Callable[[Key, Any], Any]] = {
    "normal": normal_like,
    "uniform": lambda key, tree: uniform_like(key, tree, -1.0, 1.0),
}


class Drawn(flax.struct.PyTreeNode, meta.AxisMetadata):
    """An array with where it comes from: mean + scale * numbers of N(0, 1), or of [-1, 1) where uniform."""

    value: Array
    distribution: Distribution = flax.struct.field(pytree_node=False)
    scale: float = flax.struct.field(pytree_node=False)
    mean: float = flax.struct.field(pytree_node=False)

    def unbox(self) -> Array:
        """The array."""
        return self.value

    def replace_boxed(self, val: Any) -> "Drawn":
        """Another array of the same origin."""
        return self.replace(value=val)

    def add_axis(self, index: int, params: dict[Any, Any]) -> "Drawn":
        """The same: numbers are independent along any axis."""
        return self

    def remove_axis(self, index: int, params: dict[Any, Any]) -> "Drawn":
        """The same: numbers are independent along any axis."""
        return self


def normal(stddev: float, mean: float = 0.0) -> Initializer:
    """N(mean, stddev^2); DCGAN starts kernels from N(0, 0.02^2) and scales from N(1, 0.02^2)."""
    return _initializer("normal", lambda shape: stddev, mean)


def glorot_uniform(gain: float = 1.0) -> Initializer:
    """The uniform distribution of Glorot & Bengio (2010) times a gain, for kernels [..., I, O]."""
    return _initializer("uniform", lambda shape: gain * (6 / sum(_fans(shape))) ** 0.5)


def kaiming_normal(gain: float = 2**0.5) -> Initializer:
    """N(0, gain^2 / fan-in) (He et al. 2015), for kernels [..., I, O]."""
    return _initializer("normal", lambda shape: gain / _fans(shape)[0] ** 0.5)


def uniform(limit: float) -> Initializer:
    """Uniform in [-limit, limit)."""
    return _initializer("uniform", lambda shape: limit)


def redraw(key: Key, variables: Any) -> Any:
    """Variables of `flax.linen.Module.init` without boxes, everything boxed drawn anew: one draw a distribution."""
    leaves, structure = jax.tree.flatten(variables, is_leaf=_is_drawn)
    for name, part in zip(_STANDARD, jax.random.split(key, len(_STANDARD)), strict=True):
        places = [index for index, leaf in enumerate(leaves) if _is_drawn(leaf) and leaf.distribution == name]
        if not places:
            continue
        numbers = _STANDARD[name](part, [jax.ShapeDtypeStruct(leaves[i].value.shape, jnp.float32) for i in places])
        for index, standard in zip(places, numbers, strict=True):
            leaves[index] = _placed(standard, leaves[index].scale, leaves[index].mean)
    return meta.unbox(jax.tree.unflatten(structure, leaves))


def _initializer(distribution: Distribution, scale_of: Callable[[tuple[int, ...]], float], mean: float = 0.0):
    def init(key: Key, shape: Any, dtype: Any = jnp.float32) -> Drawn:
        shape = tuple(shape)
        scale = scale_of(shape)
        return Drawn(_alone(key, distribution, shape, scale, mean, dtype), distribution, scale, mean)

    return init


# Flax traces an initialiser whenever a module is applied, to compare shapes; what is jitted is traced once for each.
@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4, 5))
def _alone(key: Key, distribution: Distribution, shape: tuple[int, ...], scale: float, mean: float, dtype: Any):
    numbers = _STANDARD[distribution](key, jax.ShapeDtypeStruct(shape, jnp.float32))
    return _placed(numbers, scale, mean).astype(dtype)


def _placed(standard: Array, scale: float, mean: float) -> Array:
    return mean + scale * standard if mean else scale * standard


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    taps = 1
    for size in shape[:-2]:
        taps *= size
    return taps * shape[-2], taps * shape[-1]


def _is_drawn(leaf: Any) -> bool:
    return isinstance(leaf, Drawn)
