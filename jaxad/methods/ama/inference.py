"""What a trained AMA sees: codes, reconstructions and the R-score (Eq. 5), statistics frozen."""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax.numpy as jnp
import optax
from jax.scipy.stats import norm as gaussian

from jaxad.methods.ama import losses
from jaxad.methods.ama.config import AMAConfig
from jaxad.methods.ama.networks import Networks, image_shape_of, make_networks
from jaxad.nn import spectral_norm as spectral
from jaxad.types import Array, Params


class AMAState(NamedTuple):
    """All that training and scoring need."""

    encoder: Params
    generator: Params
    critic: Params
    statistics: dict[str, Params]  # running averages of "encoder" and "generator", frozen for scoring
    vectors: tuple[Array, ...]  # of spectral normalisation; none without it
    opt_state: dict[str, optax.OptState]
    step: Array  # int32, steps trained
    r_mean: Array  # of R on the calibration images
    r_sd: Array
    r_median: Array
    r_spread: Array  # 1.4826 median absolute deviations, a standard deviation of Gaussian R


class AMAInference(NamedTuple):
    """What a trained state sees, for pictures and research: pure functions, statistics frozen, images in [0, 1]."""

    reconstruct: Callable[[AMAState, Array], Array]  # (state, [B, H, W, C]) -> the same
    encode: Callable[[AMAState, Array], Array]  # (state, [B, H, W, C]) -> codes [B, d]
    decode: Callable[[AMAState, Array], Array]  # (state, [B, d]) -> [B, H, W, C]
    r_score: Callable[[AMAState, Array], Array]  # (state, [B, H, W, C]) -> [B], Eq. 5
    error_map: Callable[[AMAState, Array], Array]  # (state, [B, H, W, C]) -> [B, H, W], |x - x^|, mean over channels


def make_inference(config: AMAConfig) -> AMAInference:
    """What a state of the detector with this config sees."""

    def encode(state: AMAState, images: Array) -> Array:
        chex.assert_rank(images, 4)
        return networks_of(config, state).encoder.apply(frozen(state, "encoder"), 2 * images - 1)

    def decode(state: AMAState, codes: Array) -> Array:
        chex.assert_rank(codes, 2)
        return (networks_of(config, state).generator.apply(frozen(state, "generator"), codes) + 1) / 2

    def reconstruct(state: AMAState, images: Array) -> Array:
        return decode(state, encode(state, images))

    def r_score(state: AMAState, images: Array) -> Array:
        inputs, rebuilt = 2 * images - 1, 2 * reconstruct(state, images) - 1
        params, critic = effective(config, state.critic, state.vectors), networks_of(config, state).critic
        same = critic.apply({"params": params}, pair(config, inputs, inputs)).features
        return jnp.sum(jnp.abs(same - critic.apply({"params": params}, pair(config, inputs, rebuilt)).features), 1)

    def error_map(state: AMAState, images: Array) -> Array:
        return jnp.mean(jnp.abs(images - reconstruct(state, images)), 3)

    return AMAInference(reconstruct, encode, decode, r_score, error_map)


def a_score(config: AMAConfig, state: AMAState, r: Array) -> Array:
    """-log A [B] of R-scores [B] (Eq. 6), by what the config says of moments and sides."""
    robust = config.moments == "median"
    moments = (state.r_median, state.r_spread) if robust else (state.r_mean, state.r_sd)
    return -(gaussian.logsf if config.sides == "upper" else gaussian.logpdf)(r, *moments)


def pair(config: AMAConfig, first: Array, second: Array) -> Array:
    """What the critic is shown: (x, y) [B, H, W, 2C], or without the mirror y alone."""
    return losses.stack_pairs(first, second) if config.mirrored else second


def networks_of(config: AMAConfig, state: AMAState) -> Networks:
    """The networks whose weights a state holds."""
    return make_networks(image_shape_of(state.generator), config.latent_dim, config.width, config.compute)


def frozen(state: AMAState, name: str) -> Params:
    """The variables of "encoder" or "generator" with running averages, for `Network.apply`."""
    return {"params": getattr(state, name), "batch_stats": state.statistics[name]}


def effective(config: AMAConfig, critic: Params, vectors: tuple[Array, ...]) -> Params:
    """The critic's weights as they are used."""
    return spectral.normalise_kernels(critic, vectors) if config.spectral_norm else critic
