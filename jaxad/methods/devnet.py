"""A deviation network for images, like DevNet (Pang et al., KDD 2019): scores of labelled anomalies stand out.

    dev(x) = (f(x) - mean r) / sd r,   r ~ N(0, 1), 5,000 numbers                                   (sections 4.2, 4.3)
    min    mean over images of   |dev(x)|                      normal
                                 max(0, a - dev(x))            labelled anomalous, a = 5              (section 4.3)
    s(x) = f(x)

It learns from labelled anomalies alone what is anomalous, so it needs some; half of every batch are such. What is
"like" and not DevNet: f is a small convolutional network where the paper, on tables, has dense layers of rectified
linear units; it is the one of `jaxad.nn.convnet`, without normalisation. Loss, reference scores, batches, RMSprop,
clipping and the weight of squares are the paper's or its code's.

Use it where defects are labelled and those to come are like them: of other kinds it has learnt nothing.
"""

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from jaxad.methods.registry import detector
from jaxad.nn import convnet
from jaxad.nn.network import make_network
from jaxad.types import Array, Batch, Detector, Key, Params

REFERENCES = 5000  # numbers of the prior that a step draws
CLIP = 1.0  # norm of the gradient at most (authors' code)
DECAY, EPSILON = 0.9, 1e-7  # of RMSprop (Keras, which the authors' code uses)
LAST = "Dense_0"  # the layer of the score, whose weights are free


@dataclasses.dataclass(frozen=True, kw_only=True)
class DevNetConfig:
    """What is trained, and how."""

    labels: ClassVar[str] = "anomalies"  # what `Batch.labels` are to it, see `jaxad.types.Detector`
    needs_anomalies: ClassVar[bool] = True
    anomaly_share: ClassVar[float] = 0.5  # of a batch, drawn with replacement (Algorithm 1)
    paper: ClassVar[tuple[str, ...]] = ("widths=[32,64,128]",)

    margin: float = 5.0
    """Standard deviations a from which on an anomaly stands out enough (the paper)."""
    widths: tuple[int, ...] = (16, 32)
    """Channels of the convolutions, each followed by pooling."""
    weight_decay: float = 0.01
    """Weight of the squared weights of all layers but the last (authors' code)."""
    steps: int = 1000
    """Training steps (the paper: 50 epochs of 20 batches of 512)."""
    learning_rate: float = 1e-3
    """Learning rate of RMSprop (authors' code)."""

    def check(self) -> None:
        """Raise ValueError for values out of range; `devnet` does so, too."""
        convnet.check_widths(self.widths)
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; the least is 1")
        for name in ("margin", "learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number above 0")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay is {self.weight_decay}; give a number from 0 upwards")


class DevNetState(NamedTuple):
    """All that training and scoring need."""

    params: Params  # of `convnet.Encoder`
    opt_state: optax.OptState


class DevNetInfo(NamedTuple):
    """One training step: scalars."""

    loss: Array  # with the squared weights
    deviation: Array  # the mean loss without them
    normal_score: Array  # mean f of the normal images; 0 where there are none
    anomalous_score: Array  # of the labelled anomalies


TINY = DevNetConfig(widths=(8,), learning_rate=1e-2)


@detector(
    "devnet",
    "A deviation network, which learns to score from a few labelled anomalies (after Pang et al., KDD 2019).",
    config=DevNetConfig,
    tiny=TINY,
)
def devnet(config: DevNetConfig | None = None, **fields: Any) -> Detector:
    """The detector of a config, of its fields (`devnet(margin=3.0)`), or of a config with changed fields.

    `step` raises ValueError for a batch without labels (1 = anomalous); `anomalies_per_batch` of `jaxad.fit` puts the
    paper's half of a batch there. `calibrate` changes nothing: the scale of scores is that of the prior.
    """
    config = dataclasses.replace(config or DevNetConfig(), **fields)
    config.check()
    network = make_network(convnet.Encoder(config.widths, outputs=1, leak=0.0))
    rmsprop = optax.rmsprop(config.learning_rate, decay=DECAY, eps=EPSILON)
    optimiser = optax.chain(optax.clip_by_global_norm(CLIP), rmsprop)

    def init(key: Key, images: Array) -> DevNetState:
        chex.assert_rank(images, 4)
        params = network.init(key, images)["params"]
        return DevNetState(params, optimiser.init(params))

    def scored(params: Params, images: Array) -> Array:
        chex.assert_rank(images, 4)
        return network.apply({"params": params}, images).output[:, 0]

    def step(key: Key, state: DevNetState, batch: Batch) -> tuple[DevNetState, DevNetInfo]:
        if batch.labels is None:
            raise ValueError("labels is None; devnet learns from labelled anomalies: give labels to fit, 1 = anomalous")
        anomalous = batch.labels > 0
        references = jax.random.normal(key, (REFERENCES,))

        def loss_of(params: Params) -> tuple[Array, tuple[Array, Array, Array]]:
            scores = scored(params, batch.images)
            loss = deviation_loss(scores, anomalous, references, margin=config.margin)
            means = (
                jnp.sum(scores, where=members) / jnp.maximum(jnp.sum(members), 1) for members in (~anomalous, anomalous)
            )
            return loss + config.weight_decay * squared_weights(params), (loss, *means)

        (loss, terms), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        updates, opt_state = optimiser.update(gradients, state.opt_state, state.params)
        return DevNetState(optax.apply_updates(state.params, updates), opt_state), DevNetInfo(loss, *terms)

    def calibrate(state: DevNetState, images: Array) -> DevNetState:
        chex.assert_rank(images, 4)
        return state

    def score(state: DevNetState, images: Array) -> Array:
        return scored(state.params, images)

    return Detector(init, step, calibrate, score, transient=("opt_state",))


def deviation_loss(scores: Array, anomalous: Array, references: Array, *, margin: float) -> Array:
    """The mean loss of scores [B], of which some [B] are of labelled anomalies, by reference scores [l]."""
    chex.assert_rank([scores, anomalous, references], 1)
    deviations = (scores - jnp.mean(references)) / jnp.std(references)
    return jnp.mean(jnp.where(anomalous, jnp.maximum(margin - deviations, 0.0), jnp.abs(deviations)))


def squared_weights(params: Params) -> Array:
    """The sum of the squares of all kernels but those of the last layer; biases are free."""
    kernels = [
        leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if path[-1].key == "kernel" and path[0].key != LAST
    ]
    return sum((jnp.sum(jnp.square(kernel)) for kernel in kernels), start=jnp.float32(0))
