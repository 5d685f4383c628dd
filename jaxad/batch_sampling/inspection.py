"""What a trained neural batch sampler can be asked: where it goes, and how the losses of pixels developed."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxad.batch_sampling import environment as env
from jaxad.batch_sampling import sampling
from jaxad.batch_sampling.config import NBSConfig
from jaxad.batch_sampling.state import NBSState
from jaxad.losses import batch_sampling as losses
from jaxad.types import Array, Key, Params


def visit_counts(config: NBSConfig, key: Key, sampler: Params, images: Array, maps: Array, episodes: int) -> Array:
    """How often a sampler visits each pixel in so many episodes over images [N, H, W, C] as they are: [N, H, W] int32.

    maps: [N, H, W], the current losses of the images, which it sees.
    """
    scene = env.make_scene(config.environment, images, maps / jnp.maximum(jnp.mean(maps), losses.EMPTY))
    size, number = config.environment.patch, images.shape[0]

    def add(index: Array, counts: Array) -> Array:
        one = jax.random.fold_in(key, index)
        _, episode = sampling.act_out(config.environment, one, sampler, scene, number, config.episode)
        return counts + env.visits(maps.shape, episode.images, episode.corners, size)

    return lax.fori_loop(0, episodes, add, jnp.zeros(maps.shape, jnp.int32))


def labelled_visits(config: NBSConfig, state: NBSState, images: Array, episodes: int = 50, seed: int = 0) -> np.ndarray:
    """`visit_counts` of the best step's sampler among the labelled images [n, H, W, C], with their losses then."""

    @jax.jit
    def count(key: Key, state: NBSState, images: Array) -> Array:
        newest = state.opt_state.best_profiles[: images.shape[0], ..., -1]
        return visit_counts(config, key, state.best.sampler, images, newest, episodes)

    return np.asarray(count(jax.random.key(seed), state, images))


def pixel_profiles(state: NBSState, masks: np.ndarray, limit: int = 2000, seed: int = 0) -> dict[str, np.ndarray]:
    """Normalised loss profiles at the best step, {"normal", "anomalous"}: [up to `limit`, L] of random pixels.

    masks: [m, H, W], of the last m of the images that were trained on.
    """
    profiles = np.asarray(losses.normalise_profiles(state.opt_state.best_profiles))[-len(masks) :]
    rng, found = np.random.default_rng(seed), {}
    for name, where in (("normal", masks == 0), ("anomalous", masks > 0)):
        own = profiles[where]
        found[name] = own[rng.permutation(len(own))[:limit]]
    return found
