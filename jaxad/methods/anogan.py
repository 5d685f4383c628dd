"""AnoGAN (Schlegl et al., IPMI 2017): how well a generator of normal images can imitate an image.

    A(x) = (1 - l) R(x) + l D(x),    R(x) = |x - G(z)|_1,    D(x) = |f(x) - f(G(z))|_1          (Eqs. 3 to 5)

z is found for every image by gradient descent on A itself, from the same start; f are the features of the
discriminator. G and D are a DCGAN with the original loss. Distances are means instead of sums, so that l weighs the
same for all sizes of images.

Departures: pooling and repeating pixels instead of strides, no batch normalisation in D; fewer steps of descent by
default (the paper: 500).

Use it as the baseline from which later generative detectors depart. Every image is scored by a descent of its own,
which takes time.
"""

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxad.methods.registry import detector
from jaxad.nn import convnet
from jaxad.nn.network import make_network
from jaxad.nn.normalization import recalibrated
from jaxad.types import Array, Batch, Detector, Key, Network, Params

CALIBRATION_DRAWS, CALIBRATION_BATCH = 256, 64  # images that batch normalisation of G is calibrated on
BETA = 0.5  # first decay rate of Adam (DCGAN)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnoGANConfig:
    """What is trained, and how it scores."""

    paper: ClassVar[tuple[str, ...]] = ("search_steps=500",)
    laptop: ClassVar[tuple[str, ...]] = ("widths=[16,32]",)

    latent_dim: int = 64
    """Length of z."""
    widths: tuple[int, ...] = (32, 64)
    """Channels of the discriminator's convolutions, each followed by pooling; the generator mirrors them."""
    steps: int = 1000
    """Training steps: each improves D once, then G once."""
    learning_rate: float = 2e-4
    """Learning rate of Adam, for G and D (DCGAN)."""
    search_steps: int = 100
    """Steps of descent to each image's z (the paper: 500, which take five times as long to score)."""
    search_rate: float = 0.05
    """Step size of its Adam."""
    starts: int = 1
    """Random z to descend from; the best end counts."""
    feature_weight: float = 0.1
    """Weight l of the discriminator's features in the score (the paper)."""

    def check(self) -> None:
        """Raise ValueError for values out of range; `anogan` does so, too."""
        convnet.check_widths(self.widths)
        for name in ("latent_dim", "steps", "search_steps", "starts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; the least is 1")
        for name in ("learning_rate", "search_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number above 0")
        if not 0 <= self.feature_weight <= 1:
            raise ValueError(f"feature_weight is {self.feature_weight}; give a share from 0 to 1")


class AnoGANState(NamedTuple):
    """All that training and scoring need."""

    generator: Params  # {"params", "batch_stats"}; the latter serve scoring alone
    discriminator: Params  # {"params"}
    starts: Array  # [S, d] of the search
    draws: Array  # [n, d] that batch normalisation is calibrated on
    opt_state: dict[str, optax.OptState]


class AnoGANInfo(NamedTuple):
    """One training step: scalars."""

    discriminator_loss: Array
    generator_loss: Array
    believed: Array  # mean probability of the discriminator that a generated image is real
    spread: Array  # mean standard deviation of a pixel over generated images: 0 where all are the same


TINY = AnoGANConfig(widths=(16,), latent_dim=8, learning_rate=3e-3, search_steps=10, feature_weight=0.0)


