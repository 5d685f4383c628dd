"""Intermediate images of an exported program with channels first, as onnxruntime's convolutions take them.

Networks here have channels last, and a converter would change the layout before and after every convolution. So what a
convolution makes stays channels first through all that works number by number, and is changed back only for what does
not.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxad.types import Array

NUMBER_BY_NUMBER = {
    "abs", "add", "clamp", "convert_element_type", "copy", "div", "eq", "erf", "exp", "exp2", "expm1", "ge", "gt",
    "integer_pow", "le", "log", "log1p", "logistic", "lt", "max", "min", "mul", "ne", "neg", "pow", "rsqrt", "select_n",
    "sign", "sqrt", "square", "sub", "tanh",
}  # fmt: skip
"""Primitives of which each number of the result is made of those at its place, or of single numbers."""
NHWC = lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))  # images NHWC, kernel HWIO
NCHW = lax.ConvDimensionNumbers((0, 1, 2, 3), (0, 1, 2, 3), (0, 1, 2, 3))  # images NCHW, kernel OIHW


class ChannelsFirst(NamedTuple):
    """Images [B, H, W, C] of the traced function, as they are in the one that is exported."""

    array: Array  # [B, C, H, W]


def applied(equation: Any, inputs: Sequence[Any]) -> ChannelsFirst | None:
    """What an equation of a traced function makes, where it can be made with channels first; else None."""
    primitive, params = equation.primitive, equation.params
    if primitive.name == "conv_general_dilated" and params["dimension_numbers"] == NHWC:
        images, kernel = inputs
        params = params | {"dimension_numbers": NCHW}
        return ChannelsFirst(primitive.bind(_first(images), _transposed(kernel, (3, 2, 0, 1)), **params))
    if primitive.name in NUMBER_BY_NUMBER and any(isinstance(value, ChannelsFirst) for value in inputs):
        return ChannelsFirst(primitive.bind(*(_first(value) for value in inputs), **params))
    return None


def channels_last(value: Any) -> Any:
    """A value as the traced function has it."""
    return _transposed(value.array, (0, 2, 3, 1)) if isinstance(value, ChannelsFirst) else value


def _first(value: Any) -> Any:
    """Images with channels first; single numbers as they are."""
    if isinstance(value, ChannelsFirst):
        return value.array
    return _transposed(value, (0, 3, 1, 2)) if np.ndim(value) == 4 else value


def _transposed(array: Any, axes: tuple[int, ...]) -> Any:
    """Constants now, what depends on the photograph later."""
    if isinstance(array, jax.core.Tracer):
        return jnp.transpose(array, axes)
    with jax.ensure_compile_time_eval():
        return jnp.transpose(array, axes)
