"""A detector, a search strategy and an image source from outside the library: each is one decorated function.

Tests import this file and then find all three by name, as if they had come with the library.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxad.data import ImageSet, Request, from_arrays, source
from jaxad.methods import detector
from jaxad.nas.space import SearchSpace
from jaxad.nas.strategies.registry import strategy
from jaxad.types import Array, Batch, Detector, Key, Search

# ---- a detector: how far is an image from the running mean of those seen? --------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutsideMeanConfig:
    """How to average."""

    momentum: float = 0.9
    """Weight of the mean so far."""

    def check(self) -> None:
        """Raise ValueError for values out of range."""
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum is {self.momentum}; give a number from 0 to below 1")


class OutsideMeanState(NamedTuple):
    mean: Array  # [H, W, C]
    scale: Array  # [H, W, C] mean absolute deviation of normal images, for scoring


class OutsideMeanInfo(NamedTuple):
    distance: Array  # of a batch from the mean


@detector("outside_mean", "Distance to the mean image, a detector of the tests.", config=OutsideMeanConfig,
          tiny={"slow": OutsideMeanConfig(), "quick": OutsideMeanConfig(momentum=0.5)})  # fmt: skip
def outside_mean(config: OutsideMeanConfig | None = None, **fields: Any) -> Detector:
    """The detector of a config, or of its fields."""
    config = dataclasses.replace(config or OutsideMeanConfig(), **fields)
    config.check()

    def init(key: Key, images: Array) -> OutsideMeanState:
        noise = 0.1 * jax.random.uniform(key, images.shape[1:])
        return OutsideMeanState(images.mean(0) + noise, jnp.ones(images.shape[1:]))

    def step(key: Key, state: OutsideMeanState, batch: Batch) -> tuple[OutsideMeanState, OutsideMeanInfo]:
        del key  # nothing is drawn
        mean = config.momentum * state.mean + (1 - config.momentum) * batch.images.mean(0)
        return state._replace(mean=mean), OutsideMeanInfo(jnp.abs(batch.images.mean(0) - state.mean).mean())

    def calibrate(state: OutsideMeanState, images: Array) -> OutsideMeanState:
        return state._replace(scale=jnp.abs(images - state.mean[None]).mean(0) + 0.05)

    def score_map(state: OutsideMeanState, images: Array) -> Array:
        return (jnp.abs(images - state.mean[None]) / state.scale[None]).mean(-1)

    def score(state: OutsideMeanState, images: Array) -> Array:
        return score_map(state, images).mean((1, 2))

    return Detector(init, step, calibrate, score, score_map)


# ---- a strategy: the neighbours of what came first ------------------------------------------------------------------


class WalkState(NamedTuple):
    tokens: Array  # [T] int32, where the walk is


class WalkInfo(NamedTuple):
    mean_reward: Array


@strategy("walk", "A random walk through the space, a strategy of the tests.")
def walk(space: SearchSpace, *, population: int = 1, stride: int = 2) -> Search:
    """Every proposal is the one before it with `stride` tokens changed; rewards teach nothing."""

    def init(key: Key) -> WalkState:
        return WalkState(space.sample(key, 1)[0])

    def ask(key: Key, state: WalkState) -> tuple[WalkState, Array]:
        def move(tokens: Array, key: Key) -> tuple[Array, Array]:
            for part in jax.random.split(key, stride):
                tokens = space.mutate(part, tokens)
            return tokens, tokens

        end, proposals = jax.lax.scan(move, state.tokens, jax.random.split(key, population))
        return WalkState(end), proposals

    def tell(key: Key, state: WalkState, tokens: Array, rewards: Array) -> tuple[WalkState, WalkInfo]:
        del key, tokens
        return state, WalkInfo(rewards.mean())

    return Search(init, ask, tell)


# ---- an image source: bars of two directions ----------------------------------------------------------------------


@source("bars", "bars:SIDE", "Bars across and along, images of the tests.", normal=("across",), anomaly_ratio=0.3)
def bars(request: Request) -> ImageSet:
    """120 noisy images of bars across and 60 of bars along."""
    if not request.argument.isdecimal():
        raise ValueError(f"{request.spec!r} has no side: write {request.usage}")
    side = int(request.argument)
    rng = np.random.default_rng(0)
    pattern = np.tile(np.where(np.arange(side) % 4 < 2, 60, 190)[:, None], (1, side))
    labels = np.repeat([0, 1], [120, 60])
    images = np.where(labels[:, None, None] == 0, pattern, pattern.T) + rng.integers(-20, 20, (180, side, side))
    made = from_arrays(images[..., None].astype(np.uint8), labels, name=request.spec, class_names=("across", "along"))
    return request.sample(made)
