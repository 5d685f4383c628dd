"""The training iteration of AMA (Eqs. 1 to 4) and its anomaly score (Eq. 6)."""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxad.data.batches import map_batches
from jaxad.methods.ama import latents, losses
from jaxad.methods.ama.config import AMAConfig
from jaxad.methods.ama.inference import AMAState, a_score, effective, frozen, make_inference, networks_of, pair
from jaxad.methods.ama.networks import Networks, make_networks
from jaxad.methods.registry import detector
from jaxad.nn import spectral_norm as spectral
from jaxad.types import Array, Batch, Detector, Key, Params

CALIBRATION_BATCH = 64
MAD_TO_SD = 1.4826  # a Gaussian's standard deviation in median absolute deviations
DROPS = (0.3, 0.6, 0.9)  # of the steps, where the learning rate falls to a tenth


class AMAInfo(NamedTuple):
    """One training step: scalars, those of the critic from its last update."""

    wasserstein: Array  # estimate of Eq. 1 over normal images and, weighted, negatives
    interpolation_gap: Array  # second term of Eq. 3; 0 without interpolation
    penalty: Array  # (slope - 1)^2
    critic_loss: Array
    generator_loss: Array  # with the latent term
    code_norm: Array  # mean |E(x)|
    code_norm_sd: Array
    error: Array  # mean |x - x^| per pixel and channel, of images in [0, 1]


class _Negatives(NamedTuple):
    """Which images of a batch are negatives, labelled or synthetic."""

    negative: Array  # [B], 1 for negatives
    synthetic: Array  # [B] bool
    made: Array | None  # [B, H, W, C] in [-1, 1], images in the places of synthetic ones; None where there never are


class _Scene(NamedTuple):
    """What an iteration is about."""

    images: Array  # [B, H, W, C] in [-1, 1]
    weights: Array  # [B], see `losses.image_weights`
    normal: Array  # [B], 1 for normal images
    simplex: latents.Simplex
    negatives: _Negatives


class _Made(NamedTuple):
    """What encoder and generator make of it."""

    codes: Array  # [B, d]
    rebuilt: Array  # [B, H, W, C], what the images are paired with
    mixed: Array | None  # [B, H, W, C], None without interpolation


# By R: the logarithm of its density squares rounding, and has tests of its own.
TINY = AMAConfig(width=0.1, latent_dim=8, steps=30, learning_rate=3e-3, negatives="none", critic_steps=2, score="r")


