"""The training loop of single detectors: one compiled program over images that stay on the device.

Step k sees images that follow from the key and k, and draws its randomness from the key and k. So training that
stops after any step and goes on from the saved state ends where uninterrupted training ends, bit for bit.
"""

import functools
import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxad._utils.compile import kernel_options
from jaxad._utils.memory import check_memory
from jaxad.data.batches import balanced_order, batch_order
from jaxad.training.inputs import TrainingData, check_known, check_rows, check_training_data
from jaxad.training.staged import fit_staged
from jaxad.types import Array, Detector, Info, Key, State

OnChunk = Callable[[int, Info], None]  # (steps done, info of the last one, on the host)


class History(NamedTuple):
    """What happened while training, on the host. A population adds a leading axis P to everything."""

    info: Info  # the detector's info, every array with an axis of steps in front
    diverged: np.ndarray  # bool: some info was NaN or infinite; the state is then of no use


def fit(
    detector: Detector,
    key: Key,
    images: Array | np.ndarray,
    *,
    steps: int,
    batch_size: int,
    labels: Array | np.ndarray | None = None,
    masks: Array | np.ndarray | None = None,
    anomalies_per_batch: int | None = None,
    chunk: int = 100,
    on_chunk: OnChunk | None = None,
    state: State | None = None,
    start_step: int = 0,
) -> tuple[State, History]:
    """Train one detector: one compiled program, over images that stay on the device.

    Args:
      detector: what to train, such as `jaxad.detectors()["ama"].build()`.
      key: consumed; to continue a training, give it the key it began with.
      images: [N, H, W, C], uint8 or float32 in [0, 1]; brought to the device as they are.
      steps: number of the last step; 0 or more.
      batch_size: images of a step. Epochs are random permutations; a batch may reach into the next epoch.
      labels: [N], 1 = anomalous, or the classes of normal images, for detectors that learn from them
        (`Detector.labels`).
      masks: [N, H, W] of 0 and 1 = anomalous pixel, for detectors that learn from them.
      anomalies_per_batch: exactly so many images labelled anomalous in every batch, drawn with replacement, the rest
        normal; 1 to batch_size - 1. By default images come as they are, whatever their labels.
      chunk: steps between two returns to the host; changes no number of the result.
      on_chunk: called after each chunk with the steps done and the last info, for progress.
      state: to go on from, as it was after `start_step` steps; kept intact. A fresh one by default.
      start_step: steps that `state` has been trained for; 0 or more, up to `steps`.

    Returns:
      The state, for `jaxad.calibrate`, and the `History` of steps `start_step` to `steps`. A detector that diverges is
      flagged there and trained to the end.

    Raises:
      ValueError: images, labels or numbers that do not fit; known anomalies for a detector that cannot use them.

    >>> import jax, jaxad
    >>> images = jaxad.load_task("digits").train.images
    >>> detector = jaxad.detectors()["conv_autoencoder"].build(widths=(8,), latent_dim=16)
    >>> state, history = jaxad.fit(detector, jax.random.key(0), images, steps=20, batch_size=32)
    >>> history.info.loss.shape, bool(history.info.loss[-1] < history.info.loss[0]), bool(history.diverged)
    ((20,), True, False)
    """
    check_known(detector, labels, masks)
    data = check_training_data(images, labels, masks, anomalies_per_batch, steps, batch_size, chunk, state, start_step)
    if detector.stage is not None:  # which is computed once, and not in every step
        options = {"steps": steps, "batch_size": batch_size, "labels": labels, "chunk": chunk, "on_chunk": on_chunk}
        options |= {"anomalies_per_batch": anomalies_per_batch, "start_step": start_step}
        return fit_staged(detector, key, data.images, state, functools.partial(fit, **options))
    sizes, keys = _Sizes(chunk, batch_size, anomalies_per_batch or 0), _split(key)
    if state is None:
        state = _fresh(_initialiser(detector, sizes, "one"), keys, data)
    run = _program(detector, sizes, "one")
    return _train(run, keys, state, data, start_step, steps, chunk, 0, on_chunk)


