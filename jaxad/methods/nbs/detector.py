"""Neural batch sampling (Chu 2020): Algorithm 1 as one compiled step over one state, and what is trained as a detector.

A step samples patches, trains the autoencoder with them, evaluates the loss of every pixel of every image, appends it
to the pixel's profile, trains the predictor with profiles of labelled images, and rewards the sampler for what the
predictor then achieves. Every `period` steps the autoencoder begins anew.

Readings of what the pseudocode leaves open: steps count from 1 (its step 0 trains an autoencoder that is discarded at
once); buffer, predictor and sampler wait for profiles without the zeros of a beginning; the lowest loss is kept when it
is beaten; the sampler sees losses divided by their mean over all images, as raw ones would be lost beside the colours.
"""

import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxad.methods.nbs import buffer as fifo
from jaxad.methods.nbs import environment as env
from jaxad.methods.nbs import losses, sampling, updates
from jaxad.methods.nbs.config import STRATEGIES, NBSConfig
from jaxad.methods.nbs.networks import make_networks
from jaxad.methods.nbs.profiles import append, loss_maps, loss_profiles, predict_images
from jaxad.methods.nbs.state import Best, NBSInfo, NBSState, Training
from jaxad.methods.registry import detector
from jaxad.nn.crf import refine
from jaxad.nn.network import split
from jaxad.types import Array, Batch, Detector, Key, Params

TINY = NBSConfig(
    environment=env.EnvironmentConfig(patch=8, shift=3, window=16),
    episode=4, batch=2, code=4, width=0.05, sampler_width=0.2, predictor_width=0.5, period=6, skip=3, profile=3,
    clone_steps=20, predictor_batch=16, predictor_updates=8, memory=64, learning_rate=3e-3,
)  # fmt: skip


