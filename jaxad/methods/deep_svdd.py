"""Deep SVDD (Ruff et al., ICML 2018): a network that maps normal images into a small sphere.

    one-class        min mean |f(x) - c|^2                                        s(x) = |f(x) - c|^2        (Eq. 4)
    soft-boundary    min R^2 + mean max(0, |f(x) - c|^2 - R^2) / nu               s(x) = |f(x) - c|^2 - R^2  (Eq. 3)

A network that could give a constant would give c. So it has no biases, its activations are unbounded, and no
coordinate of c is near 0; c itself, the mean of the first outputs, is never trained.

Departures: c is the mean over the first batch, not the whole set; weights start at random, not as those of an
autoencoder; R^2 is the 1 - nu quantile of each batch instead of every few epochs' (see `jaxad.nn.objectives.centroid`).

Use it where a small network that scores in one pass is wanted, and no maps.
"""

import dataclasses
from typing import Any, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from jaxad.data.batches import map_batches
from jaxad.methods.common.centre import CentreConfig
from jaxad.methods.registry import detector
from jaxad.nn.normalization import recalibrated
from jaxad.nn.objectives.centroid import CentroidConfig, CentroidParams, CentroidStats, centroid
from jaxad.types import Array, Batch, Detector, Key, Params

CALIBRATION_BATCH = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeepSVDDConfig(CentreConfig):
    """What is trained, and how."""

    objective: Literal["one-class", "soft-boundary"] = "one-class"
    """Which sphere."""
    nu: float = 0.1
    """Share of the images that a soft boundary leaves outside (authors' code)."""
    schedule_steps: int | None = 4500
    """Steps whose first third has the full learning rate, all others a tenth: 150 epochs of 6,000 images in batches of
    200 (authors' code), so that a shorter training keeps its rate; None: those of `steps`."""
    warmup: float = 1 / 15
    """Share of the schedule before R grows from 0 (authors' code: 10 of 150 epochs)."""

    def check(self) -> None:
        """Raise ValueError for values out of range; `deep_svdd` does so, too."""
        super().check()
        if self.objective not in ("one-class", "soft-boundary"):
            raise ValueError(f"objective is {self.objective!r}; choose one of one-class, soft-boundary")
        CentroidConfig(nu=self.nu)
        if not 0 <= self.warmup <= 1:
            raise ValueError(f"warmup is {self.warmup}; give a share of the schedule from 0 to 1")


class DeepSVDDState(NamedTuple):
    """All that training and scoring need."""

    variables: Params  # {"params", "batch_stats"} of the network; the latter serve scoring alone
    centre: Array  # [outputs]
    squared_radius: Array  # scalar, of the calibration images
    opt_state: optax.OptState
    step: Array  # int32, steps trained


class DeepSVDDInfo(NamedTuple):
    """One training step: scalars."""

    loss: Array
    distance: Array  # mean |f(x) - c|^2
    spread: Array  # mean standard deviation of the outputs over the batch: 0 in a network that has collapsed


TINY = DeepSVDDConfig(widths=(8,), kernel=3, outputs=8, objective="soft-boundary")


@detector(
    "deep_svdd",
    "Deep support vector data description (Ruff et al., ICML 2018).",
    config=DeepSVDDConfig,
    tiny=TINY,
)
def deep_svdd(config: DeepSVDDConfig | None = None, **fields: Any) -> Detector:
    """The detector of a config, of its fields (`deep_svdd(nu=0.05)`), or of a config with changed fields.

    `calibrate` fits statistics of batch normalisation and the radius to images [n, H, W, C], those of training or
    others.
    """
    config = dataclasses.replace(config or DeepSVDDConfig(), **fields)
    config.check()
    sphere = centroid(CentroidConfig(nu=config.nu, warmup_steps=round(config.warmup * config.scheduled)))
    optimiser, network = config.make_optimiser(), config.make_network()

    def init(key: Key, images: Array) -> DeepSVDDState:
        chex.assert_rank(images, 4)
        network_key, sphere_key = jax.random.split(key)
        variables = network.init(network_key, images)
        encoded, _ = network.apply(variables, images, train=True)
        state = DeepSVDDState(
            variables=variables,
            centre=sphere.init(sphere_key, encoded.output).centre,
            squared_radius=jnp.float32(0),
            opt_state=optimiser.init(variables["params"]),
            step=jnp.int32(0),
        )
        return calibrate(state, images)

    def step(key: Key, state: DeepSVDDState, batch: Batch) -> tuple[DeepSVDDState, DeepSVDDInfo]:
        chex.assert_rank(batch.images, 4)

        def loss_of(params: Params) -> tuple[Array, tuple[Array, Array]]:
            encoded, _ = network.apply({**state.variables, "params": params}, batch.images, train=True)
            outputs = encoded.output
            distances = jnp.sum(jnp.square(outputs - state.centre[None]), 1)
            if config.objective == "one-class":
                loss = jnp.mean(distances)
            else:
                loss = sphere.loss(CentroidParams(state.centre), outputs, distances, state.step)
            return loss, (jnp.mean(distances), jnp.mean(jnp.std(outputs, 0)))

        params = state.variables["params"]
        (loss, terms), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, opt_state = optimiser.update(gradients, state.opt_state, params)
        variables = {**state.variables, "params": optax.apply_updates(params, updates)}
        state = state._replace(variables=variables, opt_state=opt_state, step=state.step + 1)
        return state, DeepSVDDInfo(loss, *terms)

    def calibrate(state: DeepSVDDState, images: Array) -> DeepSVDDState:
        chex.assert_rank(images, 4)
        variables = recalibrated(network, state.variables, images, CALIBRATION_BATCH)
        outputs = map_batches(lambda batch: network.apply(variables, batch).output, images, CALIBRATION_BATCH)
        radius = sphere.fit(CentroidParams(state.centre), outputs).squared_radius
        return state._replace(variables=variables, squared_radius=radius)

    def score(state: DeepSVDDState, images: Array) -> Array:
        outputs = network.apply(state.variables, images).output
        radius = state.squared_radius if config.objective == "soft-boundary" else jnp.float32(0)
        return sphere.score(CentroidParams(state.centre), CentroidStats(radius), outputs, outputs[:, 0])

    return Detector(init, step, calibrate, score, transient=("opt_state",))
