"""What a trained neural batch sampler can be asked: where it goes, and how the losses of pixels developed."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxad.methods.nbs import environment as env
from jaxad.methods.nbs import losses, sampling
from jaxad.methods.nbs.config import NBSConfig
from jaxad.methods.nbs.networks import make_networks
from jaxad.methods.nbs.profiles import loss_maps
from jaxad.methods.nbs.state import NBSInfo, NBSState
from jaxad.types import Array, Key, Params


def visit_counts(config: NBSConfig, key: Key, sampler: Params, images: Array, maps: Array, episodes: int) -> Array:
    """How often a sampler visits each pixel in so many episodes over images [N, H, W, C] as they are: [N, H, W] int32.

    maps: [N, H, W], the current losses of the images, which it sees.
    """
    scene = env.make_scene(config.environment, images, maps / jnp.maximum(jnp.mean(maps), losses.EMPTY))
    network, size, number = make_networks(config).sampler, config.environment.patch, images.shape[0]

    def add(index: Array, counts: Array) -> Array:
        one = jax.random.fold_in(key, index)
        _, episode = sampling.rollouts(config.environment, one, network, sampler, scene, number, config.episode)
        return counts + env.visits(maps.shape, episode.images, episode.corners, size)

    return lax.fori_loop(0, episodes, add, jnp.zeros(maps.shape, jnp.int32))


def labelled_visits(config: NBSConfig, state: NBSState, images: Array, episodes: int = 50, seed: int = 0) -> np.ndarray:
    """`visit_counts` of the best step's sampler among the labelled images [n, H, W, C], with their losses then."""

    newest = state.opt_state.best_profiles[: images.shape[0], ..., -1]
    return np.asarray(_counting(config, episodes)(jax.random.key(seed), state.best.sampler, images, newest))


def current_visits(config: NBSConfig, state: NBSState, images: Array, episodes: int = 20, seed: int = 0) -> np.ndarray:
    """`visit_counts` of the sampler as it is among the labelled images [n, H, W, C], with the newest losses of these.

    An autoencoder that has just begun anew has none yet: its predecessor's count.
    """
    newest = jax.tree.map(lambda leaf: leaf[-1], state.opt_state.snapshots)
    maps = _mapping(config)(newest, images)
    return np.asarray(_counting(config, episodes)(jax.random.key(seed), state.opt_state.sampler, images, maps))


@functools.lru_cache(maxsize=4)
def _counting(config: NBSConfig, episodes: int) -> Callable[..., Array]:
    return jax.jit(lambda *arguments: visit_counts(config, *arguments, episodes))


@functools.lru_cache(maxsize=4)
def _mapping(config: NBSConfig) -> Callable[..., Array]:
    return jax.jit(functools.partial(loss_maps, config))


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


def training_curves(records: Sequence[Mapping[str, Any]]) -> dict[str, NBSInfo]:
    """The infos of every method that has any, each field [seeds, steps], from the records of trainings.

    records: {"method", "curves": {field of the info: [1, steps], None for NaN}}, where it was trained by `train_nbs`;
    of every method in the order of seeds.
    """
    found: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        if record.get("curves"):
            found.setdefault(record["method"], []).append(record["curves"])
    return {
        method: NBSInfo(*(np.concatenate([np.array(one[field], float) for one in own]) for field in NBSInfo._fields))
        for method, own in found.items()
    }


def loss_lives(info: NBSInfo, period: int) -> dict[str, np.ndarray]:
    """Losses over the whole life of every autoencoder, one after another: {"normal", "anomalous"}: [lives, period].

    They are means over pixels of labelled images after every step of a life; what is left of a last life is NaN.

    Args:
      info: of trainings from the first step on, every field [seeds, steps].
      period: steps of a life.
    """
    found = {}
    for name, losses_of in (("normal", info.normal_loss), ("anomalous", info.anomalous_loss)):
        values = np.asarray(losses_of, float)
        rest = -values.shape[1] % period
        found[name] = np.pad(values, ((0, 0), (0, rest)), constant_values=np.nan).reshape(-1, period)
    return found


def sampling_rows(curves: Mapping[str, NBSInfo]) -> list[dict[str, Any]]:
    """Of every method means over the second half of training: what its patches held, and what came of them.

    "loss_ratio" is the loss of anomalous pixels by that of normal ones, of labelled images; "prediction" is l_pred, and
    "prediction_sd" its standard deviation over steps, mean over seeds; "entropy" is None without a policy.
    """
    rows = []
    for method, info in curves.items():
        late = NBSInfo(*(values[:, values.shape[1] // 2 :] for values in info))
        row: dict[str, Any] = {"method": method}
        for name in ("anomalous_patches", "anomalous_pixels", "prediction"):
            row[name] = float(np.nanmean(getattr(late, name)))
        row["loss_ratio"] = float(np.mean(late.anomalous_loss / late.normal_loss))
        row["prediction_sd"] = float(np.nanstd(late.prediction, axis=1).mean())
        row["entropy"] = None if np.isnan(late.entropy).all() else float(np.nanmean(late.entropy))
        rows.append(row)
    return rows
