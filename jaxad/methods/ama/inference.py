"""What a trained AMA sees: codes, reconstructions and the R-score (Eq. 5), statistics frozen."""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax.numpy as jnp
import optax

from jaxad.methods.ama import losses
from jaxad.methods.ama import networks as sngan
from jaxad.methods.ama import spectral_norm as spectral
from jaxad.methods.ama.config import AMAConfig
from jaxad.nn.initializers import convolve_in
from jaxad.nn.layers import Moments
from jaxad.types import Array, Params


class AMAState(NamedTuple):
    """All that training and scoring need."""

    encoder: Params
    generator: Params
    critic: Params
    moments: dict[str, tuple[Moments, ...]]  # running averages of "encoder" and "generator", frozen for scoring
    vectors: tuple[Array, ...]  # of spectral normalisation; none without it
    opt_state: dict[str, optax.OptState]
    step: Array  # int32, steps trained
    r_mean: Array  # of R on the calibration images
    r_sd: Array


class Networks(NamedTuple):
    """The weights that train together."""

    encoder: Params
    generator: Params


class AMAViews(NamedTuple):
    """What a trained state sees, for pictures and research: pure functions, statistics frozen, images in [0, 1]."""

    reconstruct: Callable[[AMAState, Array], Array]  # (state, [B, H, W, C]) -> the same
    encode: Callable[[AMAState, Array], Array]  # (state, [B, H, W, C]) -> codes [B, d]
    decode: Callable[[AMAState, Array], Array]  # (state, [B, d]) -> [B, H, W, C]
    r_score: Callable[[AMAState, Array], Array]  # (state, [B, H, W, C]) -> [B], Eq. 5


def views(config: AMAConfig) -> AMAViews:
    """What a state of the detector with this config sees."""

    def encode(state: AMAState, images: Array) -> Array:
        chex.assert_rank(images, 4)
        networks = in_use(config, state)
        return sngan.encode(networks.encoder, 2 * images - 1, state.moments["encoder"]).output

    def decode(state: AMAState, codes: Array) -> Array:
        chex.assert_rank(codes, 2)
        networks = in_use(config, state)
        return (sngan.generate(networks.generator, codes, state.moments["generator"]).output + 1) / 2

    def reconstruct(state: AMAState, images: Array) -> Array:
        return decode(state, encode(state, images))

    def r_score(state: AMAState, images: Array) -> Array:
        inputs, rebuilt = 2 * images - 1, 2 * reconstruct(state, images) - 1
        critic = effective(config, state.critic, state.vectors)
        same = sngan.judge(critic, pair(config, inputs, inputs)).features
        return jnp.sum(jnp.abs(same - sngan.judge(critic, pair(config, inputs, rebuilt)).features), 1)

    return AMAViews(reconstruct, encode, decode, r_score)


def pair(config: AMAConfig, first: Array, second: Array) -> Array:
    """What the critic is shown: (x, y) [B, H, W, 2C], or without the mirror y alone."""
    return losses.stack_pairs(first, second) if config.mirrored else second


def in_use(config: AMAConfig, networks: AMAState | Networks) -> Networks:
    """The weights of encoder and generator as they are used."""
    both = (networks.encoder, networks.generator)
    return Networks(*(convolve_in(config.compute, params) for params in both))


def effective(config: AMAConfig, critic: Params, vectors: tuple[Array, ...]) -> Params:
    """The critic's weights as they are used."""
    critic = spectral.normalise_kernels(critic, vectors) if config.spectral_norm else critic
    return convolve_in(config.compute, critic)