@detector(
    "nbs",
    "Neural batch sampling, from the masks of a few images (Chu & Kitani, ECCV 2020).",
    config=NBSConfig,
    tiny=TINY,
    whole=True,
)
def nbs(config: NBSConfig | None = None, **fields: Any) -> Detector:
    """The detector of a config, of its fields (`nbs(width=0.25)`), or of a config with changed fields.

    Unlike others it learns from the same images in every step: `init` takes all of them, labelled ones first, and
    `step` a `Batch` of all of them with the masks [n, H, W] of the first n; `labels` are not used. `score_map` gives
    logits of pixels for any images, seen or new, from the autoencoders kept with the best step; `score` is their
    largest. See `segment` for masks, `known_logits` for the images of the training itself. `calibrate` does nothing.
    `without_images` of a state can be saved.
    """
    config = dataclasses.replace(config or NBSConfig(), **fields)
    config.check()
    optimiser = optax.adam(config.learning_rate)
    networks, size = make_networks(config), config.environment.patch

    def init_autoencoder(key: Key, channels: int) -> Params:
        return networks.autoencoder.init(key, jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32))

    def init(key: Key, images: Array) -> NBSState:
        chex.assert_rank(images, 4)
        config.check_images(images.shape[1:])
        number, height, width, channels = images.shape
        keys = jax.random.split(key, 3)
        window = (config.environment.window, config.environment.window, channels + 2)
        profiles = jnp.zeros((number, height, width, config.profile))
        variables = {
            "sampler": networks.sampler.init(keys[0], jax.ShapeDtypeStruct((1, *window), jnp.float32)),
            "autoencoder": init_autoencoder(keys[1], channels),
            "predictor": networks.predictor.init(keys[2], profiles[:1]),
        }
        snapshots = jax.tree.map(lambda leaf: jnp.stack(config.profile * [leaf]), variables["autoencoder"])
        best = Best(jnp.float32(jnp.inf), jnp.int32(0), variables["sampler"], variables["predictor"], snapshots)
        training = Training(
            **variables,
            strategy=jnp.int32(STRATEGIES.index(config.strategy)),
            optimisers={name: optimiser.init(split(variables[name])[0]) for name in variables},
            profiles=profiles,
            snapshots=snapshots,
            filled=jnp.int32(0),
            buffer=fifo.empty(config.memory, (height, width), config.profile),
            best_profiles=profiles,
            step=jnp.int32(0),
        )
        return NBSState(best, training)

    def step(key: Key, state: NBSState, batch: Batch) -> tuple[NBSState, NBSInfo]:
        (best, before), (images, _, masks) = state, batch
        if masks is None:
            raise ValueError("masks is None; give those of the first images, as `train_nbs` does")
        chex.assert_rank([images, masks], [4, 3])
        chex.assert_shape(before.profiles, (*images.shape[:3], config.profile))
        chex.assert_shape(masks, (None, *images.shape[1:3]))
        labelled = masks.shape[0]
        keys = dict(zip(("scene", "episode", "push", "draw", "renew"), jax.random.split(key, 5)))
        alpha = losses.anomalous_ratio(masks)
        optimisers = dict(before.optimisers)

        # 1, 2. Patches, of images changed at random.
        seen = updates.make_seen(config, keys["scene"], images, before.profiles[..., -1], masks)
        episodes, drawn = updates.sample(config, keys["episode"], before.strategy, before.sampler, seen)
        patches = env.patches(seen.images, drawn.images, drawn.corners, size)
        patch_masks = env.patches(seen.masks, drawn.images, drawn.corners, size)

        # 3. The autoencoder learns from them.
        autoencoder, optimisers["autoencoder"], errors = updates.train_autoencoder(
            config, optimiser, before.autoencoder, optimisers["autoencoder"], patches
        )

        # 4. Every pixel of every image has one more loss.
        maps = loss_maps(config, autoencoder, images)
        profiles = append(before.profiles, maps)
        snapshots = jax.tree.map(lambda old, new: jnp.concatenate([old[1:], new[None]]), before.snapshots, autoencoder)
        filled = before.filled + 1
        full = filled >= config.profile

        # 5, 6. The predictor learns from profiles of labelled images.
        buffer = updates.push(config, keys["push"], before.buffer, profiles[:labelled], masks, full)

        def learn(known: updates.Predictor) -> tuple[updates.Predictor, Array]:
            return updates.train_predictor(config, optimiser, keys["draw"], known, buffer, alpha)

        (predictor, optimisers["predictor"]), prediction = lax.cond(
            full,
            learn,
            lambda known: (known, jnp.float32(jnp.nan)),
            (before.predictor, optimisers["predictor"]),
        )
        judged = prediction
        if config.judge == "current" or config.best_by == "labelled":
            logits = predict_images(config, predictor, profiles[:labelled])
            judged = jnp.where(full, losses.weighted_cross_entropy(logits, masks, alpha), jnp.nan)
        if config.judge == "current":
            prediction = judged

        # 7. The sampler learns from both episodes.
        number = before.step + 1
        beta = losses.clone_weight(number, config.clone_steps)
        clone = losses.clone_reward(env.patches(seen.masks, episodes[0].images, episodes[0].corners, size))
        cover = losses.cover_reward(episodes[0].news)
        returns = (
            losses.discounted_returns(clone + cover, config.discount),
            losses.terminal_returns(-prediction, config.episode, config.discount),
        )
        acts = before.strategy == STRATEGIES.index("learned")

        def improve(own: tuple[Params, optax.OptState]) -> tuple[Params, optax.OptState]:
            gradients = jax.grad(updates.policy_loss, 1)(config, own[0], episodes, returns, beta)
            return updates.updated(optimiser, gradients, own[1], own[0])

        sampler, optimisers["sampler"] = lax.cond(
            acts & full & (filled % config.period > config.skip),
            improve,
            lambda own: own,
            (before.sampler, optimisers["sampler"]),
        )

        # 8. The best so far.
        improved = full & (judged < best.loss)
        now = Best(judged, number, before.sampler, predictor, snapshots)
        best, best_profiles = jax.tree.map(
            lambda new, old: jnp.where(improved, new, old), (now, profiles), (best, before.best_profiles)
        )

        # 9. A new autoencoder.
        ends = filled >= config.period
        autoencoder, optimisers["autoencoder"] = lax.cond(
            ends,
            lambda own: updates.fresh(optimiser, init_autoencoder(keys["renew"], images.shape[-1])),
            lambda own: own,
            (autoencoder, optimisers["autoencoder"]),
        )
        on_labelled = drawn.images < labelled
        anomalous = (patch_masks > 0) & on_labelled[:, None, None]
        of_policy = {
            "clone": clone.mean(),
            "cover": cover.mean(),
            "entropy": sampling.policy(networks.sampler, before.sampler, episodes[1].observations).entropy().mean(),
            "jumps": jnp.mean(episodes[1].actions == env.CHANGE_IMAGE),
        }
        info = NBSInfo(
            reconstruction=errors.mean(),
            prediction=prediction,
            clone_weight=beta,
            **{name: jnp.where(acts, value, jnp.nan) for name, value in of_policy.items()},
            anomalous_patches=jnp.sum(jnp.any(anomalous, (1, 2))) / jnp.sum(on_labelled),
            anomalous_pixels=jnp.sum(anomalous) / (jnp.sum(on_labelled) * size**2),
            normal_loss=jnp.sum(maps[:labelled] * (masks == 0)) / jnp.sum(masks == 0),
            anomalous_loss=jnp.sum(maps[:labelled] * (masks > 0)) / jnp.sum(masks > 0),
            improved=improved.astype(jnp.float32),
        )
        after = Training(
            strategy=before.strategy,
            sampler=sampler,
            autoencoder=autoencoder,
            predictor=predictor,
            optimisers=optimisers,
            profiles=jnp.where(ends, 0.0, profiles),
            snapshots=snapshots,
            filled=jnp.where(ends, 0, filled),
            buffer=buffer,
            best_profiles=best_profiles,
            step=number,
        )
        return NBSState(best, after), info

    def score_map(state: NBSState, images: Array) -> Array:
        chex.assert_rank(images, 4)
        config.check_images(images.shape[1:])
        return predict_images(config, state.best.predictor, loss_profiles(config, state.best.snapshots, images))

    def score(state: NBSState, images: Array) -> Array:
        return jnp.max(score_map(state, images), (1, 2))

    return Detector(init, step, lambda state, images: state, score, score_map, transient=("opt_state",))


def known_logits(config: NBSConfig, state: NBSState) -> Array:
    """Logits [N, H, W] of the images of the training itself, from the profiles kept with the best step."""
    return predict_images(config, state.best.predictor, state.opt_state.best_profiles)


def without_images(config: NBSConfig, state: NBSState) -> NBSState:
    """The state as `saving.save` takes it: what it knows of the images of its training is gone, shapes are left."""
    one = jax.ShapeDtypeStruct((1, *state.opt_state.profiles.shape[1:3], _channels(state)), jnp.float32)
    return state._replace(opt_state=jax.eval_shape(nbs(config).init, jax.random.key(0), one).opt_state)


def _channels(state: NBSState) -> int:
    """Of the images, as the sampler's first convolution has them beside losses and visits."""
    return state.best.sampler["params"]["conv1"]["kernel"].shape[2] - 2


def segment(config: NBSConfig, logits: Array, images: Array) -> Array:
    """Probabilities [N, H, W] after the CRF, from logits and images [N, H, W, C]; above 1/2 is the mask."""
    return refine(jax.nn.sigmoid(logits), images, config.crf)