@detector(
    "anogan",
    "AnoGAN, a generator of normal images that is inverted (Schlegl et al., IPMI 2017).",
    config=AnoGANConfig,
    tiny=TINY,
)
def anogan(config: AnoGANConfig | None = None, **fields: Any) -> Detector:
    """The detector of a config, of its fields (`anogan(latent_dim=32)`), or of a config with changed fields.

    `calibrate` fits the statistics of batch normalisation to images that G draws; it does not look at images. The score
    is A(x), the map |x - G(z)|.
    """
    config = dataclasses.replace(config or AnoGANConfig(), **fields)
    config.check()
    discriminator = make_network(convnet.Encoder(config.widths, outputs=1))
    optimiser = optax.adam(config.learning_rate, b1=BETA)
    searcher = optax.adam(config.search_rate)

    def init(key: Key, images: Array) -> AnoGANState:
        chex.assert_rank(images, 4)
        generator_key, discriminator_key, start_key, draw_key = jax.random.split(key, 4)
        draws = jax.random.normal(draw_key, (CALIBRATION_DRAWS, config.latent_dim))
        networks = {
            "generator": make_generator(config, images.shape[1:]).init(generator_key, draws),
            "discriminator": discriminator.init(discriminator_key, images),
        }
        state = AnoGANState(
            **networks,
            starts=jax.random.normal(start_key, (config.starts, config.latent_dim)),
            draws=draws,
            opt_state={name: optimiser.init(variables["params"]) for name, variables in networks.items()},
        )
        return calibrate(state, images)

    def step(key: Key, state: AnoGANState, batch: Batch) -> tuple[AnoGANState, AnoGANInfo]:
        chex.assert_rank(batch.images, 4)
        generator = make_generator(config, batch.images.shape[1:])
        z = jax.random.normal(key, (batch.images.shape[0], config.latent_dim))

        def generate(params: Params) -> Array:
            return generator.apply({**state.generator, "params": params}, z, train=True)[0]

        def logits_of(params: Params, images: Array) -> Array:
            return discriminator.apply({"params": params}, images).output

        made = generate(state.generator["params"])

        def discriminator_loss(params: Params) -> Array:
            real, fake = logits_of(params, batch.images), logits_of(params, made)
            return jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake))

        loss, gradients = jax.value_and_grad(discriminator_loss)(state.discriminator["params"])
        new_discriminator, discriminator_opt = updated(gradients, state.opt_state["discriminator"], state.discriminator)

        def generator_loss(params: Params) -> tuple[Array, Array]:
            logits = logits_of(new_discriminator["params"], generate(params))
            return jnp.mean(jax.nn.softplus(-logits)), jnp.mean(jax.nn.sigmoid(logits))

        (fooled, believed), gradients = jax.value_and_grad(generator_loss, has_aux=True)(state.generator["params"])
        new_generator, generator_opt = updated(gradients, state.opt_state["generator"], state.generator)
        opt_state = {"generator": generator_opt, "discriminator": discriminator_opt}
        state = state._replace(generator=new_generator, discriminator=new_discriminator, opt_state=opt_state)
        return state, AnoGANInfo(loss, fooled, believed, jnp.mean(jnp.std(made, 0)))

    def updated(gradients: Params, opt_state: optax.OptState, variables: Params) -> tuple[Params, optax.OptState]:
        updates, opt_state = optimiser.update(gradients, opt_state, variables["params"])
        return {**variables, "params": optax.apply_updates(variables["params"], updates)}, opt_state

    def calibrate(state: AnoGANState, images: Array) -> AnoGANState:
        chex.assert_rank(images, 4)
        generator = make_generator(config, images.shape[1:])
        return state._replace(generator=recalibrated(generator, state.generator, state.draws, CALIBRATION_BATCH))

    def search(state: AnoGANState, images: Array) -> tuple[Array, Array]:
        """A(x) [B] and G(z) [B, H, W, C] at each image's z. Images share nothing but the program."""
        generator = make_generator(config, images.shape[1:])

        def features_of(images: Array) -> Array:
            return discriminator.apply(state.discriminator, images).features

        wanted = features_of(images)

        def misses(z: Array) -> tuple[Array, Array]:
            made = generator.apply(state.generator, z)
            residual = jnp.mean(jnp.abs(images - made), (1, 2, 3))
            features = jnp.mean(jnp.abs(wanted - features_of(made)), (1, 2, 3))
            return (1 - config.feature_weight) * residual + config.feature_weight * features, made

        def descend(carry: tuple[Array, optax.OptState], _: None) -> tuple[tuple[Array, optax.OptState], None]:
            z, opt_state = carry
            # Each loss depends on its own z alone, so the gradient of the sum is that of each.
            gradient = jax.grad(lambda z: jnp.sum(misses(z)[0]))(z)
            updates, opt_state = searcher.update(gradient, opt_state)
            return (optax.apply_updates(z, updates), opt_state), None

        def from_start(start: Array) -> tuple[Array, Array]:
            z = jnp.broadcast_to(start[None], (images.shape[0], config.latent_dim))
            (z, _), _ = lax.scan(descend, (z, searcher.init(z)), None, config.search_steps)
            return misses(z)

        scores, made = lax.map(from_start, state.starts)
        best = jnp.argmin(scores, 0)
        return jnp.min(scores, 0), made[best, jnp.arange(images.shape[0])]

    def score(state: AnoGANState, images: Array) -> Array:
        chex.assert_rank(images, 4)
        return search(state, images)[0]

    def score_map(state: AnoGANState, images: Array) -> Array:
        chex.assert_rank(images, 4)
        return jnp.mean(jnp.abs(images - search(state, images)[1]), 3)

    return Detector(init, step, calibrate, score, score_map, transient=("opt_state",))


class Generator(nn.Module):
    """G: images [B, H, W, C] in [0, 1] of codes [B, d].

    Attributes:
      image_shape: (H, W, C).
      widths: channels of the discriminator's levels, which it mirrors.
    """

    image_shape: tuple[int, ...]
    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, z: Array, *, train: bool = False) -> Array:
        decoder = convnet.Decoder(self.image_shape, self.widths, use_norm=True, leak=0.0, name="decoder")
        return nn.sigmoid(decoder(z, train=train))


def make_generator(config: AnoGANConfig, image_shape: tuple[int, ...]) -> Network:
    """G of a config, for images [H, W, C]."""
    return make_network(Generator(tuple(image_shape), config.widths))
