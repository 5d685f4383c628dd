"""What a competent user writes first: one `jax.jit` per architecture, library operations, default options.

The yardstick of `search_throughput.py`, and an independent reading of a child: convolutions, pooling and normalisation
are XLA's or NumPy's own, differentiated automatically. Only the objective and the metric are jaxad's, as a user's
would be.
"""

import functools
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxad.nas import trial
from jaxad.nas.trial import Job, Result, Reward, TrialConfig, TrialData
from jaxad.nn.architecture import Architecture, Layer
from jaxad.nn.objectives import Hypothesis, make_hypothesis
from jaxad.nn.objectives.child import ChildConfig, make_optimiser
from jaxad.nn.objectives.distances import get_distance
from jaxad.types import Array, Params

ACTIVATIONS = {
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "linear": lambda x: x,
    "softplus": jax.nn.softplus,
    "leaky_relu": jax.nn.leaky_relu,
    "relu6": jax.nn.relu6,
    "elu": jax.nn.elu,
}


def conv(x: Array, kernel: Array) -> Array:
    """[B, H, W, I], [k, k, I, O] -> [B, H, W, O]."""
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def pool(x: Array, kind: str, size: int) -> Array:
    """Windows of size x size side by side; those over the edge see true pixels only."""
    if size == 1:
        return x
    window = (1, size, size, 1)
    padding = [(0, 0), *((0, -length % size) for length in x.shape[1:3]), (0, 0)]
    if kind == "max":
        return lax.reduce_window(x, -jnp.inf, lax.max, window, window, padding)
    ones = jnp.ones((1, *x.shape[1:3], 1))
    count = lax.reduce_window(ones, 0.0, lax.add, window, window, padding)
    return lax.reduce_window(x, 0.0, lax.add, window, window, padding) / count


def upsample(x: Array, size: int, height: int, width: int) -> Array:
    """Every pixel repeated size x size times, cropped."""
    if size == 1:
        return x
    return jnp.repeat(jnp.repeat(x, size, axis=1), size, axis=2)[:, :height, :width]


def finish(x: Array, layer: Layer, weights: Params) -> Array:
    """Normalisation, scale and offset, activation."""
    axes = {"batch": (0, 1, 2), "instance": (1, 2), "none": ()}[layer.norm]
    if axes and (layer.norm == "batch" or x.shape[1] * x.shape[2] > 1):
        x = (x - jnp.mean(x, axes, keepdims=True)) / jnp.sqrt(jnp.var(x, axes, keepdims=True) + 1e-5)
    if axes:
        x = x * weights["scale"][None, None, None]
    return ACTIVATIONS[layer.activation](x + weights["offset"][None, None, None])


def encode(architecture: Architecture, params: Params, x: Array) -> tuple[Array, list[tuple[int, int]]]:
    """Images [B, H, W, C] to the latent map, and the (H, W) that each layer received."""
    sizes = []
    for layer, weights in zip(architecture.layers, params["encoder"]):
        sizes.append(x.shape[1:3])
        x = finish(pool(conv(x, weights["kernel"]), layer.pool, layer.pool_kernel), layer, weights)
    return x, sizes


def project(params: Params, latent: Array) -> Array:
    """Latent map to the vector [B, d] that the hypotheses look at."""
    return jnp.mean(latent, axis=(1, 2)) @ params["projection"]["kernel"] + params["projection"]["bias"][None]


def autoencode(architecture: Architecture, params: Params, images: Array) -> tuple[Array, Array]:
    """Images to (reconstruction [B, H, W, C], vector [B, d])."""
    x, sizes = encode(architecture, params, images)
    vector = project(params, x)
    for layer, weights, size in reversed(list(zip(architecture.layers, params["decoder"], sizes))):
        x = upsample(finish(conv(x, weights["kernel"]), layer, weights), layer.pool_kernel, *size)
    return x, vector


def loss(architecture: Architecture, config: ChildConfig, params: Params, images: Array, step: Array) -> Array:
    """Eq. 2 for a batch: mean distance + lambda times the hypothesis."""
    distances, errors, vector = _measure(architecture, params, images)
    regulariser = make_hypothesis(architecture.hypothesis).loss(params["hypothesis"], vector, errors, step)
    return jnp.mean(distances) + config.regulariser * regulariser


