"""Numbers in their order: as integers, by which compiled code compares and sorts them right and fast, or as ranks."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxad.types import Array

LEAST = -(2**31)  # before all that `ordered` gives


def ordered(numbers: Array) -> Array:
    """Integers [...] int32 in the order of the numbers, float32 or ranks; both zeros are one, NaN is beyond infinity.

    XLA sorts integers several times faster on CPUs, where it also takes floats below 1e-38 for 0 when it compares them.
    """
    if jnp.issubdtype(numbers.dtype, jnp.integer):
        return numbers.astype(jnp.int32)
    bits = jax.lax.bitcast_convert_type(numbers.astype(jnp.float32), jnp.int32)
    return jnp.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def number_of(order: Array) -> Array:
    """The float32 numbers that `ordered` has made such integers of."""
    return jax.lax.bitcast_convert_type(jnp.where(order < 0, -order | jnp.int32(LEAST), order), jnp.float32)


def ranked(scores: Array | np.ndarray) -> Array | np.ndarray:
    """Ranks of scores that float32 might round; others, and NaN, as they are."""
    if not isinstance(scores, np.ndarray) or scores.dtype in (np.float32, np.float16):
        return scores
    if scores.dtype.kind == "f" and np.isnan(scores).any():
        return scores
    return np.unique(scores, return_inverse=True)[1].reshape(scores.shape).astype(np.int32)


def single(scores: Array | np.ndarray) -> Array | np.ndarray:
    """Scores as float32; ValueError where that makes different ones equal."""
    if not isinstance(scores, np.ndarray) or scores.dtype in (np.float32, np.float16):
        return scores
    rounded = scores.astype(np.float32)
    different, left = (len(np.unique(each[~np.isnan(rounded)])) for each in (scores, rounded))
    if left < different:
        raise ValueError(
            f"scores are {scores.dtype} and have {different} values, of which float32 leaves {left}: "
            "subtract their median, or divide them by their spread, first"
        )
    return rounded


def by_order(metric: Callable[..., Any]) -> Callable[..., Any]:
    """The metric for scores of any number type: it depends on their order alone."""

    @functools.wraps(metric)
    def measured(scores: Array, labels: Array, *args: Any, **options: Any) -> Any:
        return metric(ranked(scores), labels, *args, **options)

    return measured


def by_value(metric: Callable[..., Any]) -> Callable[..., Any]:
    """The metric for scores that float32 keeps apart."""

    @functools.wraps(metric)
    def measured(scores: Array, labels: Array, *args: Any, **options: Any) -> Any:
        return metric(single(scores), labels, *args, **options)

    return measured
