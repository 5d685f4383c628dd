"""A classifier of the normal classes: images it is unsure of are anomalous.

    MSP     s(x) = -log max_i p_i(x)                                          (Hendrycks & Gimpel, ICLR 2017)
    ODIN    s(x) = -log max_i p_i(x + eps sign(grad_x log max_i p_i(x; T)); T)  (Liang et al., ICLR 2018, Eqs. 1 and 2)

with p(x; T) the softmax of the logits divided by T. The papers score by the probability; its logarithm has the same
order, and does not stick at 1.

It needs the class of every normal image: here `Batch.labels` are these classes, 0 to `classes` - 1, NOT marks of
anomalies. Images with a negative label teach it nothing. A set with one class alone cannot train it.

Use it where normal images are of known classes, such as kinds of products, and anomalies are of none of them.
"""

import dataclasses
import math
from typing import Any, ClassVar, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from jaxad.methods.registry import detector
from jaxad.nn import convnet
from jaxad.nn.network import make_network
from jaxad.nn.normalization import recalibrated
from jaxad.types import Array, Batch, Detector, Key, Params

CALIBRATION_BATCH = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """What is trained, and how it scores."""

    labels: ClassVar[str] = "classes"  # what `Batch.labels` are to it, see `jaxad.types.Detector`
    paper: ClassVar[tuple[str, ...]] = ("schedule_steps=null",)

    classes: int = 10
    """Classes of normal images."""
    score: Literal["msp", "odin"] = "msp"
    """Maximum softmax probability, or ODIN's variant."""
    temperature: float = 1000.0
    """T of ODIN (the paper)."""
    perturbation: float = 0.0014
    """Perturbation eps of ODIN, of images in [0, 1] (the paper tunes it on anomalies, which nobody has; 0 for none)."""
    widths: tuple[int, ...] = (32, 64)
    """Channels of the convolutions, each followed by pooling."""
    steps: int = 1000
    """Training steps."""
    schedule_steps: int | None = 234_000
    """Steps along whose cosine the learning rate falls to 0: those of ODIN's 300 epochs of 50,000 images in batches of
    64, so that a shorter training keeps its rate; None: those of `steps`."""
    learning_rate: float = 1e-3
    """Learning rate of Adam at the start."""

    def check(self) -> None:
        """Raise ValueError for values out of range; `classifier` does so, too."""
        convnet.check_widths(self.widths)
        if self.classes < 2:
            raise ValueError(f"classes is {self.classes}; a classifier needs 2 at least")
        if self.score not in ("msp", "odin"):
            raise ValueError(f"score is {self.score!r}; choose one of msp, odin")
        for name in ("steps", "schedule_steps"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; the least is 1")
        for name in ("temperature", "learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number above 0")
        if not 0 <= self.perturbation < 1:
            raise ValueError(f"perturbation is {self.perturbation}; give a number from 0 to 1")


class ClassifierState(NamedTuple):
    """All that training and scoring need."""

    variables: Params  # {"params", "batch_stats"} of the network; the latter serve scoring alone
    opt_state: optax.OptState


class ClassifierInfo(NamedTuple):
    """One training step: scalars."""

    loss: Array  # mean cross entropy
    accuracy: Array


TINY = {
    "msp": ClassifierConfig(widths=(16,), steps=30, learning_rate=1e-2),
    "odin": ClassifierConfig(widths=(16,), steps=30, learning_rate=1e-2, score="odin"),
}


@detector(
    "classifier",
    "A classifier of the normal classes, by MSP or ODIN (Hendrycks & Gimpel, ICLR 2017; Liang et al., ICLR 2018).",
    config=ClassifierConfig,
    tiny=TINY,
)
def classifier(config: ClassifierConfig | None = None, **fields: Any) -> Detector:
    """The detector of a config, of its fields (`classifier(score="odin")`), or of a config with changed fields.

    `calibrate` fits statistics of batch normalisation to images [n, H, W, C], those of training or others. `step`
    raises ValueError for a batch without labels.
    """
    config = dataclasses.replace(config or ClassifierConfig(), **fields)
    config.check()
    scheduled = config.steps if config.schedule_steps is None else config.schedule_steps
    optimiser = optax.adam(optax.cosine_decay_schedule(config.learning_rate, scheduled))

    network = make_network(convnet.Encoder(config.widths, config.classes, use_norm=True))

    def init(key: Key, images: Array) -> ClassifierState:
        chex.assert_rank(images, 4)
        variables = network.init(key, images)
        return calibrate(ClassifierState(variables, optimiser.init(variables["params"])), images)

    def step(key: Key, state: ClassifierState, batch: Batch) -> tuple[ClassifierState, ClassifierInfo]:
        chex.assert_rank(batch.images, 4)
        if batch.labels is None:
            raise ValueError("labels is None; a classifier needs the class of every normal image: give labels to fit")

        def loss_of(params: Params) -> tuple[Array, Array]:
            encoded, _ = network.apply({**state.variables, "params": params}, batch.images, train=True)
            logits = encoded.output
            known = (batch.labels >= 0).astype(jnp.float32)
            count = jnp.maximum(jnp.sum(known), 1.0)
            entropy = optax.softmax_cross_entropy(logits, jax.nn.one_hot(batch.labels, config.classes))
            right = (jnp.argmax(logits, 1) == batch.labels).astype(jnp.float32)
            return jnp.sum(known * entropy) / count, jnp.sum(known * right) / count

        params = state.variables["params"]
        (loss, accuracy), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, opt_state = optimiser.update(gradients, state.opt_state, params)
        variables = {**state.variables, "params": optax.apply_updates(params, updates)}
        return ClassifierState(variables, opt_state), ClassifierInfo(loss, accuracy)

    def calibrate(state: ClassifierState, images: Array) -> ClassifierState:
        chex.assert_rank(images, 4)
        return state._replace(variables=recalibrated(network, state.variables, images, CALIBRATION_BATCH))

    def score(state: ClassifierState, images: Array) -> Array:
        def surprise(images: Array, temperature: float) -> Array:
            return negative_log_confidence(network.apply(state.variables, images).output, temperature)

        chex.assert_rank(images, 4)
        if config.score == "msp":
            return surprise(images, 1.0)
        if config.perturbation:
            # Each score depends on its own image alone, so the gradient of the sum is that of each.
            slope = jax.grad(lambda images: jnp.sum(surprise(images, config.temperature)))(images)
            images = images - config.perturbation * jnp.sign(slope)
        return surprise(images, config.temperature)

    return Detector(init, step, calibrate, score, transient=("opt_state",))


def negative_log_confidence(logits: Array, temperature: float) -> Array:
    """-log max_i softmax(logits / T)_i, [B, K] -> [B]; unless T is 1, less log K and times T.

    At T = 1000 all of it lies within rounding of log K, so it is counted from there, on the scale of logits; the order
    is the same. At T = 1 a confidence near 1 is not lost in rounding either.
    """
    chex.assert_rank(logits, 2)
    gaps = (logits - jnp.max(logits, 1, keepdims=True)) / temperature
    if temperature == 1:
        # The sum of the other classes alone: 1 is left out where it would swallow them.
        others = jnp.sum(jnp.exp(gaps), 1, where=jnp.arange(logits.shape[1])[None] != jnp.argmax(logits, 1)[:, None])
        return jnp.log1p(others)
    return temperature * jnp.log1p(jnp.mean(jnp.expm1(gaps), 1))
