"""What a trained AGAD sees: reconstructions, their reconstructions, latent errors and scores, statistics frozen."""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax.numpy as jnp
import optax

from jaxad.methods.agad import losses
from jaxad.methods.agad.config import AGADConfig
from jaxad.methods.agad.dcgan import Reconstruction
from jaxad.methods.agad.networks import Variables, make_networks, part, reconstruct, run, second_pass
from jaxad.types import Array


class AGADState(NamedTuple):
    """All that training and scoring need."""

    generator: Variables  # see `networks.init_generator`
    discriminator: Variables
    opt_state: dict[str, optax.OptState]
    step: Array  # int32, steps trained


class AGADInference(NamedTuple):
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


def make_inference(config: AGADConfig) -> AGADInference:
    """What a state of the detector with this config sees."""
    networks = make_networks(config)

    def passed(state: AGADState, images: Array, *, frozen: bool = True) -> tuple[Array, Reconstruction]:
        chex.assert_rank(images, 4)
        inputs = 2 * images - 1
        return inputs, reconstruct(networks.net, part(state.generator, "net"), inputs, train=not frozen)[0]

    def rebuilt(state: AGADState, images: Array) -> Array:
        return (passed(state, images)[1].images + 1) / 2

    def rebuilt_again(state: AGADState, images: Array) -> Array:
        first = passed(state, images)[1].images
        second, _ = reconstruct(networks.net, second_pass(config, state.generator), first)
        return (second.images + 1) / 2

    def latent(state: AGADState, inputs: Array, made: Reconstruction, frozen: bool) -> Array:
        if config.second_encoder:
            variables = part(state.generator, "encoder")
            (codes, _), _ = run(networks.encoder, variables, made.images, train=not frozen)
            return losses.squared_error(made.codes, codes)
        seen = [
            run(networks.discriminator, state.discriminator, images, train=not frozen)[0].latent
            for images in (inputs, made.images)
        ]
        return losses.squared_error(*seen)

    def latent_error(state: AGADState, images: Array) -> Array:
        return latent(state, *passed(state, images), True)

    def scored(state: AGADState, images: Array, frozen: bool) -> Array:
        inputs, made = passed(state, images, frozen=frozen)
        if config.score == "image":
            return jnp.sqrt(jnp.sum(jnp.square((inputs - made.images) / 2), (1, 2, 3)))
        error = latent(state, inputs, made, frozen)
        if config.score == "latent":
            return error
        share = config.latent_share
        return (1 - share) * losses.squared_error(inputs, made.images) + share * error

    def score(state: AGADState, images: Array) -> Array:
        return scored(state, images, True)

    def score_map(state: AGADState, images: Array) -> Array:
        inputs, made = passed(state, images)
        return jnp.sqrt(jnp.sum(jnp.square((inputs - made.images) / 2), 3))

    def batch_score(state: AGADState, images: Array) -> Array:
        return scored(state, images, False)

    return AGADInference(rebuilt, rebuilt_again, latent_error, score, score_map, batch_score)
