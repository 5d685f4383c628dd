"""The training iteration of AGAD (Algorithm 1)."""

import dataclasses
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxad.methods.agad import losses
from jaxad.methods.agad.config import AGADConfig
from jaxad.methods.agad.inference import AGADState, make_inference
from jaxad.methods.agad.losses import Terms
from jaxad.methods.agad.networks import (
    Networks,
    Statistics,
    Variables,
    averaged,
    init_discriminator,
    init_generator,
    make_networks,
    part,
    reconstruct,
    run,
    second_pass,
)
from jaxad.methods.registry import detector
from jaxad.nn.network import STATISTICS
from jaxad.types import Array, Batch, Detector, Key, Params


class AGADInfo(NamedTuple):
    """One training step: scalars, distances of images in [-1, 1], 0 where nothing is measured."""

    generator_loss: Array  # Eq. 11
    discriminator_loss: Array
    adversarial: Array  # of the normal images, unweighted, as are the next three: Eq. 5
    contextual: Array  # |x - x^|, Eq. 6
    pseudo: Array  # |x^ - G(x^)|, minus Eq. 8; 0 without the second pass
    latent: Array  # Eq. 7
    anomalous_contextual: Array  # |x - x^| of the labelled anomalies
    anomaly_loss: Array  # Eq. 10
    reset: Array  # 1 where the discriminator started anew


class _Scene(NamedTuple):
    """What an iteration is about."""

    images: Array  # [B, H, W, C] in [-1, 1]
    inputs: Array  # the same with noise, if any
    normal: Array  # [B], 1 for normal images
    anomalous: Array  # [B], 1 for labelled anomalies that count
    frozen: Array | None  # [B] booleans, the images that running statistics normalise


class _Made(NamedTuple):
    """What the generator makes of it."""

    rebuilt: Array  # [B, H, W, C]
    again: Array | None  # [B, H, W, C], None without the second pass
    codes: Array | None  # [B, d], None without the second encoder
    recoded: Array | None


class _Outputs(NamedTuple):
    """What the discriminator gives for images and their reconstructions, one after another in [2, B]."""

    logits: Array  # [2, B]
    latent: Array  # [2, B, d]
    features: Array | None  # [2, B, h, w, F], None unless they are matched


SMALL = AGADConfig(generator="naive", width=0.5, latent_dim=16, learning_rate=1e-2)
TINY = {"naive": SMALL, "auxiliary": dataclasses.replace(SMALL, auxiliary_norm=True)}


