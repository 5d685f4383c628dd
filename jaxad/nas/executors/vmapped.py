"""Children of equal shape side by side: the executor for accelerators.

Two architectures have equal shape when their layers agree in channels, kernel and pooling size. All else (pool type,
normalisation, activation, hypothesis, distance) is a run-time choice, so that one compiled program trains and judges
any group of them: a population axis, divided over the devices, around a scan over the training steps. A batched
branch computes all its options and selects one, also on the way back: an option that is not chosen cannot leak NaN.
"""

import collections
import functools
import itertools
import operator
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxad._utils.compile import kernel_options
from jaxad.nas import trial
from jaxad.nas.trial import Job, Result, TrialConfig, TrialData, Verdict
from jaxad.nn import autoencoder
from jaxad.nn import layers as nn
from jaxad.nn.architecture import Architecture
from jaxad.nn.objectives import HYPOTHESES, Hypothesis, make_hypothesis
from jaxad.nn.objectives.child import make_optimiser, objective
from jaxad.nn.objectives.distances import DISTANCES, Distance
from jaxad.training import parallel
from jaxad.types import Array, Key, Params

LIVE_PROGRAMS = 32  # a search of many shapes must not keep the program of every one of them

Shape = tuple[tuple[int, int, int], ...]  # (channels, kernel, pool_kernel) of every layer


def shape_of(architecture: Architecture) -> Shape:
    """What a program is compiled for; architectures of equal shape can train side by side."""
    return tuple((layer.channels, layer.kernel, layer.pool_kernel) for layer in architecture.layers)


class Choices(NamedTuple):
    """What members of equal shape may differ in, as numbers; layers are stacked."""

    hypothesis: Array  # index among HYPOTHESES
    distance: Array  # [4] how often each of DISTANCES is summed
    pool: Array  # [N] indices among POOLS
    norm: Array  # [N] ... among NORMS
    activation: Array  # [N] ... among ACTIVATIONS


def choices_of(architecture: Architecture) -> Choices:
    """The run-time choices of an architecture, on the host."""

    def indices(options: Any, names: Sequence[str]) -> np.ndarray:
        return np.asarray([list(options).index(name) for name in names], np.int32)

    layers = architecture.layers
    parts = [part.strip() for part in architecture.distance.split("+")]
    return Choices(
        indices(HYPOTHESES, [architecture.hypothesis])[0],
        np.asarray([parts.count(name) for name in DISTANCES], np.int32),
        indices(nn.POOLS, [layer.pool for layer in layers]),
        indices(nn.NORMS, [layer.norm for layer in layers]),
        indices(nn.ACTIVATIONS, [layer.activation for layer in layers]),
    )


# ---- one member --------------------------------------------------------------------------------------------------


class RuntimeLayer(NamedTuple):
    """What `autoencoder.apply` asks of a layer: a size, and choices as numbers."""

    pool_kernel: int
    pool: Array
    norm: Array
    activation: Array


def runtime_distance(counts: Array) -> Distance:
    """The sum of all distances of which `counts` [4] is not zero."""

    def total(kind: str, x_hat: Array, x: Array) -> Array:
        options = [getattr(distance, kind) for distance in DISTANCES.values()]
        zero = jnp.zeros_like(jax.eval_shape(options[0], x_hat, x))
        # Conditions, not products: a distance that overflows must not reach a child that did not ask for it.
        values = [lax.cond(counts[i] > 0, option, lambda *_: zero, x_hat, x) for i, option in enumerate(options)]
        return sum(counts[i] * value for i, value in enumerate(values))

    return Distance(functools.partial(total, "score"), functools.partial(total, "map"))


def runtime_hypothesis(choice: Array) -> Hypothesis:
    """The hypothesis of index `choice`; parameters and statistics hold those of all four, by name."""
    options = {name: make_hypothesis(name) for name in HYPOTHESES}

    def init(key: Key, z: Array) -> Params:
        # Clones: of the four only the chosen one is ever used, and it must start as it does alone.
        return {name: option.init(jax.random.clone(key), z) for name, option in options.items()}

    def select(call: Callable[[str, Hypothesis], Callable[..., Array]], *operands: Any) -> Array:
        return lax.switch(choice, [call(name, option) for name, option in options.items()], *operands)

    def loss(params: Params, z: Array, errors: Array, step: Array) -> Array:
        return select(lambda name, option: lambda p, *rest: option.loss(p[name], *rest), params, z, errors, step)

    def fit(params: Params, z: Array) -> Any:
        return {name: option.fit(params[name], z) for name, option in options.items()}

    def score(params: Params, stats: Any, z: Array, errors: Array) -> Array:
        return select(
            lambda name, option: lambda p, s, *rest: option.score(p[name], s[name], *rest), params, stats, z, errors
        )

    return Hypothesis(init, loss, fit, score)