@detector(
    "ama",
    "Adversarial mirrored autoencoder (Somepalli et al., UAI 2021).",
    config=AMAConfig,
    tiny=TINY,
)
def ama(config: AMAConfig | None = None, **fields: Any) -> Detector:
    """The detector of a config, of its fields (`ama(width=0.25)`), or of a config with changed fields.

    Images are square with 8, 16, 32 ... pixels a side, any channels. `step` uses labels where the batch has them:
    images labelled anomalous are negatives, and no interpolation has one as parent (section 3.3, "Semi-Supervised");
    such a batch gets no synthetic ones. These take the last places of a batch, whose order should be random.
    `calibrate` fits location and scale of R (Eq. 6) to images [n, H, W, C], those of training in the paper.
    """
    config = dataclasses.replace(config or AMAConfig(), **fields)
    config.check()
    optimisers = {
        "encoder": _adam(config, config.scheduled, b1=0.5),
        "generator": _adam(config, config.scheduled, b1=0.0),
        "critic": _adam(config, config.scheduled * config.critic_steps, b1=0.0),
    }
    view = make_inference(config)

    def init(key: Key, images: Array) -> AMAState:
        chex.assert_rank(images, 4)
        shape = images.shape[1:]
        keys = dict(zip(("encoder", "generator", "critic", "vectors"), jax.random.split(key, 4)))
        networks = make_networks(shape, config.latent_dim, config.width, config.compute)
        codes, pairs = jnp.zeros((1, config.latent_dim)), pair(config, images[:1], images[:1])
        variables = {
            name: getattr(networks, name).init(keys[name], inputs)
            for name, inputs in (("encoder", images[:1]), ("generator", codes), ("critic", pairs))
        }
        params = {name: variables[name]["params"] for name in variables}
        state = AMAState(
            **params,
            statistics={name: variables[name]["batch_stats"] for name in ("encoder", "generator")},
            vectors=spectral.init_vectors(keys["vectors"], params["critic"]) if config.spectral_norm else (),
            opt_state={name: optimisers[name].init(params[name]) for name in params},
            step=jnp.int32(0),
            **dict.fromkeys(("r_mean", "r_median"), jnp.float32(0)),
            **dict.fromkeys(("r_sd", "r_spread"), jnp.float32(1)),
        )
        return calibrate(state, images)

    def step(key: Key, state: AMAState, batch: Batch) -> tuple[AMAState, AMAInfo]:
        chex.assert_rank(batch.images, 4)
        negatives, simplex, penalty = jax.random.split(key, 3)
        images = 2 * batch.images - 1
        drawn = _negatives(config, negatives, state, images, batch.labels)
        if drawn.made is not None and config.negative_pair == "itself":
            images = jnp.where(drawn.synthetic[:, None, None, None], drawn.made, images)
        scene = _Scene(
            images=images,
            weights=losses.image_weights(drawn.negative, config.negative_weight),
            normal=1 - drawn.negative,
            simplex=latents.draw_simplex(simplex, images.shape[0], config.parents),
            negatives=drawn,
        )
        # Encoder and generator run forward once, and backward after the critic has learnt from what they made.
        networks = networks_of(config, state)
        trained = {name: getattr(state, name) for name in ("encoder", "generator")}
        make = functools.partial(_make, config, networks, state.statistics, scene)
        made, backward, statistics = jax.vjp(make, trained, has_aux=True)

        def improve_critic(carry: tuple[Any, ...], update: Array) -> tuple[tuple[Any, ...], tuple[Array, ...]]:
            critic, vectors, opt_state = carry
            vectors = spectral.power_iteration(critic, vectors) if config.spectral_norm else vectors
            key = jax.random.fold_in(penalty, update)
            loss = functools.partial(_critic_loss, config, networks)
            gradients, terms = jax.grad(loss, has_aux=True)(critic, vectors, key, scene, made)
            critic, opt_state = _updated(optimisers["critic"], gradients, opt_state, critic)
            return (critic, vectors, opt_state), terms

        carry = (state.critic, state.vectors, state.opt_state["critic"])
        (critic, vectors, critic_opt), terms = lax.scan(improve_critic, carry, jnp.arange(config.critic_steps))

        used = effective(config, critic, vectors)
        value, to_made = jax.value_and_grad(_generator_loss, 4)(config, networks, used, scene, made)
        (gradients,) = backward(to_made)
        moved = {
            name: _updated(optimisers[name], gradients[name], state.opt_state[name], trained[name]) for name in trained
        }
        state = state._replace(
            critic=critic,
            statistics=statistics,
            vectors=vectors,
            opt_state={"critic": critic_opt} | {name: opt_state for name, (_, opt_state) in moved.items()},
            step=state.step + 1,
            **{name: params for name, (params, _) in moved.items()},
        )
        norms, error = jnp.linalg.norm(made.codes, axis=1), jnp.mean(jnp.abs(images - made.rebuilt)) / 2
        return state, AMAInfo(*(term[-1] for term in terms), value, norms.mean(), norms.std(), error)

    def calibrate(state: AMAState, images: Array) -> AMAState:
        chex.assert_rank(images, 4)
        r = map_batches(lambda batch: view.r_score(state, batch), images, CALIBRATION_BATCH)
        mean, median = jnp.mean(r), jnp.median(r)
        # Where all R are equal, rounding decides; then a deviation counts relative to R itself.
        sd, spread = (
            jnp.maximum(scale, 1e-6 * jnp.abs(mean) + 1e-12)
            for scale in (jnp.std(r), MAD_TO_SD * jnp.median(jnp.abs(r - median)))
        )
        return state._replace(r_mean=mean, r_sd=sd, r_median=median, r_spread=spread)

    def score(state: AMAState, images: Array) -> Array:
        chex.assert_rank(images, 4)
        if config.score == "l1":
            return jnp.mean(view.error_map(state, images), (1, 2))
        r = view.r_score(state, images)
        return r if config.score == "r" else a_score(config, state, r)

    score_map = view.error_map if config.score == "l1" else None
    return Detector(init, step, calibrate, score, score_map, transient=("opt_state",))


def draw_negatives(config: AMAConfig, key: Key, codes: Array, count: int) -> Array:
    """Codes [count, d] of synthetic negatives, given codes [B, d] of a batch with B >= count."""
    norms = jnp.linalg.norm(codes, axis=1)
    if config.negatives == "shell":
        radius = math.sqrt(config.latent_dim) if config.radius == "sqrt_d" else jnp.median(norms)
        return latents.atypical(
            key,
            count,
            config.latent_dim,
            direction=config.direction,
            delta=config.delta,
            radius=radius,
            draw=config.draw,
        )
    if config.negatives == "scaled":
        return latents.scaled_codes(key, codes[:count], direction=config.direction)
    return latents.cube(key, count, codes)


def _make(
    config: AMAConfig, networks: Networks, statistics: dict[str, Params], scene: _Scene, params: dict[str, Params]
) -> tuple[_Made, dict[str, Params]]:
    """Codes, reconstructions and interpolations, and running averages after the batch's reconstructions."""
    variables = {name: {"params": params[name], "batch_stats": statistics[name]} for name in params}
    codes, encoder = networks.encoder.apply(variables["encoder"], scene.images, train=True)
    rebuilt, generator = networks.generator.apply(variables["generator"], codes, train=True)
    mixed = None
    if config.interpolation:
        # Its statistics are not remembered: running averages are those of reconstructions alone.
        mixed, _ = networks.generator.apply(variables["generator"], latents.mix_codes(codes, scene.simplex), train=True)
    remembered = {"encoder": encoder["batch_stats"], "generator": generator["batch_stats"]}
    beside = rebuilt
    if scene.negatives.made is not None and config.negative_pair == "normal":
        beside = jnp.where(scene.negatives.synthetic[:, None, None, None], scene.negatives.made, beside)
    return _Made(codes, beside, mixed), lax.stop_gradient(remembered)


