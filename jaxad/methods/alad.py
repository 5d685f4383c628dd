"""ALAD (Zenati et al., ICDM 2018): a generator and an encoder that invert each other, and three discriminators.

    D_xz tells (x, E(x)) from (G(z), z), D_xx tells (x, x) from (x, G(E(x))), D_zz tells (z, z) from (z, E(G(z)))
    min over G, E, max over D   V(D_xz) + V(D_xx) + V(D_zz), each the objective of a GAN          (sections III-A to C)
    A(x) = |f(x, x) - f(x, G(E(x)))|_1,  f the features of D_xx before its logit               (section III-D, Alg. 1)

z ~ N(0, 1). Kernels of the encoder and of the discriminators but for their last layers are divided by their spectral
norms (section III-C). G and E minimise the cross entropies with labels exchanged, as the authors' code does, and a step
improves the discriminators first.

Departures, for the plainest form: pooling and repeating pixels instead of strides, no batch normalisation and no
dropout in discriminators, pairs of images as channels of one (the authors' code has one above the other), and scores by
the weights of the last step in place of their moving averages, which a short training would leave behind.

Use it where a generative model is wanted whose score takes one pass, and no descent for every image as AnoGAN's.
"""

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxad.methods.registry import detector
from jaxad.nn import convnet
from jaxad.nn import spectral_norm as spectral
from jaxad.nn.network import make_network
from jaxad.nn.normalization import recalibrated
from jaxad.types import Array, Batch, Detector, Key, Network, Params

CALIBRATION_BATCH = 64
BETA = 0.5  # first decay rate of Adam (authors' code)
LEAK = 0.2  # slope of LeakyReLU
PAIR_KERNEL = 5  # of the convolutions of D_xx (authors' code)
LAST = {"encoder": "Dense_0", "xz": "logit", "xx": "Dense_0", "zz": "logit"}  # layers without spectral normalisation
DISCRIMINATORS = ("xz", "xx", "zz")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ALADConfig:
    """What is trained, and how."""

    paper: ClassVar[tuple[str, ...]] = ("latent_dim=100", "widths=[128,256,512]", "pair_widths=[64,128]", "hidden=512")
    laptop: ClassVar[tuple[str, ...]] = ("widths=[16,32]", "pair_widths=[16,32]", "steps=500")

    latent_dim: int = 64
    """Length of z (authors' code: 100)."""
    widths: tuple[int, ...] = (32, 64)
    """Channels of the convolutions of E and D_xz, each followed by pooling, mirrored in G (authors' code: 128, 256,
    512)."""
    pair_widths: tuple[int, ...] = (32, 64)
    """Channels of those of D_xx (authors' code: 64, 128)."""
    hidden: int = 128
    """Width of the dense layers of D_xz and D_zz (authors' code: 512, and 64)."""
    spectral_norm: bool = True
    """Divide kernels by their spectral norm (section III-C)."""
    steps: int = 1000
    """Training steps: each improves the discriminators once, then G and E once."""
    learning_rate: float = 2e-4
    """Learning rate of Adam (authors' code)."""

    def check(self) -> None:
        """Raise ValueError for values out of range; `alad` does so, too."""
        convnet.check_widths(self.widths)
        convnet.check_widths(self.pair_widths)
        for name in ("latent_dim", "hidden", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; the least is 1")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate is {self.learning_rate}; give a number above 0")


class ALADState(NamedTuple):
    """All that training and scoring need. Networks are "encoder", "generator", "xz", "xx" and "zz"."""

    params: dict[str, Params]
    statistics: dict[str, Params]  # batch_stats of "encoder" and "generator", for scoring alone
    vectors: dict[str, tuple[Array, ...]]  # of spectral normalisation, of all but the generator; empty without it
    opt_state: dict[str, optax.OptState]


class ALADInfo(NamedTuple):
    """One training step: scalars."""

    discriminator_loss: Array  # of all three
    xz: Array  # its parts
    xx: Array
    zz: Array
    generator_loss: Array  # of G and E
    error: Array  # mean |x - G(E(x))| of a pixel, of images in [0, 1]


TINY = ALADConfig(widths=(8,), pair_widths=(8,), latent_dim=8, hidden=16, learning_rate=3e-3)