def train_and_judge(
    shape: Shape, config: TrialConfig, batch_size: int, network: Params, choices: Choices, key: Key, data: TrialData
) -> tuple[Params, Verdict]:
    """Train one child and reward it, as one program without host syncs.

    Args:
      network: weights as of `supernet.take`, but with a "scale" in every layer.
      key: consumed.

    Returns:
      The trained network, and the verdict.
    """
    keys = trial.trial_keys(key)
    layers = [
        RuntimeLayer(size, *choice)
        for (_, _, size), *choice in zip(shape, choices.pool, choices.norm, choices.activation)
    ]
    hypothesis, distance = runtime_hypothesis(choices.hypothesis), runtime_distance(choices.distance)
    child = objective(layers, distance, hypothesis, config.child)
    order = trial.batch_order(keys.order, data.train.shape[0], config.steps, batch_size)
    optimiser = make_optimiser(config.child, config.steps)

    first = trial.to_float(data.train[order[0]])
    params = network | {"hypothesis": child.start(keys.hypothesis, network, first)}

    def train(carry: tuple[Params, Any], numbered: tuple[Array, Array]) -> tuple[tuple[Params, Any], Array]:
        params, state = carry
        step, rows = numbered
        gradient = jax.value_and_grad(child.loss, has_aux=True)
        (loss, _), gradients = gradient(params, trial.to_float(data.train[rows]), step)
        updates, state = optimiser.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state), loss

    steps = jnp.arange(config.steps, dtype=jnp.int32)
    (params, _), losses = lax.scan(train, (params, optimiser.init(params)), (steps, order))

    def latents(index: Array) -> Array:
        images = trial.window(data.train, index, batch_size)
        return autoencoder.apply(params, layers, images, with_decoder=False).latent

    batches, known = trial.fit_windows(config, data.train.shape[0], batch_size)
    stats = hypothesis.fit(params["hypothesis"], jnp.concatenate(lax.map(latents, jnp.arange(batches)))[:known])

    def look(index: Array) -> Array:
        images = trial.window(data.valid, index, batch_size)
        if not config.of_pixels:
            return child.score(params, stats, images)
        return jax.vmap(distance.map)(child.apply(params, images).reconstruction, images)

    images = data.valid.shape[0]
    found = lax.map(look, jnp.arange(trial.batches(images, batch_size)))
    found = found.reshape(-1, *found.shape[2:])[:images]
    verdict = trial.judge(found, trial.truth_of(data, config), losses[-1], config.reward)
    return {name: params[name] for name in network}, verdict


# ---- the executor ------------------------------------------------------------------------------------------------


