"""The networks of an AGAD as its config says, and the statistics with which they normalise.

A step runs each network twice, both times on the running averages that it began with, and only then brings these
forward. So in training a network here hands out the statistics of the very batch, and `averaged` counts them in.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxad.methods.agad.config import AGADConfig
from jaxad.methods.agad.dcgan import Autoencoder, Discriminator, Encoder, Reconstruction
from jaxad.nn.network import STATISTICS, make_network, norms_of, replaced
from jaxad.nn.normalization import MOMENTUM
from jaxad.nn.unet import UNet
from jaxad.types import Array, Key, Network, Params

Variables = dict[str, Any]
"""{"params", "batch_stats"}, each nested by the names of the modules. Those of a generator have parts: "net", and where
they exist "encoder" (the second one) and "auxiliary" (normalisations of the pass G(x^))."""
Statistics = dict[str, Any]  # batch_stats of a network, empty where nothing is normalised


class Networks(NamedTuple):
    """Networks of images [B, H, W, C] in [-1, 1], for `run` and `reconstruct`."""

    net: Network  # the generator proper -> images, or `dcgan.Reconstruction` with codes
    encoder: Network  # the second encoder -> codes [B, d], features
    discriminator: Network  # -> `dcgan.DiscriminatorOutput`


def make_networks(config: AGADConfig) -> Networks:
    """The networks of a config."""
    common: dict[str, Any] = {"multiplier": config.width, "momentum": 0.0, "dtype": config.compute}
    coded = {"latent_dim": config.latent_dim, **common}
    if config.generator == "naive":
        net = Autoencoder(**coded)
    else:
        kind = {"levels": config.levels, "dense": config.generator == "unetpp", "batch_norm": config.batch_norm}
        net = UNet(**kind, activation=jnp.tanh, **common)
    return Networks(make_network(net), make_network(Encoder(**coded)), make_network(Discriminator(**coded)))


def init_generator(config: AGADConfig, networks: Networks, key: Key, image_shape: Sequence[int]) -> Variables:
    """Variables of the generator: {"params", "batch_stats"}, each of its parts."""
    net, encoder, auxiliary = jax.random.split(key, 3)
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    parts = {"net": networks.net.init(net, images)}
    if config.second_encoder:
        parts["encoder"] = networks.encoder.init(encoder, images)
    if config.auxiliary_norm:
        other = networks.net.init(auxiliary, images)
        parts["auxiliary"] = {**other, "params": norms_of(other["params"])}
    return {kind: {name: part.get(kind, {}) for name, part in parts.items()} for kind in ("params", STATISTICS)}


def init_discriminator(networks: Networks, key: Key, image_shape: Sequence[int]) -> Variables:
    """Variables of the discriminator: {"params", "batch_stats"}."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    return {STATISTICS: {}, **networks.discriminator.init(key, images)}


def part(variables: Variables, name: str) -> Variables:
    """Variables of a part of the generator."""
    return {kind: parts[name] for kind, parts in variables.items()}


def second_pass(config: AGADConfig, generator: Variables) -> Variables:
    """Variables of the net for G(x^): the same as for G(x), or with auxiliary normalisations."""
    net = part(generator, "net")
    if not config.auxiliary_norm:
        return net
    auxiliary = part(generator, "auxiliary")
    return {**auxiliary, "params": replaced(net["params"], auxiliary["params"])}


def run(
    network: Network, variables: Variables, images: Array, *, train: bool = False, frozen: Array | None = None
) -> tuple[Any, Statistics]:
    """What a network gives, and the statistics it normalised with.

    Args:
      variables: {"params", "batch_stats"} of this network.
      images: [B, H, W, C] in [-1, 1].
      train: whether it normalises with statistics of the batch; by default with batch_stats.
      frozen: [B] booleans, the images that batch_stats normalise in training, too, and that do not count.
    """
    if not train:
        return network.apply(variables, images), variables[STATISTICS]
    output, updated = network.apply(variables, images, train=True, frozen=frozen)
    return output, updated[STATISTICS]


def reconstruct(network: Network, variables: Variables, images: Array, **options: Any) -> tuple[Reconstruction, Params]:
    """G of images: as `run`, for either kind of generator."""
    output, statistics = run(network, variables, images, **options)
    return output if isinstance(output, Reconstruction) else Reconstruction(output, None), statistics


def averaged(running: Statistics, batch: Statistics) -> Statistics:
    """Running averages after another batch, given its statistics."""
    return jax.tree.map(lambda old, new: MOMENTUM * old + (1 - MOMENTUM) * new, running, batch)