@detector(
    "alad",
    "ALAD, bidirectional GANs by features of pairs (Zenati et al., ICDM 2018).",
    config=ALADConfig,
    tiny=TINY,
)
def alad(config: ALADConfig | None = None, **fields: Any) -> Detector:
    """The detector of a config, of its fields (`alad(latent_dim=32)`), or of a config with changed fields.

    Images have any size and channels. `calibrate` fits the statistics of batch normalisation of E to images
    [n, H, W, C], and those of G to their codes.
    """
    config = dataclasses.replace(config or ALADConfig(), **fields)
    config.check()
    optimiser = optax.adam(config.learning_rate, b1=BETA)

    def init(key: Key, images: Array) -> ALADState:
        chex.assert_rank(images, 4)
        networks = make_networks(config, images.shape[1:])
        *keys, vector_key = jax.random.split(key, len(networks) + 1)
        z = jnp.zeros((1, config.latent_dim))
        seen = {"encoder": (images[:1],), "generator": (z,), "xz": (images[:1], z), "zz": (z, z)}
        seen |= {"xx": (paired(images[:1], images[:1]),)}
        variables = {name: networks[name].init(own, *seen[name]) for name, own in zip(networks, keys, strict=True)}
        params = {name: variables[name]["params"] for name in networks}
        vectors = {}
        if config.spectral_norm:
            vector_keys = dict(zip(LAST, jax.random.split(vector_key, len(LAST))))
            vectors = {
                name: spectral.init_vectors(own, _constrained(name, params[name])) for name, own in vector_keys.items()
            }
        state = ALADState(
            params=params,
            statistics={name: variables[name]["batch_stats"] for name in ("encoder", "generator")},
            vectors=vectors,
            opt_state={name: optimiser.init(params[name]) for name in params},
        )
        return calibrate(state, images)

    def step(key: Key, state: ALADState, batch: Batch) -> tuple[ALADState, ALADInfo]:
        chex.assert_rank(batch.images, 4)
        x = 2 * batch.images - 1
        z = jax.random.normal(key, (x.shape[0], config.latent_dim))
        networks = make_networks(config, x.shape[1:])
        vectors = {
            name: spectral.power_iteration(_constrained(name, state.params[name]), own)
            for name, own in state.vectors.items()
        }

        def discriminator_loss(discriminators: dict[str, Params]) -> tuple[Array, tuple[Array, ...]]:
            params = _used({**state.params, **discriminators}, vectors)
            made = make(networks, params, state.statistics, x, z)
            terms = [real_loss(real) + fake_loss(fake) for real, fake in logits_of(networks, params, x, z, made)]
            return sum(terms), tuple(terms)

        def generator_loss(makers: dict[str, Params], others: dict[str, Params]) -> tuple[Array, Array]:
            params = _used({**others, **makers}, vectors)
            made = make(networks, params, state.statistics, x, z)
            pairs = logits_of(networks, params, x, z, made)
            # What is real to D_xx and D_zz does not depend on G and E.
            loss = fake_loss(pairs[0][0]) + sum(real_loss(fake) for _, fake in pairs)
            return loss, jnp.mean(jnp.abs(x - made.rebuilt)) / 2

        old = {name: state.params[name] for name in DISCRIMINATORS}
        (loss, terms), gradients = jax.value_and_grad(discriminator_loss, has_aux=True)(old)
        params, opt_state = _improved(optimiser, state.params, state.opt_state, gradients)
        makers = {name: params[name] for name in ("encoder", "generator")}
        (fooled, error), gradients = jax.value_and_grad(generator_loss, has_aux=True)(makers, params)
        params, opt_state = _improved(optimiser, params, opt_state, gradients)
        state = ALADState(params, state.statistics, vectors, opt_state)
        return state, ALADInfo(loss, *terms, fooled, error)

    def calibrate(state: ALADState, images: Array) -> ALADState:
        chex.assert_rank(images, 4)
        networks, params = make_networks(config, images.shape[1:]), _used(state.params, state.vectors)
        statistics, inputs = {}, 2 * images - 1
        for name in ("encoder", "generator"):
            variables = {"params": params[name], "batch_stats": state.statistics[name]}
            variables = recalibrated(networks[name], variables, inputs, CALIBRATION_BATCH)
            statistics[name] = variables["batch_stats"]
            if name == "encoder":
                inputs = networks[name].apply(variables, inputs).output
        return state._replace(statistics=statistics)

    def score(state: ALADState, images: Array) -> Array:
        chex.assert_rank(images, 4)
        networks, params = make_networks(config, images.shape[1:]), _used(state.params, state.vectors)
        x, encoder, generator = 2 * images - 1, *(
            {"params": params[name], "batch_stats": state.statistics[name]} for name in ("encoder", "generator")
        )  # fmt: skip
        rebuilt = networks["generator"].apply(generator, networks["encoder"].apply(encoder, x).output)
        same, other = (networks["xx"].apply({"params": params["xx"]}, paired(x, y)).features for y in (x, rebuilt))
        return jnp.sum(jnp.abs(same - other), (1, 2, 3))

    return Detector(init, step, calibrate, score, transient=("opt_state",))


class Generator(nn.Module):
    """G: images [B, H, W, C] in [-1, 1] of codes [B, d].

    Attributes:
      image_shape: (H, W, C).
      widths: channels of the encoder's levels, which it mirrors.
    """

    image_shape: tuple[int, ...]
    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, z: Array, *, train: bool = False) -> Array:
        decoder = convnet.Decoder(self.image_shape, self.widths, use_norm=True, leak=0.0, name="decoder")
        return jnp.tanh(decoder(z, train=train))