@detector(
    "agad",
    "Adversarial generative anomaly detection (Shi & Zhang, 2023).",
    config=AGADConfig,
    tiny=TINY,
)
def agad(config: AGADConfig | None = None, **fields: Any) -> Detector:
    """The detector of a config, of its fields (`agad(width=0.25)`), or of a config with changed fields.

    Its forerunners are `agad(LINEAGE["ganomaly"])` and `agad(LINEAGE["skip_ganomaly"])`, also detectors of their own.
    Images have any channels; see `nn.unet` and `methods.agad.dcgan` for their sizes. `step` uses labels where the
    batch has them: images labelled anomalous (1) are learnt to fail on; without labels all are normal. `calibrate`
    changes nothing.
    """
    config = dataclasses.replace(config or AGADConfig(), **fields)
    config.check()
    optimiser = optax.adam(_rate(config), b1=config.b1, b2=0.999)
    networks, view = make_networks(config), make_inference(config)

    def init(key: Key, images: Array) -> AGADState:
        chex.assert_rank(images, 4)
        generator_key, discriminator_key = jax.random.split(key)
        generator = init_generator(config, networks, generator_key, images.shape[1:])
        discriminator = init_discriminator(networks, discriminator_key, images.shape[1:])
        opt_state = {
            "generator": optimiser.init(generator["params"]),
            "discriminator": optimiser.init(discriminator["params"]),
        }
        return AGADState(generator, discriminator, opt_state, jnp.int32(0))

    def step(key: Key, state: AGADState, batch: Batch) -> tuple[AGADState, AGADInfo]:
        noise, reset = jax.random.split(key)
        scene = _prepared(config, noise, batch)
        # Both networks run forward once; each goes backward for itself, as lines 3 and 4 of Algorithm 1 have it.
        made, to_generator, seen_by_generator = jax.vjp(
            lambda params: _make(config, networks, {**state.generator, "params": params}, scene),
            state.generator["params"],
            has_aux=True,
        )
        outputs, to_discriminator, seen_by_discriminator = jax.vjp(
            lambda params, rebuilt: _discriminate(
                config, networks, {**state.discriminator, "params": params}, scene, rebuilt
            ),
            state.discriminator["params"],
            made.rebuilt,
            has_aux=True,
        )
        loss, (from_made, from_outputs), info = _generator_loss(config, made, outputs, scene)
        through_discriminator = to_discriminator(from_outputs)[1]
        (gradients,) = to_generator(from_made._replace(rebuilt=from_made.rebuilt + through_discriminator))
        generator, generator_opt = _updated(
            optimiser, gradients, state.opt_state["generator"], state.generator["params"]
        )

        discriminator_loss, from_outputs = jax.value_and_grad(_discriminator_loss, 1)(config, outputs, scene)
        gradients = to_discriminator(from_outputs)[0]
        discriminator, discriminator_opt = _updated(
            optimiser, gradients, state.opt_state["discriminator"], state.discriminator["params"]
        )
        anew = discriminator_loss < config.reset_below
        # Under vmap a branch's operands pass a `select`, which counts as a use of a key: its bits go in instead.
        bits, kind = jax.random.key_data(reset), jax.random.key_impl(reset)

        def start_anew() -> tuple[Params, optax.OptState]:
            key = jax.random.wrap_key_data(bits, impl=kind)
            fresh = init_discriminator(networks, key, batch.images.shape[1:])["params"]
            return fresh, optimiser.init(fresh)

        if config.reset_below:
            discriminator, discriminator_opt = lax.cond(anew, start_anew, lambda: (discriminator, discriminator_opt))
        statistics = state.discriminator[STATISTICS]
        for seen in seen_by_discriminator:  # images and reconstructions, in training as in a latent score
            statistics = averaged(statistics, seen)
        state = AGADState(
            generator={
                "params": generator,
                STATISTICS: _remembered(config, state.generator[STATISTICS], seen_by_generator),
            },
            discriminator={"params": discriminator, STATISTICS: statistics},
            opt_state={"generator": generator_opt, "discriminator": discriminator_opt},
            step=state.step + 1,
        )
        return state, info._replace(
            generator_loss=loss, discriminator_loss=discriminator_loss, reset=anew.astype(jnp.float32)
        )

    def calibrate(state: AGADState, images: Array) -> AGADState:
        chex.assert_rank(images, 4)
        return state

    score_map = None if config.score == "latent" else view.score_map
    return Detector(init, step, calibrate, view.score, score_map, transient=("opt_state",))


def _rate(config: AGADConfig) -> float | optax.Schedule:
    """The learning rate, which may fall."""
    if config.decay_after is None:
        return config.learning_rate
    return lambda step: config.learning_rate * config.decay_after / jnp.maximum(step, config.decay_after)


def _prepared(config: AGADConfig, key: Key, batch: Batch) -> _Scene:
    """The batch as the networks see it; ValueError where its labels are missed."""
    chex.assert_rank(batch.images, 4)
    images = 2 * batch.images - 1
    if batch.labels is None:
        if config.frozen_norm:
            raise ValueError("frozen_norm is for labelled anomalies, and there are no labels: give them, or leave it")
        anomalous = jnp.zeros(images.shape[0])
    else:
        chex.assert_shape(batch.labels, images.shape[:1])
        anomalous = (batch.labels > 0).astype(jnp.float32)
    inputs = images
    if config.noise:
        inputs = images + config.noise * jax.random.normal(key, images.shape)
    counted = anomalous if config.anomalies == "fail" else jnp.zeros_like(anomalous)
    return _Scene(images, inputs, 1 - anomalous, counted, anomalous > 0 if config.frozen_norm else None)


