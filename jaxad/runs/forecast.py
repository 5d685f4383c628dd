"""What a search will take on this machine, said before it starts: a convolution is timed, the rest is arithmetic."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxad.nas.space import SearchSpace
from jaxad.nas.trial import TrialConfig
from jaxad.nn.conv import conv
from jaxad.nn.cost import flops
from jaxad.runs.inputs import Inputs

SAMPLE = 64  # architectures of the space that stand for all
PASSES = 3  # a training step costs so many passes forward: one, and two for the gradients
CHANNELS = 16  # of the convolution that is timed
PROGRAMS = 8.0  # a child compiles about as long as so many programs of one convolution and its gradients


class Rate(NamedTuple):
    """What this machine does with a convolution as children have them."""

    flops: float  # a second
    compiling: float  # seconds to compile, or to load, the program


class Forecast(NamedTuple):
    """Of children of a search, on average."""

    compute: float  # seconds of training and scoring one
    compiling: float  # seconds until its programs are there
    megabytes: float  # images or features that all of them share, on the device

    def sentence(self, children: int, budget: float | None) -> str:
        """What to expect, and what to change where there is not time enough."""
        each = self.compute + self.compiling
        text = f"about {_time(children * each)}: {each:.1f} s a child, {self.compiling:.1f} of them compiling"
        text += f", and {self.megabytes:.0f} MB of images"
        if budget is not None and children * each > budget:
            text += f"; time_budget {budget:.0f} s is enough for about {max(1, int(budget / each))} children"
        return text


def forecast(inputs: Inputs, space: SearchSpace, settings: TrialConfig) -> Forecast:
    """What children drawn uniformly from a space will take, one after another, on these inputs.

    Their operations are counted and this machine's rate is measured, in a second. Rates of other layers than the one
    that is timed differ, so a forecast is good to a factor of two.
    """
    several = isinstance(inputs.images, Mapping)
    images = inputs.images if several else {space.inputs[0]: inputs.images}
    tokens = np.random.default_rng(0).integers(0, space.choices_per_token, (SAMPLE, space.num_tokens))
    drawn = [space.to_architecture(row) for row in tokens]
    passes = {
        name: PASSES * settings.steps * min(settings.batch_size, len(data.train))
        + min(settings.fit_images, len(data.train))
        + len(data.valid)
        for name, data in images.items()
    }
    work = float(np.mean([flops(child, inputs.shapes) * passes[child.input] for child in drawn]))
    largest = max((data.train for data in images.values()), key=lambda train: train[0].size)
    rate = measured(largest.shape[1:3], min(settings.batch_size, len(largest)))
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(inputs.images))
    return Forecast(work / rate.flops, PROGRAMS * rate.compiling, held / 1e6)


def measured(size: tuple[int, int], batch: int, *, rounds: int = 3) -> Rate:
    """The rate of a convolution of 3x3 and its gradients on images of that size."""
    images = jnp.ones((batch, *size, CHANNELS))
    kernel = jnp.full((3, 3, CHANNELS, CHANNELS), 0.01)

    def loss(images: Any, kernel: Any) -> Any:
        return jnp.sum(jnp.square(conv(images, kernel)))

    started = time.perf_counter()
    program = jax.jit(jax.grad(loss, (0, 1))).lower(images, kernel).compile()
    compiling = time.perf_counter() - started
    seconds = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        jax.block_until_ready(program(images, kernel))
        seconds.append(time.perf_counter() - started)
    operations = PASSES * 2 * batch * size[0] * size[1] * 9 * CHANNELS**2
    return Rate(operations / min(seconds[1:]), compiling)


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