def _distances(
    config: AMAConfig, networks: Networks, critic: Params, scene: _Scene, made: _Made, *, real: bool
) -> tuple[Array, Array]:
    """The first two terms of Eq. 3 over all weights, as the critic sees them; D(x, x) counts as 0 unless `real`."""
    images = scene.images
    pairs = [pair(config, images, images)] if real else []
    pairs.append(pair(config, images, made.rebuilt))
    # The critic without a mirror does not see the first image, so all parents of an interpolation are one to it.
    parents = scene.simplex.parents[:, : config.parents if config.mirrored else 1]
    if made.mixed is not None:
        pairs += [pair(config, images[parent], made.mixed) for parent in parents.T]
    values = networks.critic.apply({"params": critic}, jnp.concatenate(pairs)).values.reshape(len(pairs), -1)
    same = values[0] if real else jnp.zeros_like(values[0])
    other, *interpolated = values[1:] if real else values
    distance = losses.wasserstein(same, other, scene.weights)
    if made.mixed is None:
        return distance, jnp.zeros_like(distance)
    normal = jnp.prod(scene.normal[scene.simplex.parents], 1)
    return distance, losses.interpolation_gap(same[parents], jnp.stack(interpolated, 1), normal)


def _critic_loss(
    config: AMAConfig,
    networks: Networks,
    critic: Params,
    vectors: tuple[Array, ...],
    key: Key,
    scene: _Scene,
    made: _Made,
) -> tuple[Array, tuple[Array, ...]]:
    """What an update of the critic minimises, and the first four fields of `AMAInfo`."""
    critic = effective(config, critic, vectors)
    distance, gap = _distances(config, networks, critic, scene, made, real=True)
    share = jax.random.uniform(key, scene.images.shape[:1])
    halfway = pair(config, scene.images, losses.between(scene.images, made.rebuilt, share))

    def values(pairs: Array) -> Array:
        return networks.critic.apply({"params": critic}, pairs).values

    penalty = losses.gradient_penalty(values, halfway, config.penalty_norm)
    weights = {"interpolation": config.interpolation, "penalty_weight": config.penalty}
    total = losses.critic_loss(distance, gap, penalty, **weights)
    return total, (distance, gap, penalty, total)


def _generator_loss(config: AMAConfig, networks: Networks, critic: Params, scene: _Scene, made: _Made) -> Array:
    """What an update of encoder and generator minimises."""
    distance, gap = _distances(config, networks, critic, scene, made, real=False)
    norm = losses.code_norm(made.codes, scene.normal)
    return losses.generator_loss(distance, gap, norm, interpolation=config.interpolation, latent=config.latent_weight)


def _negatives(config: AMAConfig, key: Key, state: AMAState, images: Array, labels: Array | None) -> _Negatives:
    """Labelled negatives of images [B, H, W, C] in [-1, 1], and without any, once it is time, synthetic ones."""
    size = images.shape[0]
    labelled = jnp.zeros(size) if labels is None else labels.astype(jnp.float32)
    count = config.negatives_of(size)
    if count == 0:
        return _Negatives(labelled, jnp.zeros(size, bool), None)
    networks = networks_of(config, state)
    codes = networks.encoder.apply(frozen(state, "encoder"), images)
    drawn = draw_negatives(config, key, codes, count)
    made = networks.generator.apply(frozen(state, "generator"), drawn)
    due = (state.step >= config.first_negatives) & ~jnp.any(labelled > 0)
    synthetic = (jnp.arange(size) >= size - count) & due
    return _Negatives(jnp.where(synthetic, 1.0, labelled), synthetic, jnp.concatenate([images[: size - count], made]))


def learning_rate(config: AMAConfig, updates: int) -> optax.Schedule:
    """Divided by 10 after each of 30, 60 and 90 % of the updates of a network (the paper's epochs of 100)."""
    drops = {boundary: 0.1 for boundary in {round(share * updates) for share in DROPS} if boundary > 0}
    return optax.piecewise_constant_schedule(config.learning_rate, drops)


def _adam(config: AMAConfig, updates: int, b1: float) -> optax.GradientTransformation:
    return optax.adam(learning_rate(config, updates), b1=b1, b2=0.9)


def _updated(
    optimiser: optax.GradientTransformation, gradients: Params, state: optax.OptState, params: Params
) -> tuple[Params, optax.OptState]:
    updates, state = optimiser.update(gradients, state, params)
    return optax.apply_updates(params, updates), state
