"""The parts of a step of neural batch sampling: what is seen and sampled, and the update of each network."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxad.methods.nbs import buffer as fifo
from jaxad.methods.nbs import environment as env
from jaxad.methods.nbs import losses, sampling
from jaxad.methods.nbs.buffer import Buffer
from jaxad.methods.nbs.config import NBSConfig
from jaxad.methods.nbs.environment import Episode
from jaxad.methods.nbs.networks import make_networks
from jaxad.nn.network import split
from jaxad.training import augment
from jaxad.types import Array, Key, Params


class Seen(NamedTuple):
    """Images as they are sampled from, changed at random together with what belongs to them."""

    images: Array  # [N, H, W, C]
    losses: Array  # [N, H, W], divided by their mean
    masks: Array  # [N, H, W], 0 for unlabelled images
    labelled: int  # images with masks, the first ones


def make_seen(config: NBSConfig, key: Key, images: Array, maps: Array, masks: Array) -> Seen:
    """What a step samples from, given images [N, H, W, C], losses [N, H, W] and masks [n, H, W] of the first n."""
    labelled, number = masks.shape[0], images.shape[0]
    maps = maps / jnp.maximum(jnp.mean(maps), losses.EMPTY)
    masks = jnp.pad(masks.astype(jnp.float32), [(0, number - labelled), (0, 0), (0, 0)])
    if config.augment:
        transforms = augment.random_transforms(key, number)
        changed = augment.warp(jnp.concatenate([images, maps[..., None]], -1), transforms)
        images, maps = changed[..., :-1], changed[..., -1]
        masks = augment.warp(masks[..., None], transforms, nearest=True)[..., 0]
    return Seen(images, maps, masks, labelled)


def sample(
    config: NBSConfig, key: Key, strategy: Array, sampler: Params, seen: Seen
) -> tuple[tuple[Episode, Episode], sampling.Drawn]:
    """The two episodes of the policy and the places of the patches that train the autoencoder.

    `strategy` is a place among `STRATEGIES`, so that one program serves all; without a policy its episodes are zeros.
    """
    patch = config.environment.patch

    def learned() -> tuple[tuple[Episode, Episode], sampling.Drawn]:
        scene = env.make_scene(config.environment, seen.images, seen.losses)
        network = make_networks(config).sampler
        episodes = sampling.rollouts(config.environment, key, network, sampler, scene, seen.labelled, config.episode)
        return episodes, sampling.Drawn(episodes[1].images, episodes[1].corners)

    def uniform() -> tuple[tuple[Episode, Episode], sampling.Drawn]:
        return nothing, sampling.uniform(key, seen.losses.shape, patch, config.episode)

    def normal() -> tuple[tuple[Episode, Episode], sampling.Drawn]:
        return nothing, sampling.normal(key, seen.masks[: seen.labelled], patch, config.episode)

    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(learned)[0])
    return lax.switch(strategy, (learned, uniform, normal))


def train_autoencoder(
    config: NBSConfig,
    optimiser: optax.GradientTransformation,
    params: Params,
    opt_state: optax.OptState,
    patches: Array,
) -> tuple[Params, optax.OptState, Array]:
    """After all mini-batches, with the loss of each before its update."""
    network = make_networks(config).autoencoder

    def loss(params: Params, batch: Array) -> Array:
        return jnp.mean(losses.reconstruction_losses(batch, network.apply(params, batch)))

    def update(carry: tuple[Params, optax.OptState], batch: Array) -> tuple[tuple[Params, optax.OptState], Array]:
        params, opt_state = carry
        value, gradients = jax.value_and_grad(loss)(params, batch)
        return updated(optimiser, gradients, opt_state, params), value

    batches = patches.reshape(-1, config.batch, *patches.shape[1:])
    (params, opt_state), errors = lax.scan(update, (params, opt_state), batches)
    return params, opt_state, errors


def push(config: NBSConfig, key: Key, buffer: Buffer, profiles: Array, masks: Array, wanted: Array) -> Buffer:
    """The buffer after profiles [n, H, W, L] and their masks came in, changed at random; as it was unless `wanted`."""
    if config.augment:
        transforms = augment.random_transforms(key, masks.shape[0])
        profiles = augment.warp(profiles, transforms)
        masks = augment.warp(masks[..., None], transforms, nearest=True)[..., 0]
    return fifo.push(buffer, profiles, masks, wanted)


Predictor = tuple[Params, optax.OptState]  # variables, with running averages, and optimiser


def train_predictor(
    config: NBSConfig,
    optimiser: optax.GradientTransformation,
    key: Key,
    known: Predictor,
    buffer: Buffer,
    alpha: Array,
) -> tuple[Predictor, Array]:
    """After the updates of a step, with the mean loss before each."""
    network = make_networks(config).predictor

    def loss(params: Params, statistics: Params, profiles: Array, masks: Array) -> tuple[Array, Params]:
        logits, after = network.apply({**params, **statistics}, losses.normalise_profiles(profiles), train=True)
        return losses.weighted_cross_entropy(logits, masks, alpha), split(after)[1]

    def update(known: Predictor, index: Array) -> tuple[Predictor, Array]:
        variables, opt_state = known
        params, statistics = split(variables)
        profiles, masks = fifo.draw(buffer, jax.random.fold_in(key, index), config.predictor_batch)
        (value, statistics), gradients = jax.value_and_grad(loss, has_aux=True)(params, statistics, profiles, masks)
        params, opt_state = updated(optimiser, gradients, opt_state, params)
        return ({**params, **statistics}, opt_state), value

    known, values = lax.scan(update, known, jnp.arange(config.predictor_updates))
    return known, values.mean()


def policy_loss(
    config: NBSConfig, sampler: Params, episodes: tuple[Episode, Episode], returns: tuple[Array, Array], beta: Array
) -> Array:
    """Each reward weighs the actions of the episode that it belongs to (Eqs. 3.3 and 3.4)."""
    network = make_networks(config).sampler
    first, second = (
        losses.policy_loss(sampling.policy(network, sampler, e.observations).log_prob(e.actions), r)
        for e, r in zip(episodes, returns)
    )
    return beta * first + (1 - beta) * second


def updated(
    optimiser: optax.GradientTransformation, gradients: Params, state: optax.OptState, params: Params
) -> tuple[Params, optax.OptState]:
    """Weights and optimiser after one more update."""
    updates, state = optimiser.update(gradients, state, params)
    return optax.apply_updates(params, updates), state


def fresh(optimiser: optax.GradientTransformation, params: Params) -> tuple[Params, optax.OptState]:
    """Weights with an optimiser that has seen nothing."""
    return params, optimiser.init(params)