class Vmapped:
    """Trains children of equal shape side by side: an executor with one program per shape and size of group.

    A group that does not fit into memory halves its batch as a whole.

    Args:
      devices: to divide every group over; by default all.
    """

    def __init__(self, data: TrialData, config: TrialConfig, devices: Sequence[jax.Device] | None = None) -> None:
        self._config = config
        self._mesh = parallel.population_mesh(devices)
        self._data = parallel.replicate(data, self._mesh)
        self._workers = os.cpu_count() or 1
        self._pool = futures.ThreadPoolExecutor(self._workers, thread_name_prefix="compile")
        self._programs: collections.OrderedDict[Any, futures.Future] = collections.OrderedDict()
        self._compiles = 0

    @property
    def batch_size(self) -> int:
        """Images of a step, unless memory is too small for a group."""
        return self._config.batch_size

    @property
    def compiles(self) -> int:
        """Programs compiled, or loaded from the persistent cache, so far."""
        return self._compiles

    def __call__(self, jobs: Sequence[Job]) -> Iterator[Result]:
        """Run the jobs group by group; results in the order of the jobs, each as soon as those before it are there.

        Groups start in the order of their first jobs; while one runs, the programs of the next are compiled.
        """
        groups = collections.defaultdict(list)
        for index, job in enumerate(jobs):
            groups[shape_of(job.architecture), jax.random.key_impl(job.key)].append(index)
        waiting = collections.deque(groups.values())
        results: dict[int, Result] = {}
        following = 0
        while waiting:
            for members in itertools.islice(waiting, 1 + self._workers):
                self._program([jobs[index] for index in members], self._config.batch_size)
            members = waiting.popleft()
            results |= zip(members, self._run_group([jobs[index] for index in members]))
            while following in results:
                yield results.pop(following)
                following += 1

    def close(self) -> None:
        """End the background threads and drop the programs."""
        self._pool.shutdown(cancel_futures=True)
        self._programs.clear()

    def _run_group(self, group: Sequence[Job]) -> Iterator[Result]:
        batch_size = self._config.batch_size
        result = trial.halving_batches(
            functools.partial(self._run, group), batch_size, lambda size: futures.wait([self._program(group, size)])
        )
        seconds = result.seconds / len(group)
        for index, job in enumerate(group):
            if result.params is None:
                yield result._replace(seconds=seconds)
                continue
            params, verdict = jax.tree.map(operator.itemgetter(index), (result.params, result.verdict))
            yield result._replace(params=without_idle_scales(params, job.params), verdict=verdict, seconds=seconds)

    def _run(self, group: Sequence[Job], batch_size: int) -> tuple[Params, Verdict]:
        program = self._program(group, batch_size).result()
        return parallel.gather(program(*parallel.shard_population(self._stack(group), self._mesh), self._data))

    def _stack(self, group: Sequence[Job]) -> tuple[Params, Choices, np.ndarray]:
        """Networks, choices and key data with a leading population axis, filled up with the first member."""
        jobs = [*group, *[group[0]] * (self._padded(len(group)) - len(group))]
        members = [
            (with_all_scales(job.params), choices_of(job.architecture), np.asarray(jax.random.key_data(job.key)))
            for job in jobs
        ]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *members)

    def _padded(self, members: int) -> int:
        """The next power of two on every device: few sizes, few programs."""
        share = -(-members // self._mesh.size)
        return self._mesh.size * 2 ** (share - 1).bit_length()

    def _program(self, group: Sequence[Job], batch_size: int) -> futures.Future:
        """The program of a group, which starts to compile where there is none."""
        shape, impl = shape_of(group[0].architecture), jax.random.key_impl(group[0].key)
        signature = (shape, impl, self._padded(len(group)), batch_size)
        if signature not in self._programs:
            self._compiles += 1
            self._programs[signature] = self._pool.submit(self._compile, shape, impl, batch_size, self._stack(group))
        self._programs.move_to_end(signature)
        while len(self._programs) > max(LIVE_PROGRAMS, 1 + self._workers):
            self._programs.popitem(last=False)
        return self._programs[signature]

    def _compile(self, shape: Shape, impl: Any, batch_size: int, members: Any) -> Callable[..., Any]:
        def member(network: Params, choices: Choices, key_data: Array, data: TrialData) -> tuple[Params, Verdict]:
            key = jax.random.wrap_key_data(key_data, impl=impl)
            return train_and_judge(shape, self._config, batch_size, network, choices, key, data)

        population = parallel.population_map(member, self._mesh, shared=[3])
        jitted = jax.jit(population, donate_argnums=0, compiler_options=kernel_options() or None)
        return jitted.lower(*parallel.population_shapes(members, self._mesh), self._data).compile()


def with_all_scales(params: Params) -> Params:
    """Weights of one structure for all: layers that do not normalise get scales of one, which nothing reads."""

    def complete(layer: Params) -> Params:
        return {"scale": np.ones_like(layer["offset"])} | layer

    return params | {role: [complete(layer) for layer in params[role]] for role in ("encoder", "decoder")}


def without_idle_scales(params: Params, like: Params) -> Params:
    """Weights with the structure of `like`: undoes `with_all_scales`."""
    trimmed = {
        role: [{name: layer[name] for name in wanted} for layer, wanted in zip(params[role], like[role])]
        for role in ("encoder", "decoder")
    }
    return params | trimmed
