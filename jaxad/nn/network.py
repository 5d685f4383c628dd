"""Flax modules as pairs of pure functions over one pytree of plain dicts.

The variables of a network are {"params": {...}} and, with batch normalisation, {"batch_stats": {...}} beside it, each
nested by the names of the modules. Losses differentiate the first; the second is remembered:

    network = make_network(Encoder(...))
    variables = network.init(key, images)
    codes = network.apply(variables, images)                                             statistics frozen
    codes, variables = network.apply(variables, images, train=True)                      and brought forward
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from jaxad.nn.initializers import redraw
from jaxad.types import Array, Key, Network, Params

STATISTICS = "batch_stats"


def make_network(module: nn.Module) -> Network:
    """The two functions of a module whose `__call__` takes `train` by name.

    Returns:
      init: (key, *inputs) -> variables. Inputs give shapes alone and may be `jax.ShapeDtypeStruct`. Weights of the
        initialisers of `jaxad.nn.initializers` are drawn at once, which compiles fast.
      apply: (variables, *inputs, train=False, **options) -> what the module returns; with `train`, that and the
        variables with statistics brought forward by this batch.

    Example:
      >>> from jaxad.nn.normalization import BatchNorm
      >>> class Scaled(nn.Module):
      ...     @nn.compact
      ...     def __call__(self, x, *, train):
      ...         return BatchNorm(momentum=0.0)(x, not train)
      >>> network = make_network(Scaled())
      >>> variables = network.init(jax.random.key(0), jax.numpy.ones((2, 1)))
      >>> _, variables = network.apply(variables, jax.numpy.array([[1.0], [3.0]]), train=True)
      >>> network.apply(variables, jax.numpy.array([[3.0]])).round(3).tolist()
      [[1.0]]
    """

    def init(key: Key, *inputs: Any) -> Params:
        shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in inputs]
        # The key of these draws is of no account: all that counts is drawn again.
        drawn, key = jax.random.split(key)
        return redraw(key, module.lazy_init(drawn, *shapes, train=False))

    def apply(variables: Params, *inputs: Array, train: bool = False, **options: Any) -> Any:
        if not train:
            return module.apply(variables, *inputs, train=False, **options)
        output, updated = module.apply(variables, *inputs, train=True, mutable=[STATISTICS], **options)
        return output, {**variables, **updated}

    return Network(init, apply)


def split(variables: Params) -> tuple[Params, Params]:
    """Variables as ({"params"}, {"batch_stats"} or {}): what is trained, and what is remembered."""
    return {"params": variables["params"]}, {name: variables[name] for name in variables if name != "params"}


def replaced(tree: Mapping[str, Any], by: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dicts with some entries replaced, such as the affine parts of normalisations by auxiliary ones.

    Args:
      by: nested as `tree`, with fewer entries.

    Raises:
      KeyError: an entry that the tree does not have.

    Example:
      >>> replaced({"conv": {"kernel": 1}, "norm": {"scale": 2, "bias": 3}}, {"norm": {"scale": 7}})
      {'conv': {'kernel': 1}, 'norm': {'scale': 7, 'bias': 3}}
    """
    new = dict(tree)
    for name, value in by.items():
        if name not in new:
            raise KeyError(f"there is no {name!r} to replace; choose from {', '.join(map(str, tree))}")
        new[name] = replaced(new[name], value) if isinstance(value, Mapping) else value
    return new


def norms_of(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The part of nested params that belongs to normalisations: the modules with a "scale"."""
    kept = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and ("scale" in value or (value := norms_of(value))):
            kept[name] = dict(value)
    return kept