class JointDiscriminator(nn.Module):
    """D_xz: logits [B] of images [B, H, W, C] and codes [B, d] being an image and its code."""

    widths: tuple[int, ...]
    hidden: int

    @nn.compact
    def __call__(self, x: Array, z: Array, *, train: bool = False) -> Array:
        seen = convnet.Encoder(self.widths, self.hidden, leak=LEAK, name="images")(x, train=train).output
        for layer in ("codes0", "codes1"):
            z = nn.leaky_relu(nn.Dense(self.hidden, name=layer)(z), LEAK)
        both = jnp.concatenate([nn.leaky_relu(seen, LEAK), z], 1)
        both = nn.leaky_relu(nn.Dense(self.hidden, name="both")(both), LEAK)
        return nn.Dense(1, name="logit")(both)[:, 0]


class CodeDiscriminator(nn.Module):
    """D_zz: logits [B] of two codes [B, d], of the second being the first."""

    hidden: int

    @nn.compact
    def __call__(self, z: Array, y: Array, *, train: bool = False) -> Array:
        both = jnp.concatenate([z, y], 1)
        for layer in ("both0", "both1"):
            both = nn.leaky_relu(nn.Dense(self.hidden, name=layer)(both), LEAK)
        return nn.Dense(1, name="logit")(both)[:, 0]


class Made(NamedTuple):
    """What encoder and generator make of images and codes."""

    codes: Array  # E(x), [B, d]
    drawn: Array  # G(z), [B, H, W, C]
    rebuilt: Array  # G(E(x))
    recoded: Array  # E(G(z))


def make_networks(config: ALADConfig, image_shape: tuple[int, ...]) -> dict[str, Network]:
    """All networks by name, for images [H, W, C] in [-1, 1]."""
    modules = {
        "encoder": convnet.Encoder(config.widths, config.latent_dim, use_norm=True, leak=LEAK),
        "generator": Generator(tuple(image_shape), config.widths),
        "xz": JointDiscriminator(config.widths, config.hidden),
        "xx": convnet.Encoder(config.pair_widths, 1, kernel=PAIR_KERNEL, leak=LEAK),
        "zz": CodeDiscriminator(config.hidden),
    }
    return {name: make_network(module) for name, module in modules.items()}


def paired(x: Array, y: Array) -> Array:
    """What D_xx sees: two images [B, H, W, C] as one [B, H, W, 2C]."""
    return jnp.concatenate([x, y], 3)


def make(
    networks: dict[str, Network], params: dict[str, Params], statistics: dict[str, Params], x: Array, z: Array
) -> Made:
    """Codes and images by E and G, normalised with the statistics of each batch."""

    def run(name: str, inputs: Array) -> Any:
        return networks[name].apply({"params": params[name], "batch_stats": statistics[name]}, inputs, train=True)[0]

    codes, drawn = run("encoder", x).output, run("generator", z)
    return Made(codes, drawn, run("generator", codes), run("encoder", drawn).output)


def logits_of(
    networks: dict[str, Network], params: dict[str, Params], x: Array, z: Array, made: Made
) -> list[tuple[Array, Array]]:
    """Logits [B] of what is real and of what is not, of D_xz, D_xx and D_zz in order."""

    def judged(name: str, *inputs: Array) -> Array:
        return networks[name].apply({"params": params[name]}, *inputs)

    return [
        (judged("xz", x, made.codes), judged("xz", made.drawn, z)),
        tuple(judged("xx", paired(x, y)).output[:, 0] for y in (x, made.rebuilt)),
        (judged("zz", z, z), judged("zz", z, made.recoded)),
    ]


def real_loss(logits: Array) -> Array:
    """Mean cross entropy of logits [B] that shall say real."""
    return jnp.mean(jax.nn.softplus(-logits))


def fake_loss(logits: Array) -> Array:
    """Mean cross entropy of logits [B] that shall say fake."""
    return jnp.mean(jax.nn.softplus(logits))


def _constrained(name: str, params: Params) -> Params:
    """The layers of a network whose kernels are divided by their spectral norms."""
    return {layer: inner for layer, inner in params.items() if layer != LAST[name]}


def _used(params: dict[str, Params], vectors: dict[str, tuple[Array, ...]]) -> dict[str, Params]:
    """The weights of all networks as they are used."""
    normalised = {
        name: {**params[name], **spectral.normalise_kernels(_constrained(name, params[name]), own)}
        for name, own in vectors.items()
    }
    return {**params, **normalised}


def _improved(
    optimiser: optax.GradientTransformation,
    params: dict[str, Params],
    opt_state: dict[str, optax.OptState],
    gradients: dict[str, Params],
) -> tuple[dict[str, Params], dict[str, optax.OptState]]:
    """Weights and optimiser after a step of the networks that there are gradients of."""
    for name, gradient in gradients.items():
        updates, moved = optimiser.update(gradient, opt_state[name], params[name])
        params = {**params, name: optax.apply_updates(params[name], updates)}
        opt_state = {**opt_state, name: moved}
    return params, opt_state