def fit_population(
    detector: Detector,
    keys: Key,
    images: Array | np.ndarray,
    *,
    steps: int,
    batch_size: int,
    labels: Array | np.ndarray | None = None,
    masks: Array | np.ndarray | None = None,
    anomalies_per_batch: int | None = None,
    chunk: int = 100,
    on_chunk: OnChunk | None = None,
    state: State | None = None,
    start_step: int = 0,
    rows: np.ndarray | None = None,
    vmapped: bool | None = None,
) -> tuple[State, History]:
    """Train the same detector from several seeds or on several sets.

    Args:
      detector, images, steps, batch_size, masks, anomalies_per_batch, chunk, start_step: as in `jaxad.fit`.
      keys: [P], consumed, such as `jax.vmap(jax.random.key)(seeds)`; where they are sharded, so is the work.
      labels: [N], or [P, n] where there are `rows`.
      rows: [P, n], every member's own images, as indices into the images, which are on the device once.
      state: with a leading axis P.
      on_chunk: is told the steps done by all members together, those before `start_step` included, and the mean
        info of those that just trained.
      vmapped: train all in one program, or one after another; by default the first on accelerators and the second
        on CPU, where convolutions with several kernels are slow. Results agree up to rounding. Detectors with a fixed
        first part always train one after another: it is what takes the time.

    Returns:
      The states and the history, every array with a leading axis P.

    Raises:
      ValueError: what `jaxad.fit` refuses; rows that are no indices of the images.

    >>> import jax, jaxad
    >>> images = jaxad.load_task("digits").train.images
    >>> detector = jaxad.detectors()["conv_autoencoder"].build(widths=(8,), latent_dim=16)
    >>> keys = jax.random.split(jax.random.key(0), 2)
    >>> states, history = jaxad.fit_population(detector, keys, images, steps=20, batch_size=32)
    >>> history.info.loss.shape, history.diverged.tolist()
    ((2, 20), [False, False])
    >>> second = jax.tree.map(lambda leaf: leaf[1], states)
    """
    chex.assert_rank(keys, 1)
    size = keys.shape[0]
    check_known(detector, labels, masks)
    rows = None if rows is None else check_rows(rows, size, len(images))
    data = check_training_data(
        images, labels, masks, anomalies_per_batch, steps, batch_size, chunk, state, start_step, rows
    )
    if vmapped is None:
        vmapped = jax.default_backend() != "cpu"
    sizes = _Sizes(chunk, batch_size, anomalies_per_batch or 0)
    kind = "seeds" if rows is None else "sets"
    if vmapped and detector.stage is None:

        def told(done: int, info: Info) -> None:
            on_chunk(done * size, jax.tree.map(lambda values: values.mean(0), info))

        keys = jax.vmap(_split)(keys)
        if state is None:
            state = _fresh(_initialiser(detector, sizes, kind), keys, data)
        run = _program(detector, sizes, kind)
        return _train(run, keys, state, data, start_step, steps, chunk, 1, on_chunk and told)

    members = []
    for member, key in enumerate(keys):

        def told(done: int, info: Info, before: int = size * start_step + member * (steps - start_step)) -> None:
            on_chunk(before + done - start_step, info)

        own = None if state is None else _index(state, member)
        images, labels, masks = data.images, data.labels, data.masks
        if rows is not None:
            images, masks = (None if whole is None else whole[rows[member]] for whole in (images, masks))
            labels = None if labels is None else labels[member]
        options = {"steps": steps, "batch_size": batch_size, "labels": labels, "masks": masks, "chunk": chunk}
        options |= {"on_chunk": on_chunk and told, "state": own, "start_step": start_step}
        members.append(fit(detector, key, images, anomalies_per_batch=anomalies_per_batch, **options))
    states, histories = zip(*members)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states), jax.tree.map(lambda *x: np.stack(x), *histories)


class _Keys(NamedTuple):
    init: Key
    order: Key
    steps: Key


_Kind = Literal["one", "seeds", "sets"]  # of program: for a single detector, a population, one with sets of their own
_AXES = {"seeds": None, "sets": TrainingData(images=None, rows=0, labels=0, masks=None, normal=0, anomalous=0)}


class _Sizes(NamedTuple):
    """What a program is compiled for."""

    chunk: int
    batch: int
    anomalies: int  # in every batch; 0 where they come as they are


def _order(key: Key, data: TrainingData, sizes: _Sizes, steps: int, start: Array | int = 0) -> Array:
    """Indices [steps, batch] of the images of steps start, start + 1, ..."""
    if sizes.anomalies:
        return balanced_order(key, data.normal, data.anomalous, steps, sizes.batch, sizes.anomalies, start)
    return batch_order(key, len(data.images if data.rows is None else data.rows), steps, sizes.batch, start)


