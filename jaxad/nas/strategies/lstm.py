"""A stack of LSTM cells as pure functions, for one sequence.

    i, f, g, o = W [x, h] + b
    c <- sigmoid(f) * c + sigmoid(i) * tanh(g)
    h <- sigmoid(o) * tanh(c)                           (Hochreiter & Schmidhuber 1997; Gers et al. 2000)

Each layer is one matrix and one vector: a posterior over the weights draws, moves and compiles few large arrays.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxad.types import Array


class LSTMLayer(NamedTuple):
    """Weights of one layer with I inputs and F units."""

    kernel: Array  # [I + F, 4 F], for the gates in the order i, f, g, o
    bias: Array  # [4 F]


def lstm_shapes(inputs: int, features: int, layers: int) -> list[LSTMLayer]:
    """Shapes of the weights of a stack; how to draw them is the caller's matter."""
    sizes = [inputs] + [features] * (layers - 1)
    return [
        LSTMLayer(
            jax.ShapeDtypeStruct((size + features, 4 * features), jnp.float32),
            jax.ShapeDtypeStruct((4 * features,), jnp.float32),
        )
        for size in sizes
    ]


def lstm_step(layers: list[LSTMLayer], carry: Array, x: Array) -> tuple[Array, Array]:
    """One input [I] through the stack.

    Args:
      carry: [layers, 2, F], cell and output of every layer; zeros before the first input.

    Returns:
      The next carry, and the output [F] of the last layer.
    """
    chex.assert_rank([carry, x], [3, 1])
    after = []
    for (kernel, bias), (cell, output) in zip(layers, carry):
        i, f, g, o = jnp.split(jnp.concatenate([x, output]) @ kernel + bias, 4)
        cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        x = jax.nn.sigmoid(o) * jnp.tanh(cell)
        after.append(jnp.stack([cell, x]))
    return jnp.stack(after), x
