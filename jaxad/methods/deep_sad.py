"""Deep SAD (Ruff et al., ICLR 2020): Deep SVDD that is told of some anomalies, and keeps them from its centre.

    min    mean over images of   |f(x) - c|^2                        unlabelled, taken as normal
                                 eta / (|f(x) - c|^2 + epsilon)      labelled anomalous                 (section 3.2)
    s(x) = |f(x) - c|^2

Without any label it is one-class Deep SVDD, whose network it has: no biases, unbounded activations, a centre that is
never trained. Images that the paper has labelled as normal count eta times as much there; here they are unlabelled,
which is the same at its eta of 1.

Departures: those of `jaxad.methods.deep_svdd` (a centre from the first batch, no pretrained autoencoder); statistics of
batch normalisation for scoring are those of normal images alone.

Use it where a few defects are labelled, others may look different, and a score without maps is enough.
"""

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from jaxad.methods.common.centre import CentreConfig
from jaxad.methods.registry import detector
from jaxad.nn.normalization import recalibrated
from jaxad.nn.objectives.centroid import CentroidConfig, centroid
from jaxad.types import Array, Batch, Detector, Key, Params

CALIBRATION_BATCH = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeepSADConfig(CentreConfig):
    """What is trained, and how."""

    labels: ClassVar[str] = "anomalies"  # what `Batch.labels` are to it, see `jaxad.types.Detector`

    eta: float = 1.0
    """Weight of labelled anomalies (the paper)."""
    epsilon: float = 1e-6
    """Added to their squared distances (authors' code)."""
    schedule_steps: int | None = 7050
    """Steps whose first third has the full learning rate, all others a tenth: 150 epochs of 6,000 images in batches of
    128 (authors' code), so that a shorter training keeps its rate; None: those of `steps`."""

    def check(self) -> None:
        """Raise ValueError for values out of range; `deep_sad` does so, too."""
        super().check()
        if not 0 < self.epsilon < math.inf:
            raise ValueError(f"epsilon is {self.epsilon}; give a number above 0")
        if not 0 <= self.eta < math.inf:
            raise ValueError(f"eta is {self.eta}; give a number from 0 upwards")


class DeepSADState(NamedTuple):
    """All that training and scoring need."""

    variables: Params  # {"params", "batch_stats"} of the network; the latter serve scoring alone
    centre: Array  # [outputs]
    opt_state: optax.OptState


class DeepSADInfo(NamedTuple):
    """One training step: scalars."""

    loss: Array
    distance: Array  # mean |f(x) - c|^2 of images that are not labelled anomalous
    anomalous_distance: Array  # of those that are; 0 where there are none
    spread: Array  # mean standard deviation of the outputs over the batch: 0 in a network that has collapsed


TINY = DeepSADConfig(widths=(8,), kernel=3, outputs=8)


@detector(
    "deep_sad",
    "Deep SAD, Deep SVDD with a few labelled anomalies (Ruff et al., ICLR 2020).",
    config=DeepSADConfig,
    tiny=TINY,
)
def deep_sad(config: DeepSADConfig | None = None, **fields: Any) -> Detector:
    """The detector of a config, of its fields (`deep_sad(eta=2.0)`), or of a config with changed fields.

    `step` uses labels where the batch has them: images labelled anomalous (1) are kept from the centre, all others
    drawn to it. `calibrate` fits statistics of batch normalisation to normal images [n, H, W, C].
    """
    config = dataclasses.replace(config or DeepSADConfig(), **fields)
    config.check()
    optimiser, network = config.make_optimiser(), config.make_network()

    def init(key: Key, images: Array) -> DeepSADState:
        chex.assert_rank(images, 4)
        network_key, centre_key = jax.random.split(key)
        variables = network.init(network_key, images)
        encoded, _ = network.apply(variables, images, train=True)
        centre = centroid(CentroidConfig()).init(centre_key, encoded.output).centre
        return calibrate(DeepSADState(variables, centre, optimiser.init(variables["params"])), images)

    def step(key: Key, state: DeepSADState, batch: Batch) -> tuple[DeepSADState, DeepSADInfo]:
        chex.assert_rank(batch.images, 4)
        size = batch.images.shape[0]
        anomalous = jnp.zeros(size, bool) if batch.labels is None else batch.labels > 0

        def loss_of(params: Params) -> tuple[Array, tuple[Array, Array, Array]]:
            encoded, _ = network.apply({**state.variables, "params": params}, batch.images, train=True)
            distances = jnp.sum(jnp.square(encoded.output - state.centre[None]), 1)
            loss = sad_loss(distances, anomalous, eta=config.eta, epsilon=config.epsilon)
            means = (
                jnp.sum(distances, where=members) / jnp.maximum(jnp.sum(members), 1)
                for members in (~anomalous, anomalous)
            )
            return loss, (*means, jnp.mean(jnp.std(encoded.output, 0)))

        params = state.variables["params"]
        (loss, terms), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, opt_state = optimiser.update(gradients, state.opt_state, params)
        variables = {**state.variables, "params": optax.apply_updates(params, updates)}
        return state._replace(variables=variables, opt_state=opt_state), DeepSADInfo(loss, *terms)

    def calibrate(state: DeepSADState, images: Array) -> DeepSADState:
        chex.assert_rank(images, 4)
        return state._replace(variables=recalibrated(network, state.variables, images, CALIBRATION_BATCH))

    def score(state: DeepSADState, images: Array) -> Array:
        return jnp.sum(jnp.square(network.apply(state.variables, images).output - state.centre[None]), 1)

    return Detector(init, step, calibrate, score, transient=("opt_state",))


def sad_loss(distances: Array, anomalous: Array, *, eta: float, epsilon: float) -> Array:
    """The objective without weight decay, of squared distances [B] and which of the images [B] are labelled."""
    chex.assert_rank([distances, anomalous], 1)
    return jnp.mean(jnp.where(anomalous, eta / (distances + epsilon), distances))