def _split(key: Key) -> _Keys:
    return _Keys(*jax.random.split(key, 3))


def _options() -> dict[str, str | bool | int]:
    """Compiler options: on CPU those of kernels, which halve compilation and slow nothing down, also in long loops."""
    return kernel_options() if jax.default_backend() == "cpu" else {}


@functools.lru_cache(maxsize=16)
def _initialiser(detector: Detector, sizes: _Sizes, kind: _Kind) -> Callable[..., State]:
    def init(keys: _Keys, data: TrainingData) -> State:
        first = _order(keys.order, data, sizes, 1)[0]
        return detector.init(keys.init, data.batch(first).images)

    # Run once: most of the time to compile random initial weights goes into optimising what runs for a millisecond.
    options = _options() | ({"xla_backend_optimization_level": 0} if _options() else {})
    return jax.jit(init if kind == "one" else jax.vmap(init, (0, _AXES[kind])), compiler_options=options)


def _fresh(init: Callable[..., State], keys: _Keys, data: TrainingData) -> State:
    """The state that training begins with; ValueError where a CPU has no memory for it, at which XLA may abort."""
    if jax.default_backend() == "cpu":
        leaves = jax.tree.leaves(init.eval_shape(keys, data))
        needed = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
        check_memory(needed, "weights and all that trains them", "set widths, or whatever else makes it large, lower")
    return init(keys, data)


@functools.lru_cache(maxsize=16)  # programs are kept as long as their detector is likely to be trained again
def _program(detector: Detector, sizes: _Sizes, kind: _Kind) -> Callable[..., tuple[State, Info]]:
    """Up to a chunk of steps: (state, keys, data, start, count) -> (state, infos, of which `count` count)."""

    def run(state: State, keys: _Keys, data: TrainingData, start: Array, count: Array) -> tuple[State, Info]:
        order = _order(keys.order, data, sizes, sizes.chunk, start)

        def step(i: Array, state: State) -> tuple[State, Info]:
            return detector.step(jax.random.fold_in(keys.steps, start + i), state, data.batch(order[i]))

        # A loop of run-time length: the last, shorter chunk needs no program of its own, and any chunk the same one.
        def body(i: Array, carry: tuple[State, Info]) -> tuple[State, Info]:
            state, infos = carry
            state, info = step(i, state)
            return state, jax.tree.map(lambda all, one: all.at[i].set(one), infos, info)

        _, like = jax.eval_shape(step, jnp.int32(0), state)
        infos = jax.tree.map(lambda leaf: jnp.zeros((sizes.chunk, *leaf.shape), leaf.dtype), like)
        return lax.fori_loop(0, count, body, (state, infos))

    if kind != "one":
        run = jax.vmap(run, (0, 0, _AXES[kind], None, None))
    return jax.jit(run, donate_argnums=0, compiler_options=_options())


def _train(
    run: Callable[..., tuple[State, Info]],
    keys: _Keys,
    state: State,
    data: TrainingData,
    start_step: int,
    steps: int,
    chunk: int,
    axis: int,
    on_chunk: OnChunk | None,
) -> tuple[State, History]:
    """Run chunk after chunk; `axis` is that of the steps in the infos."""
    state = jax.tree.map(jnp.copy, state)  # the program takes over the memory of its state, which may be the caller's
    chunks = []
    for start in range(start_step, steps, chunk) or [start_step]:
        count = min(chunk, steps - start)
        state, infos = run(state, keys, data, np.int32(start), np.int32(count))
        kept = (slice(None),) * axis + (slice(count),)
        chunks.append(_index(jax.device_get(infos), kept))
        if on_chunk is not None and count:
            on_chunk(start + count, jax.tree.map(lambda leaf: leaf.take(-1, axis), chunks[-1]))
    info = jax.tree.map(lambda *leaves: np.concatenate(leaves, axis), *chunks)
    diverged = np.zeros(keys.order.shape, bool)
    for leaf in jax.tree.leaves(info):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            diverged = diverged | ~np.isfinite(leaf).all(axis=tuple(range(axis, leaf.ndim)))
    return state, History(info, diverged)


def _index(tree: State, index: int | tuple[slice, ...]) -> State:
    return jax.tree.map(lambda leaf: leaf[index], tree)
