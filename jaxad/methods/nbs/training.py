"""Training neural batch sampling: many steps in one compiled program, over images that stay on the device."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

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
from jaxad.training.resumable import Trained, even_stops, train_saved
from jaxad.types import Array, Batch, Key

ROOM = 128  # infos that a program holds, or a multiple: chunks of up to as many steps share one program

OnChunk = Callable[[int, NBSState, NBSInfo], None]
"""(steps done, the state then, what the steps since the last call were like, [n] each)."""


class ImagePool(NamedTuple):
    """All images of a task on the device, labelled ones first."""

    images: Array  # [N, H, W, C] uint8 or float32 in [0, 1]
    masks: Array  # [n, H, W] uint8, of the first n images


def make_image_pool(config: NBSConfig, labelled: np.ndarray, masks: np.ndarray, unlabelled: np.ndarray) -> ImagePool:
    """The pool of labelled images [n, H, W, C] with masks [n, H, W] and unlabelled ones [m, H, W, C].

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
    return ImagePool(jnp.asarray(images), jnp.asarray(masks))


def train_nbs(
    config: NBSConfig,
    key: Key,
    pool: ImagePool,
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
      pool: from `make_image_pool`.
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
        state = _initialiser(config)(initial, pool)
    else:
        state = jax.tree.map(jnp.copy, state)  # the program takes over the memory of its state
    # The strategy is in the state: one program serves all.
    run = _program(dataclasses.replace(config, strategy=STRATEGIES[0]), -(-chunk // ROOM) * ROOM)
    infos = []
    for start in range(start_step, steps, chunk):
        count = min(chunk, steps - start)
        state, info = run(state, stepping, pool, np.int32(start), np.int32(count))
        infos.append(jax.tree.map(lambda leaf, n=count: leaf[:n], jax.device_get(info)))
        if on_chunk is not None:
            on_chunk(start + count, state, infos[-1])
    empty = NBSInfo(*np.zeros((len(NBSInfo._fields), 0), np.float32))
    return state, jax.tree.map(lambda *leaves: np.concatenate(leaves), empty, *infos)


def train_nbs_saved(
    config: NBSConfig, key: Key, pool: ImagePool, *, path: str | Path, steps: int, checkpoints: int, **options: Any
) -> Trained:
    """As `train_nbs`, saved on the way; the same call after a kill ends where an uninterrupted one does.

    Args:
      config, key, pool: of `train_nbs`, the same in every session.
      path: the file; that of a training with other settings is refused.
      steps: number of the last step.
      checkpoints: how often to save, the end included; at most every step.
      options: others of `train_nbs`.

    Returns:
      The state, and the fields of `NBSInfo` as curves [1, steps].
    """

    def advance(state: NBSState | None, start: int, stop: int) -> tuple[NBSState, dict[str, np.ndarray]]:
        # Consumed once in all: the same key says what every step does.
        own = jax.random.clone(key)
        state, info = train_nbs(config, own, pool, steps=stop, state=state, start_step=start, **options)
        return state, {name: values[None] for name, values in info._asdict().items()}

    return train_saved(
        advance, path=path, stops=even_stops(steps, checkpoints), points=steps,
        like=lambda: jax.eval_shape(_initialiser(config), jax.random.key(0), pool),
    )  # fmt: skip


@functools.lru_cache(maxsize=8)
def _initialiser(config: NBSConfig) -> Callable[[Key, ImagePool], NBSState]:
    # Run once: what it takes to compile random weights goes into optimising what runs for a millisecond.
    options = kernel_options() | ({"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else {})
    return jax.jit(lambda key, pool: nbs(config).init(key, to_float(pool.images)), compiler_options=options)


@functools.lru_cache(maxsize=8)
def _program(config: NBSConfig, capacity: int) -> Callable[..., tuple[NBSState, NBSInfo]]:
    """Up to `capacity` steps: (state, key, pool, start, count) -> (state, infos, of which `count` count)."""
    detector = nbs(config)

    def run(state: NBSState, key: Key, pool: ImagePool, start: Array, count: Array) -> tuple[NBSState, NBSInfo]:
        batch = Batch(to_float(pool.images), None, pool.masks)

        def body(index: Array, carry: tuple[NBSState, NBSInfo]) -> tuple[NBSState, NBSInfo]:
            state, infos = carry
            state, info = detector.step(jax.random.fold_in(key, start + index), state, batch)
            return state, jax.tree.map(lambda all, one: all.at[index].set(one), infos, info)

        infos = NBSInfo(*jnp.zeros((len(NBSInfo._fields), capacity)))
        return lax.fori_loop(0, count, body, (state, infos))

    return jax.jit(run, donate_argnums=0, compiler_options=kernel_options())