def score(architecture: Architecture, config: ChildConfig, params: Params, stats: Any, images: Array) -> Array:
    """Eq. 2 for each image, [B]."""
    distances, errors, vector = _measure(architecture, params, images)
    return distances + config.regulariser * make_hypothesis(architecture.hypothesis).score(
        params["hypothesis"], stats, vector, errors
    )


def _measure(architecture: Architecture, params: Params, images: Array) -> tuple[Array, Array, Array]:
    reconstruction, vector = autoencode(architecture, params, images)
    distances = jax.vmap(get_distance(architecture.distance).score)(reconstruction, images)
    return distances, jnp.mean(jnp.square(reconstruction - images), axis=(1, 2, 3)), vector


class NaiveJax:
    """One child after another, each compiled when its turn comes. Called as jaxad's executors are.

    What does not depend on the architecture (batch order, start and statistics of a hypothesis, reward) is compiled
    once for all children; three programs a child remain, and the start of its optimiser.
    """

    def __init__(self, data: TrialData, config: TrialConfig) -> None:
        self._data, self._config = data, config
        self.batch_size = config.batch_size
        self._optimiser = make_optimiser(config.child, config.steps)
        self._order = jax.jit(lambda key: trial.batch_order(key, data.train.shape[0], config.steps, config.batch_size))
        self._window = jax.jit(lambda images, index: trial.window(images, index, config.batch_size))
        self._reward_of = jax.jit(lambda scores, labels, loss: trial.reward_of(scores, labels, loss, config.reward))

    def __call__(self, jobs: Sequence[Job]) -> Iterator[Result]:
        """Train and evaluate the jobs in order."""
        for job in jobs:
            yield self._run(job)

    def close(self) -> None:
        """Nothing to end."""

    def _run(self, job: Job) -> Result:
        started = time.perf_counter()
        data, config = self._data, self._config
        keys = trial.trial_keys(job.key)
        order = np.asarray(self._order(keys.order))
        params = jax.device_put(job.params)
        hypothesis = _jitted(job.architecture.hypothesis)

        @jax.jit
        def latents(params: Params, images: Array) -> Array:
            return project(params, encode(job.architecture, params, images)[0])

        @functools.partial(jax.jit, donate_argnums=(0, 1))
        def step(params: Params, state: Any, train: Array, rows: Array, number: Array) -> tuple[Params, Any, Array]:
            images = trial.to_float(train[rows])
            value, gradients = jax.value_and_grad(loss, 2)(job.architecture, config.child, params, images, number)
            updates, state = self._optimiser.update(gradients, state, params)
            return optax.apply_updates(params, updates), state, value

        vectors = latents(params, trial.to_float(data.train[order[0]]))
        params = params | {"hypothesis": hypothesis.init(keys.hypothesis, vectors)}
        state = jax.jit(self._optimiser.init)(params)
        for number, rows in enumerate(order):
            params, state, value = step(params, state, data.train, rows, np.int32(number))

        network = {name: params[name] for name in job.params}
        count, known = trial.fit_windows(config, data.train.shape[0], self.batch_size)
        vectors = [latents(network, self._window(data.train, index)) for index in range(count)]
        stats = hypothesis.fit(params["hypothesis"], jnp.concatenate(vectors)[:known])
        child_score = jax.jit(functools.partial(score, job.architecture, config.child))
        count = trial.batches(data.valid.shape[0], self.batch_size)
        scores = [child_score(params, stats, self._window(data.valid, index)) for index in range(count)]
        scores = jnp.concatenate(scores)[: data.valid.shape[0]]
        reward: Reward = jax.device_get(self._reward_of(scores, data.valid_labels, value))
        return Result(jax.device_get(network), reward, None, self.batch_size, time.perf_counter() - started)


@functools.cache
def _jitted(name: str) -> Hypothesis:
    hypothesis = make_hypothesis(name)
    return hypothesis._replace(init=jax.jit(hypothesis.init), fit=jax.jit(hypothesis.fit))
