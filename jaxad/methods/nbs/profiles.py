"""Loss profiles: how well the last few autoencoders rebuild every pixel, and what the predictor makes of that."""

import chex
import jax
import jax.numpy as jnp
from jax import lax

from jaxad.methods.nbs import losses
from jaxad.methods.nbs.config import NBSConfig
from jaxad.methods.nbs.networks import make_networks
from jaxad.types import Array, Params


def loss_maps(config: NBSConfig, autoencoder: Params, images: Array) -> Array:
    """The loss of every pixel of images [N, H, W, C], cut into patches side by side: [N, H, W].

    The patches of an image are the batch that is normalised over, so that an image's losses are its own.
    """
    chex.assert_rank(images, 4)
    network, patch = make_networks(config).autoencoder, config.environment.patch
    height, width, channels = images.shape[1:]
    rows, columns = height // patch, width // patch

    def one(image: Array) -> Array:
        tiles = image.reshape(rows, patch, columns, patch, channels).transpose(0, 2, 1, 3, 4)
        tiles = tiles.reshape(rows * columns, patch, patch, channels)
        errors = losses.reconstruction_losses(tiles, network.apply(autoencoder, tiles))
        return errors.reshape(rows, columns, patch, patch).transpose(0, 2, 1, 3).reshape(height, width)

    # On CPU an image is work enough for all cores; elsewhere many fill the device.
    together = 1 if jax.default_backend() == "cpu" else 16
    return lax.map(one, images, batch_size=min(together, images.shape[0]))


def loss_profiles(config: NBSConfig, snapshots: Params, images: Array) -> Array:
    """Profiles [N, H, W, L] of images under L autoencoders, all their weights stacked along a first axis."""
    maps = lax.map(lambda autoencoder: loss_maps(config, autoencoder, images), snapshots)
    return jnp.moveaxis(maps, 0, -1)


def append(profiles: Array, maps: Array) -> Array:
    """Profiles [N, H, W, L] after one more loss [N, H, W]: the oldest goes."""
    return jnp.concatenate([profiles[..., 1:], maps[..., None]], -1)


def predict_images(config: NBSConfig, predictor: Params, profiles: Array) -> Array:
    """Logits [N, H, W] of profiles [N, H, W, L] by running averages, one image after another."""
    network = make_networks(config).predictor

    def one(profile: Array) -> Array:
        return network.apply(predictor, losses.normalise_profiles(profile[None]))[0]

    return lax.map(one, profiles)
