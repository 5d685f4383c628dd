"""A traced function made simpler: constants are computed now, what is computed twice once, and calls are spelled out.

Weights are constants of an exported detector, so filters of a resizing, norms of a memory bank or the inverse of a
variance need not be computed for every photograph, nor need a converter know their operations. A score and its map have
most of what they are in common. A triangular system of a constant matrix becomes a product with its inverse, where
converters would spell it out element by element, and a sum over one axis of an array with a constant matrix a product
of two matrices: onnxruntime takes several times as long for the general form. A transposition that moves axes of length
1 alone becomes a reshaping, which copies nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, Literal

from jaxad._utils.compile import is_plain
from jaxad.runs.export_layout import ChannelsFirst, applied, channels_last
from jaxad.types import Array

CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "custom_jvp_call": "call_jaxpr",
         "custom_vjp_call": "call_jaxpr", "custom_vjp_call_jaxpr": "fun_jaxpr"}  # fmt: skip
"""Primitive -> the parameter that is the function it calls, forwards."""
LARGE = 2**24  # numbers: what is larger when it is computed than what it is computed of would make large files


def folded(function: Callable[..., Sequence[Array]], *shapes: jax.ShapeDtypeStruct) -> Callable[..., Sequence[Array]]:
    """The same function of arrays of these shapes."""
    traced = jax.make_jaxpr(function)(*shapes)

    def evaluated(*arrays: Array) -> list[Array]:
        return [channels_last(value) for value in _evaluate(traced.jaxpr, traced.consts, arrays, {})]

    simpler = jax.make_jaxpr(evaluated)(*shapes)
    return jax.extend.core.jaxpr_as_fun(simpler)


def _evaluate(jaxpr: Any, constants: Sequence[Any], arguments: Sequence[Any], known: dict[Any, Any]) -> list[Any]:
    """What a traced function makes of its arguments; `known` is what has been computed so far, with what it was of."""
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *arguments), strict=True))

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, Literal) else values[variable]

    for equation in jaxpr.eqns:
        inputs = [read(variable) for variable in equation.invars]
        values.update(zip(equation.outvars, _apply(equation, inputs, known), strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _apply(equation: Any, inputs: list[Any], known: dict[Any, Any]) -> Sequence[Any]:
    name = equation.primitive.name
    if name in CALLS and CALLS[name] in equation.params:
        called = equation.params[CALLS[name]]
        jaxpr, constants = (called.jaxpr, called.consts) if isinstance(called, ClosedJaxpr) else (called, ())
        return _evaluate(jaxpr, constants, inputs, known)
    same = name, repr(equation.params), *(_identity(value) for value in inputs)
    if same not in known or equation.effects:
        # With its inputs: as long as these are kept, no other has their identity.
        known[same] = _computed(equation, inputs, known), inputs
    return known[same][0]


def _computed(equation: Any, inputs: list[Any], known: dict[Any, Any]) -> Sequence[Any]:
    if is_plain() and (images := applied(equation, inputs)) is not None:
        return [images]
    inputs = [_last(value, known) for value in inputs]
    constant = not any(isinstance(value, jax.core.Tracer) for value in inputs)
    if constant and sum(variable.aval.size for variable in equation.outvars) <= LARGE:
        with jax.ensure_compile_time_eval():
            found = equation.primitive.bind(*inputs, **equation.params)
    elif equation.primitive.name == "triangular_solve" and not isinstance(inputs[0], jax.core.Tracer):
        found = _product(*inputs, **equation.params)
    elif equation.primitive.name == "transpose" and _moves_nothing(inputs[0], equation.params["permutation"]):
        found = inputs[0].reshape(equation.outvars[0].aval.shape)
    elif equation.primitive.name == "dot_general" and _is_with_matrix(equation, inputs):
        found = _product_of_matrices(*inputs, equation.params["dimension_numbers"][0])
    else:
        found = equation.primitive.bind(*inputs, **equation.params)
    return found if equation.primitive.multiple_results else [found]


def _last(value: Any, known: dict[Any, Any]) -> Any:
    """An input as the traced function has it, brought to that layout once."""
    if not isinstance(value, ChannelsFirst):
        return value
    same = "channels last", id(value.array)
    if same not in known:
        known[same] = channels_last(value), value
    return known[same][0]


def _identity(value: Any) -> Any:
    """What two equal inputs have in common: numbers their value, arrays that they are the same one."""
    if isinstance(value, ChannelsFirst):
        return id(value.array)
    small = (
        not isinstance(value, jax.core.Tracer)
        and np.ndim(value) == 0
        and not jax.dtypes.issubdtype(jnp.result_type(value), jax.dtypes.extended)
    )
    return (np.asarray(value).dtype.name, np.asarray(value).tobytes()) if small else id(value)


def _product(matrix: Array, right: Array, *, left_side: bool, **options: bool) -> Array:
    """The solution of a triangular system [..., n, n], [..., n, m] by the inverse of its matrix."""
    with jax.ensure_compile_time_eval():
        identity = jnp.broadcast_to(jnp.eye(matrix.shape[-1], dtype=matrix.dtype), matrix.shape)
        inverse = lax.linalg.triangular_solve(matrix, identity, left_side=left_side, **options)
    product = (inverse, right) if left_side else (right, inverse)
    return jnp.matmul(*product, precision=lax.Precision.HIGHEST)


def _moves_nothing(array: Array, permutation: Sequence[int]) -> bool:
    """Whether only axes of length 1 change their place, so that the numbers stay in theirs."""
    long = [axis for axis in permutation if array.shape[axis] != 1]
    return long == sorted(long)


def _is_with_matrix(equation: Any, inputs: list[Any]) -> bool:
    """Whether it is a sum over one axis of an array of three or more with a constant matrix, in float32."""
    (contracted, _), (batch, _) = equation.params["dimension_numbers"]
    matrices = [not isinstance(value, jax.core.Tracer) and np.ndim(value) == 2 for value in inputs]
    dtypes = {jnp.result_type(value) for value in inputs} | {equation.outvars[0].aval.dtype}
    if sum(matrices) != 1 or len(contracted) != 1 or batch or dtypes != {np.dtype(np.float32)}:
        return False
    return np.ndim(inputs[matrices.index(False)]) > 2


def _product_of_matrices(left: Array, right: Array, contracted: tuple[tuple[int, ...], tuple[int, ...]]) -> Array:
    matrix_is_left, ((left_axis,), (right_axis,)) = not isinstance(left, jax.core.Tracer), contracted
    matrix, array = (left, right) if matrix_is_left else (right, left)
    matrix_axis, array_axis = (left_axis, right_axis) if matrix_is_left else (right_axis, left_axis)
    array = jnp.moveaxis(array, array_axis, -1)
    with jax.ensure_compile_time_eval():
        matrix = jnp.moveaxis(matrix, matrix_axis, 0)
    flat = jnp.matmul(array.reshape(-1, array.shape[-1]), matrix, precision=lax.Precision.HIGHEST)
    product = flat.reshape(*array.shape[:-1], matrix.shape[1])
    return jnp.moveaxis(product, -1, 0) if matrix_is_left else product
