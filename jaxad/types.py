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


class Stage(NamedTuple):
    """The fixed first part of a detector, such as the features of a network: it is never trained.

    So what it makes of an image is worth computing once: `jaxad.fit` and all that trains or scores many times do so on
    the host, outside every loop, and keep it. The rest of the detector, `inner`, sees maps of features and no images.
    """

    name: str  # stages of equal name compute the same outputs from the same params
    init: Callable[[Key, Array], Params]  # (key, images [B, H, W, C]) -> params; images give the shapes
    outputs: Callable[[Params, Array], tuple[Array, ...]]  # (params, images) -> arrays [B, ...] that are worth keeping
    assemble: Callable[[tuple[Array, ...]], Array]  # (outputs) -> maps [B, h, w, F] float32, of little cost
    inner: Any  # a `Detector` of such maps
    enlarge: Callable[[Array, tuple[int, int]], Array] | None = None  # maps of `inner` [B, h, w], (H, W) -> [B, H, W]
    standardise: str | None = "place"  # by what features are before `inner` sees them, see `nn.standard`


class StagedState(NamedTuple):
    """The state of a detector with a stage."""

    network: Params  # of the stage
    centre: Array  # [h, w, F] mean of the features at each place, or [F] at all places
    scale: Array  # the same of their standard deviation; 1 where they never change
    inner: State  # of what is trained


class Detector(NamedTuple):
    """A method that learns to score images. Its functions are pure and may be jitted, vmapped and sharded.

    The state is a NamedTuple that `init` makes, `step` trains, and `calibrate` completes after the training: it fixes
    the statistics that scores rest on (moments of normalisation layers, centres, mixtures, the density of a raw score),
    or fits what is fitted rather than trained. What it is given are normal images of the training, as the papers have
    it and as every caller here does. It sets no threshold: a threshold is set on the scores of normal images that
    neither `step` nor `calibrate` has seen, which would otherwise be scored too low. Some methods look at none of the
    images, and say so.

    Every function sees images as float32 in [0, 1]. Whoever calls them (`jaxad.fit`, `jaxad.calibrate`,
    `jaxad.score_images`) takes images as they are stored, uint8 or float32 in [0, 1], and converts them.

    `transient` names the fields of the state that scoring does not need, such as the optimiser's state or images that
    wait for `calibrate`, within another field as "inner.buffer". A detector is saved without them; in a loaded one they
    are as `init` leaves them.

    A detector whose first part is fixed says so by its `stage`. Its functions are complete without that.

    `labels` says what `step` is told beside images: "anomalies" (`Batch.labels`, 1 = anomalous; none need be known),
    "classes" (`Batch.labels`, the class of a normal image) or "masks" (`Batch.masks`); None where it looks at neither.
    `jaxad.fit` refuses known anomalies for a detector that would take them for normal. Registered detectors have it
    from the class attribute `labels` of their config.
    """

    init: Callable[[Key, Array], State]  # (key, images [B, H, W, C]) -> state; images give the shapes
    step: Callable[[Key, State, Batch], tuple[State, Info]]  # one training step
    calibrate: Callable[[State, Array], State]  # (state, normal training images [n, H, W, C]) -> state that scores
    score: Callable[[State, Array], Array]  # (state, images) -> [B] float32, raw, higher = more anomalous
    score_map: Callable[[State, Array], Array] | None = None  # (state, images) -> [B, H, W], if it localises
    transient: tuple[str, ...] = ()  # fields of the state that a saved detector does without
    stage: Stage | None = None  # its fixed first part, if it has one: a state is then a `StagedState`
    together: int = 1  # images that one program scores on CPU; more where the scores of one cost nearly as much
    labels: str | None = None  # what it learns from beside images, see above


class Search(NamedTuple):
    """A strategy that proposes architectures and learns from their rewards.

    Every proposal of `ask` is answered by one `tell` with the rewards of the children that were trained, in
    order. The two alternate, unless `ask` returns the state as it was: then further populations may be asked
    for before the first is told (`--ahead`). All knowledge is in the state, a pytree of arrays, so that a
    search can be saved between any two calls and goes on as if never stopped. Randomness comes in with
    every call: each function is handed a key of its own and consumes it; a state holds no key.
    """

    init: Callable[[Key], State]
    ask: Callable[[Key, State], tuple[State, Array]]  # -> (state, tokens [P, T] int32)
    # (key, state, tokens [P, T], rewards [P], NaN where a child failed)
    tell: Callable[[Key, State, Array, Array], tuple[State, Info]]
    revisit: Callable[[Key, State], Array] | None = None  # -> known tokens [R, T] whose shared weights train again
