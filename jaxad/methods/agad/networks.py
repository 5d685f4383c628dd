"""The networks of an AGAD: which generator, with which statistics of batch normalisation."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxad.methods.agad.config import AGADConfig
from jaxad.nn import dcgan, unet
from jaxad.nn.initializers import convolve_in, draw_normal
from jaxad.nn.layers import Moments
from jaxad.nn.norm import Normalised, Statistics, fresh_moments
from jaxad.types import Array, Key, Params

Running = dict[str, tuple[Moments, ...]]
"""Averages: "generator", "discriminator", and where they exist "auxiliary" (the pass G(x^)) and "encoder"."""


class Made(NamedTuple):
    """What the generator makes of images."""

    rebuilt: Array  # [B, H, W, C] in [-1, 1]
    codes: Array | None  # [B, d], of the naive generator
    moments: tuple[Moments, ...]


def init_generator(config: AGADConfig, key: Key, image_shape: Sequence[int]) -> Params:
    """Weights that the generator's optimiser trains: {"net"}, and as configured {"encoder", "auxiliary"}."""
    net, encoder, auxiliary = jax.random.split(key, 3)
    if config.generator == "naive":
        params = {"net": dcgan.init_autoencoder(net, image_shape, config.latent_dim, config.width)}
    else:
        dense = config.generator == "unetpp"
        options = {"levels": config.levels, "dense": dense, "batch_norm": config.batch_norm}
        params = {"net": unet.init_unet(net, image_shape, config.width, **options)}
    if config.second_encoder:
        params["encoder"] = dcgan.init_encoder(encoder, image_shape, config.latent_dim, config.width)
    if config.auxiliary_norm:
        images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
        met = jax.eval_shape(lambda p, x: generate(config, p, x, Statistics()).moments, params, images)
        params["auxiliary"] = draw_normal(auxiliary, tuple(dcgan.affine(m.mean.size) for m in met))
    return params


def init_discriminator(config: AGADConfig, key: Key, image_shape: Sequence[int]) -> Params:
    """Weights of the discriminator."""
    return dcgan.init_discriminator(key, image_shape, config.latent_dim, config.width)


def fresh_running(config: AGADConfig, generator: Params, discriminator: Params, image_shape: Sequence[int]) -> Running:
    """Averages before the first step."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)

    def fresh(function: Callable[..., Normalised], params: Params) -> tuple[Moments, ...]:
        return fresh_moments(jax.eval_shape(lambda *both: function(*both).moments, params, images))

    running = {
        "generator": fresh(lambda p, x: generate(config, p, x, Statistics()), generator),
        "discriminator": fresh(dcgan.discriminate, discriminator),
    }
    if config.second_encoder:
        running["encoder"] = fresh(dcgan.encode, generator["encoder"])
    if config.auxiliary_norm:
        running["auxiliary"] = running["generator"]
    return running


def generate(config: AGADConfig, params: Params, images: Array, statistics: Statistics) -> Made:
    """Reconstructions of images [B, H, W, C] in [-1, 1]."""
    net = convolve_in(config.compute, params["net"])
    if config.generator == "naive":
        return Made(*dcgan.autoencode(net, images, statistics))
    made = unet.generate(net, images, statistics)
    return Made(made.output, None, made.moments)


def encode_again(config: AGADConfig, params: Params, images: Array, statistics: Statistics) -> Normalised:
    """Codes of reconstructions by the second encoder."""
    return dcgan.encode(convolve_in(config.compute, params["encoder"]), images, statistics)


def discriminate(config: AGADConfig, params: Params, images: Array, statistics: Statistics) -> dcgan.Judgement:
    """What the discriminator says of images."""
    return dcgan.discriminate(convolve_in(config.compute, params), images, statistics)


def second_pass(config: AGADConfig, params: Params, running: Running, used: Statistics) -> Statistics:
    """Statistics for G(x^), given those for G(x): the same, or auxiliary ones."""
    if not config.auxiliary_norm:
        return used
    moments = None if used.moments is None else running["auxiliary"]
    return Statistics(moments, used.apart, params["auxiliary"])
