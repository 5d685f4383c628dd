"""One child after another, from kernels that all children share: the executor for CPUs, and for single children.

The same function plans and runs a child. A dry run with shapes tells which kernels it needs; they are compiled on
background threads while the children before it train.
"""

import functools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxad.metrics.pixel_jax import PixelTruth
from jaxad.nas import trial
from jaxad.nas.executors.blocks import Layout
from jaxad.nas.executors.kernels import CompileAhead, Kernel, Plan, Signature, launch
from jaxad.nas.executors.operations import ADD
from jaxad.nas.executors.tape import Blocks, Parameter, Tape
from jaxad.nas.trial import Job, Result, Reward, TrialConfig, TrialData
from jaxad.nn import autoencoder
from jaxad.nn.layers import NORMS
from jaxad.nn.objectives import HYPOTHESES, HypothesisChoice, make_hypothesis
from jaxad.nn.objectives.aggregates import AGGREGATES, image_score
from jaxad.nn.objectives.child import make_optimiser, squared_errors
from jaxad.nn.objectives.distances import DISTANCES, Distance, get_distance
from jaxad.types import Array, Key, Params


class Sequential:
    """Trains children one at a time: an executor whose kernels live as long as the process."""

    def __init__(self, data: TrialData, config: TrialConfig) -> None:
        self._data, self._config = data, config
        self._ahead = CompileAhead()

    @property
    def batch_size(self) -> int:
        """What children are run with unless memory is short."""
        return self._config.batch_size

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of what children see."""
        return self._data.train.shape[1:]

    @property
    def compiles(self) -> int:
        """Programs compiled, or loaded from the persistent cache, so far."""
        return self._ahead.count

    def watch(self, on_wait: Callable[[int], None]) -> None:
        """Have a function called with the number of programs that are to come, whenever they are waited for."""
        self._ahead.on_wait = on_wait

    def __call__(self, jobs: Sequence[Job]) -> Iterator[Result]:
        """Run the jobs in order, each yielded as it ends; all are planned, and start to compile, before the first."""
        return self._results(deque((job, self.prepare(job, self._config.batch_size)) for job in jobs))

    def _results(self, waiting: deque[tuple[Job, list[Signature]]]) -> Iterator[Result]:
        while waiting:
            job, signatures = waiting.popleft()

            def prepare(batch_size: int, job: Job = job, signatures: list[Signature] = signatures) -> None:
                same = batch_size == self._config.batch_size
                self._ahead.wait(signatures if same else self.prepare(job, batch_size))

            yield trial.halving_batches(functools.partial(self._run, job), self._config.batch_size, prepare)

    def prepare(self, job: Job, batch_size: int) -> list[Signature]:
        """Plan a child and start compiling what it needs; returns at once."""
        plan = Plan()
        self._program(plan, job, batch_size)
        self._ahead.submit(plan)
        return list(plan.signatures)

    def _run(self, job: Job, batch_size: int) -> tuple[Params, Reward]:
        params, reward = self._program(launch, job, batch_size)
        return params, jax.device_get(reward)

    def close(self) -> None:
        """End the background threads."""
        self._ahead.close()

    def _program(self, launch: Callable, job: Job, batch_size: int) -> tuple[Params, Reward]:
        """Train and evaluate one child; with a `Plan` in place of `launch`, say what that takes."""
        config, data, planning = self._config, self._data, isinstance(launch, Plan)
        architecture, params, key = job
        kernels = trial_kernels(config, batch_size)
        distance = distance_kernels(architecture.distance)
        to_score = score_kernel(architecture.distance, architecture.aggregate)
        hypothesis = hypothesis_kernels(architecture.hypothesis, config.child.regulariser)
        layers, extra, sizes = (
            architecture.layers,
            architecture.extra,
            autoencoder.sizes_of(architecture.layers, *data.train.shape[1:3]),
        )
        layout = Layout(architecture, data.train.shape[1:])
        weights = _parameters(launch, kernels.state, layout, params)

        def repeat(count: int) -> Iterator[np.int32]:
            # A dry run needs to see the body of a loop once.
            return map(np.int32, range(1 if planning else count))

        def as_input(images: Array) -> Blocks:
            return Blocks([images], layout.masks(0), is_input=True)

        def encode(
            images: Array, *, training: bool = False, frozen: list[Any] | None = None, seen: list[Any] | None = None
        ) -> tuple[Tape, Blocks, Blocks]:
            frozen = None if frozen is None else iter(frozen)
            tape = Tape(launch, kernels.update, recording=training, frozen=frozen, seen=seen)
            latent = autoencoder.encode(tape.ops, weights, layers, as_input(images), extra)
            return tape, latent, autoencoder.latent_vector(tape.ops, weights, latent)

        def decode(tape: Tape, latent: Blocks, images: Array) -> Blocks:
            return autoencoder.decode(tape.ops, weights, layers, sizes, latent, as_input(images), extra)

        # Start: the order of the images, and the hypothesis' first beliefs from the first latents.
        order, hypothesis_key = launch(kernels.start, key, data.train)
        *_, vector = encode(launch(kernels.batch, data.train, order, np.int32(0)))
        beliefs = launch(hypothesis.init, hypothesis_key, vector.values[0])
        beliefs = Parameter(beliefs, kernels.state(beliefs))

        # Train: each step ends with every parameter updated.
        for step in repeat(config.steps):
            images = launch(kernels.batch, data.train, order, step)
            tape, latent, vector = encode(images, training=True)
            output = decode(tape, latent, images)
            errors = launch(ERRORS, output.values[0], images)
            regulariser, gradients = launch(hypothesis.loss, beliefs.value, vector.values[0], errors, step)
            to_beliefs, to_vector, to_errors = gradients
            mean_distance, to_output = launch(distance.loss, output.values[0], images, to_errors)
            tape.receive(vector, [to_vector])
            tape.receive(output, [to_output])
            tape.backward()
            tape.train(beliefs, to_beliefs)
        loss = launch(ADD, mean_distance, regulariser)

        # Fix all statistics, then score the validation images, or draw the maps of their errors.
        frozen = None
        if config.statistics == "training" and any(NORMS[layer.norm].frozen for layer in layers):
            frozen, images = [], launch(kernels.batch, data.train, order, np.int32(0))
            tape, latent, _ = encode(images, seen=frozen)
            decode(tape, latent, images)
        if not config.of_pixels:
            count, known = trial.fit_windows(config, data.train.shape[0], batch_size)
            windows = (launch(kernels.window, data.train, index) for index in repeat(count))
            vectors = [encode(images, frozen=frozen)[2].values[0] for images in windows]
            stats = launch(fit_kernel(architecture.hypothesis, known), beliefs.value, (vectors * count)[:count])
        count, found = trial.batches(data.valid.shape[0], batch_size), []
        for index in repeat(count):
            images = launch(kernels.window, data.valid, index)
            tape, latent, vector = encode(images, frozen=frozen)
            output = decode(tape, latent, images).values[0]
            if config.of_pixels:
                found.append(launch(distance.map, output, images))
            else:
                distances, errors = launch(to_score, output, images), launch(ERRORS, output, images)
                found.append(launch(hypothesis.score, beliefs.value, stats, vector.values[0], errors, distances))
        reward = launch(kernels.reward, (found * count)[:count], trial.truth_of(data, config), loss)
        if planning:
            return params, reward
        return layout.join(jax.tree.map(lambda p: p.value, weights, is_leaf=_is_parameter), params), reward


def _is_parameter(node: Any) -> bool:
    return isinstance(node, Parameter)


def _parameters(launch: Callable, state: Callable, layout: Layout, params: Params) -> Params:
    """Blocks of parameters with fresh optimisers, as the tape wants them."""
    blocks = layout.split(params)
    if isinstance(launch, Plan):
        blocks = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), blocks)
    else:
        blocks = jax.device_put(blocks)
    weights = jax.tree.map(lambda value: Parameter(value, state(value)), blocks)
    for role, shift in (("encoder", 1), ("decoder", 0)):
        for position, layer in enumerate(weights[role]):
            for offset, kernel, mask in zip(layer["offset"], layer["kernel"][0], layout.masks(position + shift)):
                offset.mask = kernel.mask = mask
    return weights


# ---- kernels -----------------------------------------------------------------------------------------------------

ERRORS = Kernel(squared_errors)


class TrialKernels(NamedTuple):
    """Kernels that depend on how children are trained."""

    start: Kernel  # (key, train) -> order [steps, B], key of the hypothesis
    batch: Kernel  # (train, order, step) -> [B, H, W, C] float32
    window: Kernel  # (images, index) -> [B, H, W, C] float32
    state: Callable[[Any], Any]  # (value) -> fresh state of the optimiser
    update: Kernel  # (value, state, gradient) -> (value, state)
    reward: Kernel  # (scores or maps, labels or masks, loss) -> Reward


@functools.cache
def trial_kernels(config: TrialConfig, batch_size: int) -> TrialKernels:
    """The kernels of a trial; equal settings share them."""
    optimiser = make_optimiser(config.child, config.steps)

    def start(key: Key, train: Array) -> tuple[Array, Key]:
        # A clone, because a child that runs out of memory needs its key again.
        keys = trial.trial_keys(jax.random.clone(key))
        return trial.batch_order(keys.order, train.shape[0], config.steps, batch_size), keys.hypothesis

    def batch(train: Array, order: Array, step: Array) -> Array:
        return trial.to_float(train[order[step]])

    def window(images: Array, index: Array) -> Array:
        return trial.window(images, index, batch_size)

    def update(value: Any, state: Any, gradient: Any) -> tuple[Any, Any]:
        updates, state = optimiser.update(gradient, state, value)
        return optax.apply_updates(value, updates), state

    def reward(found: list[Array], truth: Array | PixelTruth, loss: Array) -> Reward:
        images = jax.tree.leaves(truth)[0].shape[0]
        return trial.reward_of(jnp.concatenate(found)[:images], truth, loss, config.reward)

    def state(value: Any) -> Any:
        # Adam and momentum begin with zeros, which need no program.
        return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(optimiser.init, value))

    return TrialKernels(
        Kernel(start), Kernel(batch), Kernel(window), state, Kernel(update, donate=(0, 1)), Kernel(reward)
    )


class DistanceKernels(NamedTuple):
    """Kernels of a distance."""

    loss: Kernel  # (x_hat, x, gradient of the errors) -> (mean distance, gradient of x_hat)
    map: Kernel  # (x_hat, x) -> [B, H, W]


def distance_kernels(name: str) -> DistanceKernels:
    """The kernels of a distance, which also carry the gradient of the squared errors back."""
    return _distance_kernels(name, tuple(DISTANCES[part.strip()] for part in name.split("+")))


@functools.cache
def _distance_kernels(name: str, meaning: tuple[Distance, ...]) -> DistanceKernels:
    distance = get_distance(name)
    score, to_map = jax.vmap(distance.score), jax.vmap(distance.map)

    def loss(x_hat: Array, x: Array, to_errors: Array) -> tuple[Array, Array]:
        def both(x_hat: Array) -> tuple[Array, Array]:
            return jnp.mean(score(x_hat, x)), squared_errors(x_hat, x)

        (mean, _), back = jax.vjp(both, x_hat)
        return mean, back((jnp.ones_like(mean), to_errors))[0]

    return DistanceKernels(Kernel(loss, name=f"{name}.loss"), Kernel(to_map, name=f"{name}.map"))


def score_kernel(distance: str, aggregate: str) -> Kernel:
    """(x_hat, x) -> [B] of a distance by an aggregate."""
    parts = tuple(DISTANCES[part.strip()] for part in distance.split("+"))
    return _score_kernel(distance, aggregate, (*parts, AGGREGATES[aggregate]))


@functools.cache
def _score_kernel(distance: str, aggregate: str, meaning: tuple[Any, ...]) -> Kernel:
    return Kernel(jax.vmap(image_score(get_distance(distance), aggregate)), name=f"{distance}.{aggregate}.score")


class HypothesisKernels(NamedTuple):
    """Kernels of a hypothesis, weighted by lambda."""

    init: Kernel  # (key, z) -> beliefs
    loss: Kernel  # (beliefs, z, errors, step) -> (lambda REG, gradients of beliefs, z and errors)
    score: Kernel  # (beliefs, statistics, z, errors, distances) -> [B], DIST + lambda REG


def hypothesis_kernels(name: str, weight: float) -> HypothesisKernels:
    """The kernels of a hypothesis of weight lambda."""
    return _hypothesis_kernels(name, weight, HYPOTHESES[name])


@functools.cache
def _hypothesis_kernels(name: str, weight: float, meaning: HypothesisChoice) -> HypothesisKernels:
    hypothesis = make_hypothesis(name)

    def loss(beliefs: Any, vector: Array, errors: Array, step: Array) -> Array:
        return weight * hypothesis.loss(beliefs, vector, errors, step)

    def score(beliefs: Any, stats: Any, vector: Array, errors: Array, distances: Array) -> Array:
        return distances + weight * hypothesis.score(beliefs, stats, vector, errors)

    kernels = {"init": hypothesis.init, "loss": jax.value_and_grad(loss, (0, 1, 2)), "score": score}
    return HypothesisKernels(**{role: Kernel(kernel, name=f"{name}.{role}") for role, kernel in kernels.items()})


def fit_kernel(name: str, images: int) -> Kernel:
    """(beliefs, [z, ...]) -> statistics of a hypothesis on the first so many latents."""
    return _fit_kernel(name, images, HYPOTHESES[name])


@functools.cache
def _fit_kernel(name: str, images: int, meaning: HypothesisChoice) -> Kernel:
    hypothesis = make_hypothesis(name)
    return Kernel(
        lambda beliefs, vectors: hypothesis.fit(beliefs, jnp.concatenate(vectors)[:images]), name=f"{name}.fit"
    )
