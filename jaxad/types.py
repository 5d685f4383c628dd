"""The contracts every method keeps: what a batch is, what a detector is, what a search is.

Imports JAX only. Axis letters used in all docstrings: B batch, N images of a set, H height, W width,
C channels, P population (children trained side by side), T tokens of an architecture.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

Array = jax.Array
Key = jax.Array  # a typed key from jax.random.key; consumed once
Params = Any  # a pytree of arrays
State = Any  # a pytree: all that the next step needs
Info = Any  # a NamedTuple of arrays: what a person wants to see


class Batch(NamedTuple):
    """What a training step sees."""

    images: Array  # [B, H, W, C] float32 in [0, 1]
    labels: Array | None = None  # [B] 1 = anomalous, where the method may use labels; classes for a classifier
    masks: Array | None = None  # [B, H, W] 1 = anomalous pixel


class Network(NamedTuple):
    """A neural network as two pure functions; the library behind it stays in `jaxad.nn`."""

    init: Callable[..., Params]  # (key, images) -> params
    apply: Callable[..., Any]  # (params, images, ...) -> outputs


class Detector(NamedTuple):
    """A thing that learns to score images. Functions are pure and may be jitted, vmapped and sharded.

    The state is a NamedTuple. Its field `opt_state`, if it has one, is of use to `step` alone: a detector is saved
    without it.
    """

    init: Callable[[Key, Array], State]  # (key, images [B, H, W, C]) -> state; images give the shapes
    step: Callable[[Key, State, Batch], tuple[State, Info]]  # one training step
    calibrate: Callable[[State, Array], State]  # statistics on held-out normal images, after training
    score: Callable[[State, Array], Array]  # (state, images) -> [B] float32, raw, higher = more anomalous
    score_map: Callable[[State, Array], Array] | None = None  # (state, images) -> [B, H, W], if it localises


class Search(NamedTuple):
    """A strategy that proposes architectures and learns from their rewards.

    `ask` and `tell` alternate: every proposal of `ask` is answered by one `tell` with the rewards of the
    children that were trained, in order. All knowledge is in the state, a pytree of arrays, so that a
    search can be saved between any two calls and goes on as if never stopped.
    """

    init: Callable[[Key], State]
    ask: Callable[[Key, State], tuple[State, Array]]  # -> (state, tokens [P, T] int32)
    tell: Callable[[State, Array, Array], tuple[State, Info]]  # (state, tokens [P, T], rewards [P])
    revisit: Callable[[Key, State], Array] | None = None  # -> known tokens [R, T] whose shared weights train again
