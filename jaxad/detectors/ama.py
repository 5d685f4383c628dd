"""AMA, the adversarial mirrored autoencoder (Somepalli et al., UAI 2021).

A critic learns to tell (x, x) from (x, G(E(x))), an autoencoder to make the two alike, image by image. Interpolated
codes must look real, codes where no image should be must not. An image is anomalous if, to the critic, it differs from
its reconstruction unusually much or unusually little:

    R(x) = |f(x, x) - f(x, G(E(x)))|_1          f = features of the critic            (Eq. 5)
    A(x) = N(R(x); mean, sd of R on training images)                                  (Eq. 6)

The score is -log A(x): the same order, and no underflow. Steps and constants follow the paper, and the authors' code
where the paper is silent; `AMAConfig` says which. Departures: interpolated pairs use the paper's weights and pass
gradients to G and E (in the code they train D alone); running averages of batch normalisation are those of
reconstructions alone.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.scipy.stats import norm as gaussian

from jaxad import latents
from jaxad.batches import map_batches
from jaxad.losses import ama as losses
from jaxad.nets import sngan, spectral
from jaxad.nets.layers import Moments
from jaxad.types import Array, Batch, Detector, Key, Params

MOMENTUM = 0.1  # of a new batch in the running averages
CALIBRATION_BATCH = 64
DROPS = (0.3, 0.6, 0.9)  # of the steps, where the learning rate falls to a tenth


@dataclasses.dataclass(frozen=True, kw_only=True)
class AMAConfig:
    """What is trained, and how. Raises ValueError for values out of range."""

    steps: int = 1000
    """Training steps that the schedules are made for (the paper: 100 epochs)."""
    width: float = 1.0
    """Multiplier of all numbers of channels; 1 is the authors' size, for GPUs."""
    latent_dim: int = 128
    """Length d of a code."""
    mirrored: bool = True
    """The critic sees pairs (x, x^); without, images alone, as an ordinary Wasserstein GAN (Table 1)."""
    interpolation: float = 0.5
    """Weight l_inter of interpolated codes; 0 leaves them out (Table 1)."""
    parents: int = 3
    """Codes k that an interpolation mixes."""
    negatives: Literal["shell", "scaled", "cube", "none"] = "shell"
    """Synthetic negatives: atypical selection, scaled codes of the authors' code, Sipple's cube (Table 3), or none."""
    direction: Literal["inward", "outward"] = "outward"
    """On which side of the typical codes; the paper has inward for CIFAR-10, outward for SVHN and Fashion-MNIST."""
    delta: float = 0.5
    """Thickness of the shell as a share of its radius (not published)."""
    radius: Literal["sqrt_d", "median"] = "sqrt_d"
    """Where typical codes are: sqrt(d) as in the paper, or the median norm of the batch's codes."""
    negative_weight: float = 5.0
    """Weight l_neg of negatives, synthetic or labelled."""
    negative_share: float = 0.1
    """Share of a batch that synthetic negatives replace (authors' code)."""
    negative_start: float = 0.1
    """Share of the steps before the first synthetic negatives (the paper: 10 of 100 epochs)."""
    latent_weight: float = 1.0
    """Weight l_reg of the norm of normal codes."""
    penalty: float = 10.0
    """Weight of the gradient penalty (authors' code)."""
    penalty_norm: Literal["sample", "pixel"] = "sample"
    """Norm of a whole pair's gradient, or of each pixel's as in the authors' code."""
    spectral_norm: bool = True
    """Divide the critic's kernels by their spectral norm."""
    critic_steps: int = 5
    """Critic updates before each update of generator and encoder, on the same batch (authors' code)."""
    learning_rate: float = 3e-4
    """Of Adam, divided by 10 after 30, 60 and 90 % of the steps."""
    score: Literal["a", "r"] = "a"
    """-log A(x), or R(x) (Table 1)."""

    def __post_init__(self) -> None:
        choices = {
            "negatives": (*latents.NEGATIVES, "none"), "direction": latents.DIRECTIONS,
            "radius": ("sqrt_d", "median"), "penalty_norm": losses.NORMS, "score": ("a", "r"),
        }  # fmt: skip
        for name, options in choices.items():
            if getattr(self, name) not in options:
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(options)}")
        for name in ("steps", "latent_dim", "parents", "critic_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; the least is 1")
        for name in ("interpolation", "negative_weight", "latent_weight", "penalty"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number from 0 upwards")
        for name in ("width", "learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number above 0")
        for name in ("delta", "negative_share"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give a share between 0 and 1")
        if not 0 <= self.negative_start <= 1:
            raise ValueError(f"negative_start is {self.negative_start}; give a share of the steps from 0 to 1")


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


class AMAViews(NamedTuple):
    """What a trained state sees, for pictures and research: pure functions, statistics frozen, images in [0, 1]."""

    reconstruct: Callable[[AMAState, Array], Array]  # (state, [B, H, W, C]) -> the same
    encode: Callable[[AMAState, Array], Array]  # (state, [B, H, W, C]) -> codes [B, d]
    decode: Callable[[AMAState, Array], Array]  # (state, [B, d]) -> [B, H, W, C]
    r_score: Callable[[AMAState, Array], Array]  # (state, [B, H, W, C]) -> [B], Eq. 5


class _Trained(NamedTuple):
    """The parameters of the two networks that train together."""

    encoder: Params
    generator: Params


class _Keys(NamedTuple):
    """One for each purpose of a step."""

    negatives: Key
    simplex: Key
    penalty: Key


def ama(config: AMAConfig | None = None, **fields: Any) -> Detector:
    """The detector of a config, of its fields (`ama(width=0.25)`), or of a config with changed fields.

    Images are square with 8, 16, 32 ... pixels a side, any channels. `step` uses labels where the batch has them:
    images labelled anomalous are negatives, and no interpolation has one as parent (section 3.3, "Semi-Supervised").
    `calibrate` fits mean and standard deviation of R (Eq. 6) to images [n, H, W, C], those of training in the paper.
    """
    config = dataclasses.replace(config or AMAConfig(), **fields)
    optimisers = {
        "encoder": _adam(config, config.steps, b1=0.5),
        "generator": _adam(config, config.steps, b1=0.0),
        "critic": _adam(config, config.steps * config.critic_steps, b1=0.0),
    }
    view = views(config)

    def init(key: Key, images: Array) -> AMAState:
        chex.assert_rank(images, 4)
        shape = images.shape[1:]
        keys = dict(zip(("encoder", "generator", "critic", "vectors"), jax.random.split(key, 4)))
        pair_shape = (*shape[:2], shape[2] * (2 if config.mirrored else 1))
        params = {
            "encoder": sngan.init_encoder(keys["encoder"], shape, config.latent_dim, config.width),
            "generator": sngan.init_generator(keys["generator"], shape, config.latent_dim, config.width),
            "critic": sngan.init_critic(keys["critic"], pair_shape, config.width),
        }
        state = AMAState(
            **params,
            moments=_fresh_moments(_Trained(params["encoder"], params["generator"]), images),
            vectors=spectral.init_vectors(keys["vectors"], params["critic"]) if config.spectral_norm else (),
            opt_state={name: optimisers[name].init(params[name]) for name in params},
            step=jnp.int32(0),
            r_mean=jnp.float32(0),
            r_sd=jnp.float32(1),
        )
        return calibrate(state, images)

    def step(key: Key, state: AMAState, batch: Batch) -> tuple[AMAState, AMAInfo]:
        chex.assert_rank(batch.images, 4)
        keys = _Keys(*jax.random.split(key, 3))
        images, negative = _with_negatives(config, keys.negatives, state, batch)
        weights = losses.image_weights(negative, config.negative_weight)
        simplex = latents.draw_simplex(keys.simplex, images.shape[0], config.parents)
        normal = 1.0 - negative
        all_normal = jnp.prod(normal[simplex.parents], 1)

        # Encoder and generator run forward once, and backward after the critic has learnt from what they made.
        def autoencode(networks: _Trained) -> tuple[tuple[Array, ...], dict[str, tuple[Moments, ...]]]:
            codes = sngan.encode(networks.encoder, images)
            rebuilt = sngan.generate(networks.generator, codes.output)
            mixed = ()
            if config.interpolation:
                mixed = (sngan.generate(networks.generator, latents.mix_codes(codes.output, simplex)).output,)
            return (codes.output, rebuilt.output, *mixed), {"encoder": codes.moments, "generator": rebuilt.moments}

        networks = _Trained(state.encoder, state.generator)
        (codes, rebuilt, *mixed), backward, moments = jax.vjp(autoencode, networks, has_aux=True)
        # The critic without a mirror does not see the first image, so all parents of an interpolation are one to it.
        first = simplex.parents[:, : config.parents if config.mirrored else 1]

        def judged(critic: Params, rebuilt: Array, mixed: list[Array], *, real: bool) -> tuple[Array, Array, Array]:
            """D(x, x) [B] (zeros unless `real`), D(x, x^) [B] and D(x_j, x_inter) [B, k]."""
            pairs = [_pair(config, images, images)] if real else []
            pairs.append(_pair(config, images, rebuilt))
            for image in mixed:
                pairs += [_pair(config, images[parents], image) for parents in first.T]
            values = sngan.judge(critic, jnp.concatenate(pairs)).values.reshape(len(pairs), -1)
            same, (other, *interpolated) = (values[0], values[1:]) if real else (jnp.zeros_like(values[0]), values)
            return same, other, jnp.stack(interpolated, 1) if interpolated else jnp.zeros((len(other), 0))

        def gap(same: Array, interpolated: Array) -> Array:
            return losses.interpolation_gap(same[first], interpolated, all_normal) if mixed else jnp.float32(0)

        def improve_critic(carry: tuple[Any, ...], update: Array) -> tuple[tuple[Any, ...], tuple[Array, ...]]:
            critic, vectors, opt_state = carry
            vectors = spectral.power_iteration(critic, vectors) if config.spectral_norm else vectors
            share = jax.random.uniform(jax.random.fold_in(keys.penalty, update), images.shape[:1])
            halfway = _pair(config, images, losses.between(images, rebuilt, share))

            def loss(critic: Params) -> tuple[Array, tuple[Array, ...]]:
                critic = _effective(config, critic, vectors)
                same, other, interpolated = judged(critic, rebuilt, mixed, real=True)
                terms = (
                    losses.wasserstein(same, other, weights),
                    gap(same, interpolated),
                    losses.gradient_penalty(lambda p: sngan.judge(critic, p).values, halfway, config.penalty_norm),
                )
                total = losses.critic_loss(*terms, interpolation=config.interpolation, penalty_weight=config.penalty)
                return total, (*terms, total)

            gradients, terms = jax.grad(loss, has_aux=True)(critic)
            critic, opt_state = _updated(optimisers["critic"], gradients, opt_state, critic)
            return (critic, vectors, opt_state), terms

        carry = (state.critic, state.vectors, state.opt_state["critic"])
        (critic, vectors, critic_opt), terms = lax.scan(improve_critic, carry, jnp.arange(config.critic_steps))

        def generator_loss(codes: Array, rebuilt: Array, *mixed: Array) -> Array:
            effective = _effective(config, critic, vectors)
            same, other, interpolated = judged(effective, rebuilt, list(mixed), real=False)
            terms = (other, gap(same, interpolated), losses.code_norm(codes, normal), weights)
            return losses.generator_loss(*terms, interpolation=config.interpolation, latent=config.latent_weight)

        made = (codes, rebuilt, *mixed)
        generator_value, to_made = jax.value_and_grad(generator_loss, argnums=tuple(range(len(made))))(*made)
        (gradients,) = backward(to_made)
        encoder, encoder_opt = _updated(
            optimisers["encoder"], gradients.encoder, state.opt_state["encoder"], state.encoder
        )
        generator, generator_opt = _updated(
            optimisers["generator"], gradients.generator, state.opt_state["generator"], state.generator
        )
        norms = jnp.linalg.norm(codes, axis=1)
        last = (term[-1] for term in terms)
        info = AMAInfo(*last, generator_value, norms.mean(), norms.std(), jnp.mean(jnp.abs(images - rebuilt)) / 2)
        averages = jax.tree.map(lambda old, new: (1 - MOMENTUM) * old + MOMENTUM * new, state.moments, moments)
        opt_state = {"encoder": encoder_opt, "generator": generator_opt, "critic": critic_opt}
        return AMAState(
            encoder, generator, critic, averages, vectors, opt_state, state.step + 1, state.r_mean, state.r_sd
        ), info

    def calibrate(state: AMAState, images: Array) -> AMAState:
        chex.assert_rank(images, 4)
        r = map_batches(lambda batch: view.r_score(state, batch), images, CALIBRATION_BATCH)
        # Where all R are equal, rounding decides; then a deviation counts relative to R itself.
        sd = jnp.maximum(jnp.std(r), 1e-6 * jnp.abs(jnp.mean(r)) + 1e-12)
        return state._replace(r_mean=jnp.mean(r), r_sd=sd)

    def score(state: AMAState, images: Array) -> Array:
        chex.assert_rank(images, 4)
        r = view.r_score(state, images)
        return r if config.score == "r" else -gaussian.logpdf(r, state.r_mean, state.r_sd)

    return Detector(init, step, calibrate, score)


def views(config: AMAConfig) -> AMAViews:
    """What a state of the detector with this config sees."""

    def encode(state: AMAState, images: Array) -> Array:
        chex.assert_rank(images, 4)
        return sngan.encode(state.encoder, 2 * images - 1, state.moments["encoder"]).output

    def decode(state: AMAState, codes: Array) -> Array:
        chex.assert_rank(codes, 2)
        return (sngan.generate(state.generator, codes, state.moments["generator"]).output + 1) / 2

    def reconstruct(state: AMAState, images: Array) -> Array:
        return decode(state, encode(state, images))

    def r_score(state: AMAState, images: Array) -> Array:
        inputs, rebuilt = 2 * images - 1, 2 * reconstruct(state, images) - 1
        critic = _effective(config, state.critic, state.vectors)
        same = sngan.judge(critic, _pair(config, inputs, inputs)).features
        return jnp.sum(jnp.abs(same - sngan.judge(critic, _pair(config, inputs, rebuilt)).features), 1)

    return AMAViews(reconstruct, encode, decode, r_score)


def draw_negatives(config: AMAConfig, key: Key, codes: Array, count: int) -> Array:
    """Codes [count, d] of synthetic negatives, given codes [B, d] of a batch with B >= count."""
    norms = jnp.linalg.norm(codes, axis=1)
    if config.negatives == "shell":
        radius = math.sqrt(config.latent_dim) if config.radius == "sqrt_d" else jnp.median(norms)
        return latents.atypical(
            key, count, config.latent_dim, direction=config.direction, delta=config.delta, radius=radius
        )
    if config.negatives == "scaled":
        return latents.scaled_codes(key, codes[:count], direction=config.direction)
    return latents.cube(key, count, codes)


def _with_negatives(config: AMAConfig, key: Key, state: AMAState, batch: Batch) -> tuple[Array, Array]:
    """Images [B, H, W, C] in [-1, 1], the last ones replaced by negatives once it is time, and 1 for negatives [B]."""
    images, size = 2 * batch.images - 1, batch.images.shape[0]
    negative = jnp.zeros(size) if batch.labels is None else batch.labels.astype(jnp.float32)
    if config.negatives == "none":
        return images, negative
    count = math.floor(config.negative_share * size)
    if count == 0:
        least = math.ceil(1 / config.negative_share)
        raise ValueError(f"a batch of {size} images has no room for negatives; give {least}, or negatives='none'")
    codes = sngan.encode(state.encoder, images, state.moments["encoder"]).output
    drawn = draw_negatives(config, key, codes, count)
    made = sngan.generate(state.generator, drawn, state.moments["generator"]).output
    # The order of a batch is random, so the last images are random ones.
    now = (jnp.arange(size) >= size - count) & (state.step >= round(config.negative_start * config.steps))
    made = lax.stop_gradient(jnp.concatenate([images[: size - count], made]))
    return jnp.where(now[:, None, None, None], made, images), jnp.where(now, 1.0, negative)


def _pair(config: AMAConfig, first: Array, second: Array) -> Array:
    return losses.stack_pairs(first, second) if config.mirrored else second


def _effective(config: AMAConfig, critic: Params, vectors: tuple[Array, ...]) -> Params:
    return spectral.normalise_kernels(critic, vectors) if config.spectral_norm else critic


def _adam(config: AMAConfig, updates: int, b1: float) -> optax.GradientTransformation:
    drops = {boundary: 0.1 for boundary in {round(share * updates) for share in DROPS} if boundary > 0}
    return optax.adam(optax.piecewise_constant_schedule(config.learning_rate, drops), b1=b1, b2=0.9)


def _updated(
    optimiser: optax.GradientTransformation, gradients: Params, state: optax.OptState, params: Params
) -> tuple[Params, optax.OptState]:
    updates, state = optimiser.update(gradients, state, params)
    return optax.apply_updates(params, updates), state


def _fresh_moments(networks: _Trained, images: Array) -> dict[str, tuple[Moments, ...]]:
    """Mean 0 and variance 1 of every normalisation, as running averages start."""

    def met(networks: _Trained, images: Array) -> dict[str, tuple[Moments, ...]]:
        codes = sngan.encode(networks.encoder, images)
        return {"encoder": codes.moments, "generator": sngan.generate(networks.generator, codes.output).moments}

    shapes = jax.eval_shape(met, networks, images)
    return {
        name: tuple(Moments(jnp.zeros(m.mean.shape), jnp.ones(m.variance.shape)) for m in moments)
        for name, moments in shapes.items()
    }
