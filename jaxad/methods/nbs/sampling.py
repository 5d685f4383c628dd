"""Where the patches of a step come from: the learned sampler's episodes, or one of the two heuristics beside it."""

import warnings
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from jaxad.methods.nbs import environment as env
from jaxad.methods.nbs.environment import EnvironmentConfig, Episode, Scene
from jaxad.types import Array, Key, Network, Params

if TYPE_CHECKING:
    from distrax import Categorical


class Drawn(NamedTuple):
    """Places of patches."""

    images: Array  # [T] int32
    corners: Array  # [T, 2] int32


def policy(sampler: Network, variables: Params, windows: Array) -> "Categorical":
    """The distribution of the next action in each of the windows [B, H, W, C] that the sampler sees."""
    with warnings.catch_warnings():  # what is beneath it still asks JAX for names that are on their way out
        warnings.simplefilter("ignore", DeprecationWarning)
        from distrax import Categorical  # here: it takes half a second, and most have no policy
    return Categorical(logits=sampler.apply(variables, windows))


def rollouts(
    config: EnvironmentConfig, key: Key, sampler: Network, variables: Params, scene: Scene, labelled: int, steps: int
) -> tuple[Episode, Episode]:
    """Two episodes of the policy, side by side: one among the first `labelled` images, one among all."""
    choices = jnp.array([labelled, scene.images.shape[0]], jnp.int32)

    def act(key: Key, step: Array, seen: Array) -> Array:
        return policy(sampler, variables, seen[None]).sample(seed=key)[0]

    def one(key: Key, choice: Array) -> Episode:
        return env.rollout(config, key, scene._replace(choice=choice), act, steps)

    both = jax.vmap(one)(jax.random.split(key, 2), choices)
    return tuple(jax.tree.map(lambda leaf, k=k: leaf[k], both) for k in range(2))


def uniform(key: Key, shape: tuple[int, int, int], patch: int, steps: int) -> Drawn:
    """Places drawn independently and uniformly from all of [N, H, W]."""
    number, height, width = shape
    images, rows, columns = jax.random.split(key, 3)
    corners = [
        jax.random.randint(key, (steps,), 0, side - patch + 1) for key, side in ((rows, height), (columns, width))
    ]
    return Drawn(jax.random.randint(images, (steps,), 0, number), jnp.stack(corners, -1))


def normal(key: Key, masks: Array, patch: int, steps: int) -> Drawn:
    """Places drawn uniformly from all patches of the labelled images that hold no anomalous pixel of masks [n, H, W].

    Where there is no such patch, those with the fewest anomalous pixels stand in.
    """
    held = patch_sums(masks, patch)
    allowed = (held == jnp.min(held)).reshape(-1)
    upto = jnp.cumsum(allowed)
    drawn = jax.random.randint(key, (steps,), 0, upto[-1])
    place = jnp.searchsorted(upto, drawn, side="right").astype(jnp.int32)
    rows, columns = held.shape[1:]
    corners = jnp.stack([place // columns % rows, place % columns], -1)
    return Drawn(place // (rows * columns), corners)


def patch_sums(masks: Array, patch: int) -> Array:
    """Anomalous pixels in the patch at every corner: [n, H - patch + 1, W - patch + 1] int32."""
    sums = jnp.cumsum(jnp.cumsum((masks > 0).astype(jnp.int32), 1), 2)
    sums = jnp.pad(sums, [(0, 0), (1, 0), (1, 0)])
    return sums[:, patch:, patch:] - sums[:, :-patch, patch:] - sums[:, patch:, :-patch] + sums[:, :-patch, :-patch]
