"""Training neural batch sampling: many steps in one compiled program, over images that stay on the device."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxad._utils.compile import kernel_options
from jaxad.data.batches import to_float
from jaxad.data.images import check_images, check_masks
from jaxad.methods.nbs import sampling
from jaxad.methods.nbs.config import STRATEGIES, NBSConfig
from jaxad.methods.nbs.detector import nbs
from jaxad.methods.nbs.state import NBSInfo, NBSState
from jaxad.training import checkpoint
from jaxad.types import Array, Batch, Key

ROOM = 128  # infos that a program holds, or a multiple: chunks of up to as many steps share one program

OnChunk = Callable[[int, NBSState, NBSInfo], None]
"""(steps done, the state then, what the steps since the last call were like, [n] each)."""
OnEval = Callable[[int, NBSInfo], None]
"""(steps done, what the steps since the last call were like, [n] each)."""


class Pile(NamedTuple):
    """All images of a task on the device, labelled ones first."""

    images: Array  # [N, H, W, C] uint8 or float32 in [0, 1]
    masks: Array  # [n, H, W] uint8, of the first n images


def make_pile(config: NBSConfig, labelled: np.ndarray, masks: np.ndarray, unlabelled: np.ndarray) -> Pile:
    """The pile of labelled images [n, H, W, C] with masks [n, H, W] and unlabelled ones [m, H, W, C].

    Raises:
      ValueError: images or masks that do not fit, no anomalous or no normal pixel in the masks, constant images.
    """
    labelled, unlabelled = check_images(labelled, "labelled images"), check_images(unlabelled, "unlabelled images")
    if labelled.shape[1:] != unlabelled.shape[1:] or labelled.dtype != unlabelled.dtype:
        one, other = (f"{x.shape[1:]} {x.dtype}" for x in (labelled, unlabelled))
        raise ValueError(f"labelled images are {one} and unlabelled ones {other}: resize or convert one of them")
    masks = check_masks(masks, labelled, "masks")
    if not masks.any() or masks.all():
        missing = "normal" if masks.all() else "anomalous"
        raise ValueError(f"the masks of {len(masks)} labelled images have no {missing} pixel: label others")
    images = np.concatenate([labelled, unlabelled])
    flat = images.reshape(len(images), -1)
    constant = np.flatnonzero((flat == flat[:, :1]).all(1))
    if len(constant):
        raise ValueError(
            f"{len(constant)} of {len(images)} images are constant, first number {constant[0]}: remove them"
        )
    config.check_images(images.shape[1:])
    if config.strategy == "normal" and int(np.min(sampling.patch_sums(masks, config.environment.patch))) > 0:
        raise ValueError("every patch of the labelled images holds an anomalous pixel: take smaller patches")
    return Pile(jnp.asarray(images), jnp.asarray(masks))


def train_nbs(
    config: NBSConfig,
    key: Key,
    pile: Pile,
    *,
    steps: int,
    chunk: int = 100,
    on_chunk: OnChunk | None = None,
    state: NBSState | None = None,
    start_step: int = 0,
) -> tuple[NBSState, NBSInfo]:
    """Train to step number `steps`; what a step does follows from the key and its number alone.

    Args:
      config: see `NBSConfig`.
      key: consumed; to continue a training, give it the key it began with.
      pile: from `make_pile`.
      chunk: steps between two returns to the host; changes no number of the result.
      on_chunk: called after each chunk.
      state: to go on from, as it was after `start_step` steps; a fresh one by default.

    Returns:
      The state, and what the steps were like: every field [steps - start_step] float32, on the host.

    Raises:
      ValueError: numbers out of range, or a state without its step.
    """
    if steps < 1 or chunk < 1:
        raise ValueError(f"steps is {steps} and chunk {chunk}; the least of both is 1")
    if not 0 <= start_step <= steps or (start_step > 0) != (state is not None):
        raise ValueError(f"start_step is {start_step} of {steps}; to go on, give the state after that many steps")
    initial, stepping = jax.random.split(key)
    if state is None:
        state = _initialiser(config)(initial, pile)
    else:
        state = jax.tree.map(jnp.copy, state)  # the program takes over the memory of its state
    # The strategy is in the state: one program serves all.
    run = _program(dataclasses.replace(config, strategy=STRATEGIES[0]), -(-chunk // ROOM) * ROOM)
    infos = []
    for start in range(start_step, steps, chunk):
        count = min(chunk, steps - start)
        state, info = run(state, stepping, pile, np.int32(start), np.int32(count))
        infos.append(jax.tree.map(lambda leaf, n=count: leaf[:n], jax.device_get(info)))
        if on_chunk is not None:
            on_chunk(start + count, state, infos[-1])
    empty = NBSInfo(*np.zeros((len(NBSInfo._fields), 0), np.float32))
    return state, jax.tree.map(lambda *leaves: np.concatenate(leaves), empty, *infos)


def train_saved(
    config: NBSConfig, key: Key, pile: Pile, path: Path, *, steps: int, evals: int, on_eval: OnEval
) -> NBSState:
    """`train_nbs` that can be stopped at any time: it goes on from the checkpoint at `path`, where there is one.

    `evals` times on the way the state is saved there, after `on_eval` was told of the steps since the last time; of a
    training that was stopped in between, steps may be told twice.
    """
    state, start = None, 0
    if path.exists():
        state = checkpoint.restore(path, jax.eval_shape(_initialiser(config), jax.random.key(0), pile))
        start = int(state.opt_state.step)

    def on_chunk(done: int, state: NBSState, info: NBSInfo) -> None:
        on_eval(done, info)
        checkpoint.save(path, state)

    options = {"chunk": -(-steps // evals), "on_chunk": on_chunk, "state": state, "start_step": start}
    return train_nbs(config, key, pile, steps=steps, **options)[0]


@functools.lru_cache(maxsize=8)
def _initialiser(config: NBSConfig) -> Callable[[Key, Pile], NBSState]:
    # Run once: what it takes to compile random weights goes into optimising what runs for a millisecond.
    options = kernel_options() | ({"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else {})
    return jax.jit(lambda key, pile: nbs(config).init(key, to_float(pile.images)), compiler_options=options)


@functools.lru_cache(maxsize=8)
def _program(config: NBSConfig, capacity: int) -> Callable[..., tuple[NBSState, NBSInfo]]:
    """Up to `capacity` steps: (state, key, pile, start, count) -> (state, infos, of which `count` count)."""
    detector = nbs(config)

    def run(state: NBSState, key: Key, pile: Pile, start: Array, count: Array) -> tuple[NBSState, NBSInfo]:
        batch = Batch(to_float(pile.images), None, pile.masks)

        def body(index: Array, carry: tuple[NBSState, NBSInfo]) -> tuple[NBSState, NBSInfo]:
            state, infos = carry
            state, info = detector.step(jax.random.fold_in(key, start + index), state, batch)
            return state, jax.tree.map(lambda all, one: all.at[index].set(one), infos, info)

        infos = NBSInfo(*jnp.zeros((len(NBSInfo._fields), capacity)))
        return lax.fori_loop(0, count, body, (state, infos))

    return jax.jit(run, donate_argnums=0, compiler_options=kernel_options())
