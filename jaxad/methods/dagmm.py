"""DAGMM (Zong et al., ICLR 2018) on images: a Gaussian mixture of an autoencoder's codes and errors, trained together.

    z = [code, |x - x^| / |x|, cos(x, x^)]                                                             (section 3.2)
    min mean |x - x^|^2 + 0.1 mean E(z) + 0.005 sum over components and dimensions of 1 / variance     (Eq. 7)
    s(x) = E(z) = -log sum_k phi_k N(z; mu_k, Sigma_k)                                                 (Eq. 6)

The mixture and the network that assigns z to its components are `jaxad.nn.objectives.density`, without dropout.

Use it where normal images are of several kinds that nobody has told apart: the mixture has a component for each.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from jaxad.data.batches import map_batches
from jaxad.methods.registry import detector
from jaxad.nn import convnet
from jaxad.nn.network import make_network
from jaxad.nn.objectives.density import DensityConfig, Mixture, density
from jaxad.types import Array, Batch, Detector, Key, Params

CALIBRATION_BATCH = 64
CLIP = 5.0  # norm of the gradient at most (danieltan07/dagmm)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DAGMMConfig:
    """What is trained, and how; weights are those of danieltan07/dagmm."""

    latent_dim: int = 8
    """Length of the code."""
    widths: tuple[int, ...] = (16, 32)
    """Channels of the encoder's convolutions, each followed by pooling; the decoder mirrors them."""
    components: int = 4
    """Gaussians of the mixture."""
    energy: float = 0.1
    """Weight of the energy."""
    penalty: float = 0.005
    """Weight of the reciprocal variances."""
    steps: int = 1000
    """Training steps."""
    learning_rate: float = 1e-3
    """Learning rate of Adam."""

    def check(self) -> None:
        """Raise ValueError for values out of range; `dagmm` does so, too."""
        convnet.check_widths(self.widths)
        for name in ("latent_dim", "components", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; the least is 1")
        for name in ("energy", "learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number above 0")
        if not 0 <= self.penalty < math.inf:
            raise ValueError(f"penalty is {self.penalty}; give a number from 0 upwards")


class DAGMMState(NamedTuple):
    """All that training and scoring need."""

    params: Params  # {"autoencoder", "density"}
    mixture: Mixture  # of the calibration images
    opt_state: optax.OptState
    step: Array  # int32, steps trained


class DAGMMInfo(NamedTuple):
    """One training step: scalars."""

    loss: Array
    error: Array  # mean squared error of a pixel


TINY = DAGMMConfig(widths=(8,), latent_dim=8, components=2, learning_rate=1e-2)


@detector(
    "dagmm",
    "Deep autoencoding Gaussian mixture model (Zong et al., ICLR 2018).",
    config=DAGMMConfig,
    tiny=TINY,
)
def dagmm(config: DAGMMConfig | None = None, **fields: Any) -> Detector:
    """The detector of a config, of its fields (`dagmm(components=2)`), or of a config with changed fields.

    `calibrate` fits the mixture to images [n, H, W, C], those of training in the paper.
    """
    config = dataclasses.replace(config or DAGMMConfig(), **fields)
    config.check()
    network = make_network(convnet.Autoencoder(config.widths, config.latent_dim))
    # The hypothesis adds its penalty before the whole is weighted.
    settings = DensityConfig(components=config.components, covariance_penalty=config.penalty / config.energy)
    hypothesis = density(settings)
    optimiser = optax.chain(optax.clip_by_global_norm(CLIP), optax.adam(config.learning_rate))

    def seen(params: Params, images: Array) -> tuple[Array, Array]:
        """z [B, d + 2], and the squared errors [B], summed over pixels."""
        chex.assert_rank(images, 4)
        rebuilt, codes = network.apply({"params": params["autoencoder"]}, images)
        z = jnp.concatenate([codes, error_features(images, rebuilt)], 1)
        return z, jnp.sum(jnp.square(images - rebuilt), (1, 2, 3))

    def init(key: Key, images: Array) -> DAGMMState:
        network_key, density_key = jax.random.split(key)
        params = {"autoencoder": network.init(network_key, images)["params"]}
        params["density"] = hypothesis.init(density_key, seen(params, images)[0])
        return calibrate(DAGMMState(params, (), optimiser.init(params), jnp.int32(0)), images)

    def step(key: Key, state: DAGMMState, batch: Batch) -> tuple[DAGMMState, DAGMMInfo]:
        def loss_of(params: Params) -> tuple[Array, Array]:
            z, errors = seen(params, batch.images)
            energy = hypothesis.loss(params["density"], z, errors, state.step)
            return jnp.mean(errors) + config.energy * energy, jnp.mean(errors) / math.prod(batch.images.shape[1:])

        (loss, error), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        updates, opt_state = optimiser.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return state._replace(params=params, opt_state=opt_state, step=state.step + 1), DAGMMInfo(loss, error)

    def calibrate(state: DAGMMState, images: Array) -> DAGMMState:
        chex.assert_rank(images, 4)
        z = map_batches(lambda batch: seen(state.params, batch)[0], images, CALIBRATION_BATCH)
        return state._replace(mixture=hypothesis.fit(state.params["density"], z))

    def score(state: DAGMMState, images: Array) -> Array:
        z, errors = seen(state.params, images)
        return hypothesis.score(state.params["density"], state.mixture, z, errors)

    return Detector(init, step, calibrate, score, transient=("opt_state",))


def error_features(images: Array, rebuilt: Array) -> Array:
    """Relative Euclidean distance and cosine similarity of images and reconstructions [B, H, W, C]: [B, 2]."""
    x, y = (part.reshape(part.shape[0], -1) for part in (images, rebuilt))
    # The least number under a root keeps its slope finite for black images and perfect reconstructions.
    x_norm, y_norm, distance = (jnp.sqrt(jnp.sum(jnp.square(part), 1) + 1e-8) for part in (x, y, x - y))
    return jnp.stack([distance / x_norm, jnp.sum(x * y, 1) / (x_norm * y_norm)], 1)
