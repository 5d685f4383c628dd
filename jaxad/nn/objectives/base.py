"""What every hypothesis is, and the checks they share."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax

from jaxad.types import Array, Key, Params

EXACT = jax.lax.Precision.HIGHEST  # covariances from reduced-precision products may lose definiteness


class Hypothesis(NamedTuple):
    """A reading of "normal" as four pure functions; every result is a pytree of arrays of fixed shapes."""

    init: Callable[[Key, Array], Params]  # (key, z [B, d]) -> params; first latents place centres
    loss: Callable[[Params, Array, Array, Array], Array]  # (params, z [B, d], errors [B], step) -> scalar
    fit: Callable[[Params, Array], Any]  # (params, z [n, d]) -> stats, frozen after training
    score: Callable[[Params, Any, Array, Array], Array]  # (params, stats, z [B, d], errors [B]) -> [B]


def check(z: Array, errors: Array) -> None:
    """AssertionError unless z is [B, d] and errors [B]."""
    chex.assert_rank([z, errors], [2, 1])
    chex.assert_equal_shape_prefix([z, errors], 1)


def require_positive(config: Any, *names: str) -> None:
    """ValueError for the first of these fields that is not greater than 0."""
    for name in names:
        if not getattr(config, name) > 0:
            raise ValueError(f"{name}={getattr(config, name)} must be greater than 0")


def require_not_negative(config: Any, *names: str) -> None:
    """ValueError for the first of these fields that is below 0."""
    for name in names:
        if not getattr(config, name) >= 0:
            raise ValueError(f"{name}={getattr(config, name)} must be 0 or greater")
