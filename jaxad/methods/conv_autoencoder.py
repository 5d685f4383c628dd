"""The convolutional autoencoder of Bergmann et al. (VISAPP 2019; the baseline of MVTec AD, CVPR 2019).

    s(x) = DIST(x^, x),  x^ = decoder(encoder(x)),  DIST = mean squared error or 1 - SSIM, latent of 100 numbers

Trained on what it scores by. The map is that of the distance (see `jaxad.nn.objectives.distances`). Departures: levels
of one convolution and pooling instead of the paper's mixture of strides 1 and 2; whole images instead of patches of
128x128.

Use it as the plain baseline that learns from pixels alone and says where: by SSIM where defects change structure, by
squared errors where they change brightness or colour.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from jaxad.methods.registry import detector
from jaxad.nn import convnet
from jaxad.nn.network import make_network
from jaxad.nn.objectives.distances import get_distance
from jaxad.types import Array, Batch, Detector, Key, Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvAutoencoderConfig:
    """What is trained, and how."""

    distance: str = "l2"
    """Distance of an image from its reconstruction: "l2" or "ssim" as in the paper; "l1", "l21" or a sum such as
    "l2+ssim" work, too."""
    latent_dim: int = 100
    """Length of the latent vector (the paper)."""
    widths: tuple[int, ...] = (32, 64, 128)
    """Channels of the encoder's convolutions, each followed by pooling; the decoder mirrors them."""
    steps: int = 1000
    """Training steps."""
    learning_rate: float = 1e-3
    """Learning rate of Adam (the paper: 2e-4, for 200 epochs of 10,000 patches)."""
    weight_decay: float = 1e-5
    """Weight of the squared weights (the paper)."""

    def check(self) -> None:
        """Raise ValueError for values out of range; `conv_autoencoder` does so, too."""
        get_distance(self.distance)
        convnet.check_widths(self.widths)
        for name in ("latent_dim", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; the least is 1")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate is {self.learning_rate}; give a number above 0")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay is {self.weight_decay}; give a number from 0 upwards")


class ConvAutoencoderState(NamedTuple):
    """All that training and scoring need."""

    params: Params  # of `convnet.Autoencoder`
    opt_state: optax.OptState


class ConvAutoencoderInfo(NamedTuple):
    """One training step: scalars."""

    loss: Array  # mean distance


TINY = ConvAutoencoderConfig(widths=(8,), latent_dim=16, learning_rate=1e-2)


@detector(
    "conv_autoencoder",
    "Convolutional autoencoder, by squared errors or SSIM (Bergmann et al., VISAPP 2019).",
    config=ConvAutoencoderConfig,
    tiny=TINY,
)
def conv_autoencoder(config: ConvAutoencoderConfig | None = None, **fields: Any) -> Detector:
    """The detector of a config, of its fields (`conv_autoencoder(distance="ssim")`), or a config with changed fields.

    `calibrate` changes nothing: there are no statistics.
    """
    config = dataclasses.replace(config or ConvAutoencoderConfig(), **fields)
    config.check()
    distance = get_distance(config.distance)
    network = make_network(convnet.Autoencoder(config.widths, config.latent_dim))
    optimiser = optax.chain(optax.add_decayed_weights(config.weight_decay), optax.adam(config.learning_rate))

    def init(key: Key, images: Array) -> ConvAutoencoderState:
        chex.assert_rank(images, 4)
        params = network.init(key, images)["params"]
        return ConvAutoencoderState(params, optimiser.init(params))

    def rebuilt(params: Params, images: Array) -> Array:
        """Of the size of the images [B, H, W, C], not clipped to [0, 1]."""
        chex.assert_rank(images, 4)
        return network.apply({"params": params}, images).output

    def distances(params: Params, images: Array) -> Array:
        return jax.vmap(distance.score)(rebuilt(params, images), images)

    def step(key: Key, state: ConvAutoencoderState, batch: Batch) -> tuple[ConvAutoencoderState, ConvAutoencoderInfo]:
        chex.assert_rank(batch.images, 4)
        loss, gradients = jax.value_and_grad(lambda p: jnp.mean(distances(p, batch.images)))(state.params)
        updates, opt_state = optimiser.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return ConvAutoencoderState(params, opt_state), ConvAutoencoderInfo(loss)

    def calibrate(state: ConvAutoencoderState, images: Array) -> ConvAutoencoderState:
        chex.assert_rank(images, 4)
        return state

    def score(state: ConvAutoencoderState, images: Array) -> Array:
        return distances(state.params, images)

    def score_map(state: ConvAutoencoderState, images: Array) -> Array:
        return jax.vmap(distance.map)(rebuilt(state.params, images), images)

    return Detector(init, step, calibrate, score, score_map, transient=("opt_state",))
