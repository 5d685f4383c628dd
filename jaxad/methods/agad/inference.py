"""What a trained AGAD sees: reconstructions, their reconstructions, latent errors and scores, statistics frozen."""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax.numpy as jnp
import optax

from jaxad.methods.agad import losses
from jaxad.methods.agad.config import AGADConfig
from jaxad.methods.agad.networks import Made, Running, discriminate, encode_again, generate, second_pass
from jaxad.nn.norm import Statistics
from jaxad.types import Array, Params


class AGADState(NamedTuple):
    """All that training and scoring need."""

    generator: Params  # see `networks.init_generator`
    discriminator: Params
    running: Running  # averages of batch normalisation, frozen for scoring
    opt_state: dict[str, optax.OptState]
    step: Array  # int32, steps trained


class AGADViews(NamedTuple):
    """What a trained state sees, for pictures and research: pure functions of images in [0, 1].

    `batch_score` is a diagnostic: the score with every normalisation using the images it is given, as the code of the
    GANomaly lineage tests. A score then depends on what is scored with it, so it decides nothing in this library.
    """

    reconstruct: Callable[[AGADState, Array], Array]  # (state, [B, H, W, C]) -> the same
    reconstruct_again: Callable[[AGADState, Array], Array]  # G(G(x)), what pseudo-anomalies become
    latent_error: Callable[[AGADState, Array], Array]  # -> [B], Eq. 7 of each image
    score: Callable[[AGADState, Array], Array]  # -> [B], as the config says
    score_map: Callable[[AGADState, Array], Array]  # -> [B, H, W], norm over channels; its norm is the image score
    batch_score: Callable[[AGADState, Array], Array]  # -> [B]


def views(config: AGADConfig) -> AGADViews:
    """What a state of the detector with this config sees."""

    def passed(state: AGADState, images: Array, *, frozen: bool = True) -> tuple[Array, Made]:
        chex.assert_rank(images, 4)
        inputs = 2 * images - 1
        return inputs, generate(config, state.generator, inputs, statistics(state, "generator", frozen))

    def reconstruct(state: AGADState, images: Array) -> Array:
        return (passed(state, images)[1].rebuilt + 1) / 2

    def reconstruct_again(state: AGADState, images: Array) -> Array:
        rebuilt = passed(state, images)[1].rebuilt
        used = second_pass(config, state.generator, state.running, statistics(state, "generator", True))
        return (generate(config, state.generator, rebuilt, used).rebuilt + 1) / 2

    def latent(state: AGADState, inputs: Array, made: Made, frozen: bool) -> Array:
        if config.second_encoder:
            codes = encode_again(config, state.generator, made.rebuilt, statistics(state, "encoder", frozen)).output
            return losses.squared_error(made.codes, codes)
        seen = [
            discriminate(config, state.discriminator, images, statistics(state, "discriminator", frozen)).latent
            for images in (inputs, made.rebuilt)
        ]
        return losses.squared_error(*seen)

    def latent_error(state: AGADState, images: Array) -> Array:
        return latent(state, *passed(state, images), True)

    def scored(state: AGADState, images: Array, frozen: bool) -> Array:
        inputs, made = passed(state, images, frozen=frozen)
        if config.score == "image":
            return jnp.sqrt(jnp.sum(jnp.square((inputs - made.rebuilt) / 2), (1, 2, 3)))
        error = latent(state, inputs, made, frozen)
        if config.score == "latent":
            return error
        share = config.latent_share
        return (1 - share) * losses.squared_error(inputs, made.rebuilt) + share * error

    def score(state: AGADState, images: Array) -> Array:
        return scored(state, images, True)

    def score_map(state: AGADState, images: Array) -> Array:
        inputs, made = passed(state, images)
        return jnp.sqrt(jnp.sum(jnp.square((inputs - made.rebuilt) / 2), 3))

    def batch_score(state: AGADState, images: Array) -> Array:
        return scored(state, images, False)

    return AGADViews(reconstruct, reconstruct_again, latent_error, score, score_map, batch_score)


def statistics(state: AGADState, name: str, frozen: bool) -> Statistics:
    """The running averages of a network, or those of the images it is given."""
    return Statistics(state.running[name] if frozen else None)