def _make(config: AGADConfig, networks: Networks, generator: Variables, scene: _Scene) -> tuple[_Made, Statistics]:
    """Everything that depends on the generator's weights, and the statistics of the batch for each pass."""
    options = {"train": True, "frozen": scene.frozen}
    first, met = reconstruct(networks.net, part(generator, "net"), scene.inputs, **options)
    seen, again, codes, recoded = {"net": met}, None, None, None
    if config.pseudo_weight:
        # Gradients also reach the weights through x^, as nothing in the paper says otherwise.
        second, seen["auxiliary"] = reconstruct(networks.net, second_pass(config, generator), first.images, **options)
        again = second.images
    if config.second_encoder:
        (recoded, _), seen["encoder"] = run(networks.encoder, part(generator, "encoder"), first.images, **options)
        codes = first.codes
    return _Made(first.images, again, codes, recoded), seen


def _discriminate(
    config: AGADConfig, networks: Networks, discriminator: Variables, scene: _Scene, rebuilt: Array
) -> tuple[_Outputs, tuple[Statistics, Statistics]]:
    """Everything that depends on the discriminator's weights, and the statistics of the batch for each pass."""
    (real, seen_real), (fake, seen_fake) = (
        run(networks.discriminator, discriminator, images, train=True, frozen=scene.frozen)
        for images in (scene.images, rebuilt)
    )
    features = jnp.stack([real.features, fake.features]) if config.feature_matching else None
    outputs = _Outputs(jnp.stack([real.logits, fake.logits]), jnp.stack([real.latent, fake.latent]), features)
    return outputs, (seen_real, seen_fake)


def _latent(config: AGADConfig, made: _Made, outputs: _Outputs) -> Array:
    """Distances of latent vectors [B] (Eq. 7)."""
    pair = (made.codes, made.recoded) if config.second_encoder else outputs.latent
    return losses.squared_error(*pair)


def _generator_loss(
    config: AGADConfig, made: _Made, outputs: _Outputs, scene: _Scene
) -> tuple[Array, tuple[_Made, _Outputs], AGADInfo]:
    """What the generator minimises (Eq. 11), its gradients, and what there is to tell."""

    def loss(made: _Made, outputs: _Outputs) -> tuple[Array, AGADInfo]:
        contextual = losses.absolute_error(scene.images, made.rebuilt)
        pseudo = jnp.zeros_like(contextual)
        if made.again is not None:
            pseudo = losses.absolute_error(made.rebuilt, made.again)
        latent = _latent(config, made, outputs)

        def of_class(members: Array, target: int) -> Terms:
            if config.feature_matching:
                adversarial = losses.squared_error(*outputs.features)
            else:
                adversarial = losses.cross_entropy(outputs.logits[1], target)
            return Terms(*(losses.class_mean(v, members) for v in (adversarial, contextual, pseudo, latent)))

        normal, anomalous = of_class(scene.normal, 1), of_class(scene.anomalous, config.anomaly_target)
        on_anomalies = losses.present(scene.anomalous) * losses.anomaly_loss(
            anomalous, config.weights, contextual=config.contextual_reciprocal, epsilon=config.epsilon
        )
        total = losses.normality_loss(normal, config.weights) + on_anomalies
        zero = jnp.float32(0)
        return total, AGADInfo(zero, zero, *normal, anomalous.contextual, on_anomalies, zero)

    (total, info), gradients = jax.value_and_grad(loss, (0, 1), has_aux=True)(made, outputs)
    return total, gradients, info


def _discriminator_loss(config: AGADConfig, outputs: _Outputs, scene: _Scene) -> Array:
    """What the discriminator minimises."""
    total = losses.discriminator_loss(*outputs.logits, scene.normal, scene.anomalous)
    if config.latent_in_discriminator:
        latent = losses.squared_error(*outputs.latent)
        total += config.latent_weight * losses.class_mean(latent, scene.normal)
    return config.discriminator_weight * total


def _remembered(config: AGADConfig, running: Statistics, seen: Statistics) -> Statistics:
    """The running averages of the generator's parts after a step."""
    after = {name: averaged(statistics, seen[name]) for name, statistics in running.items()}
    if config.running_from == "both" and config.pseudo_weight and not config.auxiliary_norm:
        after["net"] = averaged(after["net"], seen["auxiliary"])
    return after


def _updated(
    optimiser: optax.GradientTransformation, gradients: Params, state: optax.OptState, params: Params
) -> tuple[Params, optax.OptState]:
    updates, state = optimiser.update(gradients, state, params)
    return optax.apply_updates(params, updates), state
