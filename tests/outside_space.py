"""Choices and actions of the search space from outside the library, each one entry, and children that have them."""

import contextlib
import dataclasses

import jax.numpy as jnp

from jaxad.nas.space import SearchSpace
from jaxad.nn.actions import EXTRA_ACTIONS, Action, Step
from jaxad.nn.architecture import Architecture, Layer
from jaxad.nn.layers import ACTIVATIONS, NORMS, POOLS, Norm
from jaxad.nn.objectives import HYPOTHESES, Hypothesis, HypothesisChoice
from jaxad.nn.objectives.distances import DISTANCES, Distance


@dataclasses.dataclass(frozen=True, kw_only=True)
class NearZeroConfig:
    """Settings of the hypothesis below."""

    power: int = 2


def near_zero(config):
    """Normal latents are small."""

    def size(z):
        return jnp.mean(jnp.abs(z) ** config.power, axis=1)

    return Hypothesis(
        init=lambda key, z: (),
        loss=lambda params, z, errors, step: jnp.mean(size(z)),
        fit=lambda params, z: (),
        score=lambda params, stats, z, errors: size(z),
    )


def root_mean_square(images):
    return images / jnp.sqrt(jnp.mean(jnp.square(images), axis=(1, 2), keepdims=True) + 1e-5)


def least(images, size):
    return -POOLS["max"](-images, size)


RESIDUAL = Action(
    name="residual",
    after="activation",
    sees_inputs=True,
    choices={
        "add": Step(
            lambda features, inputs: features if inputs is None else features + inputs,
            flops=lambda height, width, channels: height * width * channels,
        ),
        "gated": Step(
            lambda features, inputs, gate: gate * features + (0 if inputs is None else (1 - gate) * inputs),
            vectors={"gate": 0.5},
        ),
    },
)
SHIFT = Action(
    name="shift", after="conv", label="Shift of features", choices={"up": lambda features: features + 0.25},
    idle=("kernel", 1),
)  # fmt: skip
GLOBAL = Action(
    name="skip_image", after="reconstruction", sees_inputs=True,
    choices={"half": lambda features, inputs: features + 0.5 * inputs},
)  # fmt: skip
ADDED = (
    (ACTIVATIONS, "cosine", jnp.cos),  # not zero at zero, so that padding would show
    (NORMS, "rms", Norm(root_mean_square)),
    (NORMS, "halve", Norm(lambda images: images / 2, scaled=False)),
    (POOLS, "least", least),
    (DISTANCES, "l4", Distance(lambda a, b: jnp.mean((a - b) ** 4), lambda a, b: jnp.mean((a - b) ** 4, axis=-1))),
    (HYPOTHESES, "near_zero", HypothesisChoice(near_zero, NearZeroConfig)),
    *((EXTRA_ACTIONS, action.name, action) for action in (RESIDUAL, SHIFT, GLOBAL)),
)


@contextlib.contextmanager
def added():
    """What `add` and `add_action` do, for as long as the context lasts, so that no other test meets it."""
    with contextlib.ExitStack() as stack:
        for table, name, entry in ADDED:
            stack.enter_context(table.temporarily(name, entry))
        yield


def space(**fields):
    fields = {
        "num_layers": 2, "channels": (3, 20), "kernels": (1, 3), "pool_kernels": (1, 3),
        "activations": ("relu", "cosine"), "norms": ("none", "batch", "rms", "halve"), "pools": ("max", "least"),
        "distances": ("l2", "l4"), "hypotheses": ("centroid", "near_zero"),
        "extra": ("residual", "skip_image", "shift"),
    } | fields  # fmt: skip
    return SearchSpace(**fields)


def layer(channels=20, residual="none", shift="none", **fields):
    fields = {"kernel": 3, "pool": "least", "pool_kernel": 1, "norm": "rms", "activation": "cosine"} | fields
    return Layer(channels=channels, extra={"residual": residual, "shift": shift}, **fields)


def child(*layers, hypothesis="near_zero", distance="l4", skip="none"):
    return Architecture(hypothesis=hypothesis, distance=distance, layers=layers, extra={"skip_image": skip})


CHILDREN = {
    "all that is new": lambda: child(layer(), layer(residual="gated", shift="up"), skip="half"),
    "other sizes": lambda: child(
        layer(3, residual="add", norm="halve", pool_kernel=3), layer(residual="add", norm="batch"), distance="l2+l4"
    ),
    "one kind of layer": lambda: child(layer(residual="gated"), layer(residual="add"), hypothesis="centroid"),
    "nothing new": lambda: child(
        *[layer(norm="none", pool="max", activation="relu")] * 2, hypothesis="centroid", distance="l2"
    ),
}
