"""Where a neural batch sampler acts: it moves over images patch by patch, and the patches train an autoencoder.

A patch is a square of an image, known by its corner. An action moves it by `shift` pixels in one of eight directions,
not beyond the edge, or jumps to a random place in a random image. What the sampler sees is a window around the patch:
the image, the current reconstruction loss of every pixel, and which pixels this episode has visited; beyond the edge of
the image all is 0. The patch that an action leads to is the patch it samples, is rewarded for, and marks as visited;
the random place where an episode begins is not sampled. Visits are remembered image by image until the episode ends.

Everything is a pure function of arrays on the device: an episode is one `lax.scan`, several are one `vmap`.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxad.types import Array, Key

DIRECTIONS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))  # (down, right)
CHANGE_IMAGE = len(DIRECTIONS)
ACTIONS = CHANGE_IMAGE + 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnvironmentConfig:
    """Sizes in pixels; the thesis has images of 256."""

    patch: int = 64
    """Side of a patch."""
    shift: int = 24
    """How far an action moves the patch, along each axis."""
    window: int = 128
    """Side of what the sampler sees, centred on the patch."""

    def check(self) -> None:
        """Raise ValueError for values out of range."""
        for name in ("patch", "shift", "window"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; the least is 1 pixel")
        if self.window < self.patch or (self.window - self.patch) % 2:
            raise ValueError(
                f"window is {self.window} and patch {self.patch}; give the patch an equal margin all around"
            )

    def check_images(self, height: int, width: int) -> None:
        """Raise ValueError where images are smaller than a patch."""
        if min(height, width) < self.patch:
            raise ValueError(
                f"images are {height}x{width}, patches {self.patch}: give smaller patches or larger images"
            )

    @property
    def margin(self) -> int:
        """Pixels of the window beyond the patch, on each side."""
        return (self.window - self.patch) // 2


class Scene(NamedTuple):
    """What an episode takes place in; images and losses have a border of `margin` zeros."""

    images: Array  # [N, H + 2 margin, W + 2 margin, C]
    losses: Array  # [N, H + 2 margin, W + 2 margin], of each pixel, on any scale
    choice: Array  # int32: jumps go to images 0 to choice - 1


class Place(NamedTuple):
    """The state of an episode."""

    image: Array  # int32
    corner: Array  # [2] int32, row and column of the patch's first pixel in the image
    visited: Array  # [N, H + 2 margin, W + 2 margin] bool


class Episode(NamedTuple):
    """What happened, step by step; [T, ...]."""

    observations: Array  # [T, window, window, C + 2], what was seen before acting
    actions: Array  # [T] int32
    images: Array  # [T] int32, where the action led
    corners: Array  # [T, 2] int32
    news: Array  # [T], share of the patch's pixels visited for the first time


Policy = Callable[[Key, Array, Array], Array]
"""(key, step, observation [window, window, C + 2]) -> action."""


def make_scene(config: EnvironmentConfig, images: Array, losses: Array, choice: Array | int | None = None) -> Scene:
    """The scene of images [N, H, W, C] and losses [N, H, W]; `choice` is N by default."""
    chex.assert_rank([images, losses], [4, 3])
    chex.assert_equal_shape_prefix([images, losses], 3)
    config.check_images(*images.shape[1:3])
    border = [(config.margin, config.margin)] * 2
    choice = images.shape[0] if choice is None else choice
    return Scene(
        jnp.pad(images, [(0, 0), *border, (0, 0)]), jnp.pad(losses, [(0, 0), *border]), jnp.asarray(choice, jnp.int32)
    )


def reset(config: EnvironmentConfig, key: Key, scene: Scene) -> Place:
    """The beginning of an episode: a random image, a random place in it, nothing visited."""
    image, corner = _anywhere(config, key, scene)
    return Place(image, corner, jnp.zeros(scene.losses.shape, bool))


def step(config: EnvironmentConfig, key: Key, scene: Scene, place: Place, action: Array) -> tuple[Place, Array]:
    """The next place, and the share of its patch that is visited for the first time."""
    far_image, far_corner = _anywhere(config, key, scene)
    moves = jnp.asarray((*DIRECTIONS, (0, 0)), jnp.int32) * config.shift
    near = jnp.clip(place.corner + moves[action], 0, _last(config, scene))
    jump = action == CHANGE_IMAGE
    image, corner = jnp.where(jump, far_image, place.image), jnp.where(jump, far_corner, near)
    start = (image, *(corner + config.margin))
    size = (1, config.patch, config.patch)
    news = 1 - jnp.mean(lax.dynamic_slice(place.visited, start, size), dtype=jnp.float32)
    visited = lax.dynamic_update_slice(place.visited, jnp.ones(size, bool), start)
    return Place(image, corner, visited), news


def observe(config: EnvironmentConfig, scene: Scene, place: Place) -> Array:
    """What the sampler sees: [window, window, C + 2], the image, the loss, the visits."""
    # The border makes the window's corner in the padded image that of the patch in the image itself.
    start, size = (place.image, *place.corner), (1, config.window, config.window)
    image = lax.dynamic_slice(scene.images, (*start, 0), (*size, scene.images.shape[-1]))[0]
    loss, visited = (lax.dynamic_slice(x, start, size)[0] for x in (scene.losses, place.visited))
    return jnp.concatenate([image, loss[..., None], visited[..., None].astype(image.dtype)], -1)


def rollout(config: EnvironmentConfig, key: Key, scene: Scene, policy: Policy, steps: int) -> Episode:
    """A whole episode. The key decides where it begins and where jumps lead, and is handed on to the policy.

    Where an episode leads is a function of the key and the actions alone.
    """
    begin, moves, actions = jax.random.split(key, 3)

    def act(place: Place, t: Array) -> tuple[Place, Episode]:
        seen = observe(config, scene, place)
        action = jnp.asarray(policy(jax.random.fold_in(actions, t), t, seen), jnp.int32)
        place, news = step(config, jax.random.fold_in(moves, t), scene, place, action)
        return place, Episode(seen, action, place.image, place.corner, news)

    return lax.scan(act, reset(config, begin, scene), jnp.arange(steps))[1]


def patches(arrays: Array, episode_images: Array, corners: Array, size: int) -> Array:
    """The patches [T, size, size, ...] of arrays [N, H, W, ...] (without border) at the places of an episode."""
    chex.assert_rank([episode_images, corners], [1, 2])

    def one(image: Array, corner: Array) -> Array:
        start = (image, *corner, *(0,) * (arrays.ndim - 3))
        return lax.dynamic_slice(arrays, start, (1, size, size, *arrays.shape[3:]))[0]

    return jax.vmap(one)(episode_images, corners)


def visits(shape: tuple[int, ...], episode_images: Array, corners: Array, size: int) -> Array:
    """How often each pixel of [N, H, W] was in a patch: int32."""
    rows = jnp.arange(size)

    def add(counts: Array, place: tuple[Array, Array]) -> tuple[Array, None]:
        image, (top, left) = place
        return counts.at[image, (top + rows)[:, None], (left + rows)[None]].add(1), None

    return lax.scan(add, jnp.zeros(shape, jnp.int32), (episode_images, corners))[0]


def _anywhere(config: EnvironmentConfig, key: Key, scene: Scene) -> tuple[Array, Array]:
    image, corner = jax.random.split(key)
    return (
        jax.random.randint(image, (), 0, scene.choice),
        jax.random.randint(corner, (2,), 0, _last(config, scene) + 1),
    )


def _last(config: EnvironmentConfig, scene: Scene) -> np.ndarray:
    """[2], the largest corner of a patch inside an image."""
    return np.array(scene.losses.shape[1:], np.int32) - 2 * config.margin - config.patch
