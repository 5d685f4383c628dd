"""Children of equal shape side by side: the executor for accelerators.

Two architectures have equal shape when their layers agree in channels, kernel and pooling size. All else (pool type,
normalisation, activation, hypothesis, distance, aggregate, further actions) is a run-time choice, so that one compiled
program trains and evaluates any group of them: a population axis, divided over the devices, around a scan over the
training steps. A batched branch computes all its options and selects one, also on the way back: an option that is not
chosen cannot leak NaN.
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
from jaxad.nas.executors import runtime
from jaxad.nas.trial import Job, Result, Reward, TrialConfig, TrialData
from jaxad.nn import autoencoder
from jaxad.nn.choices import OneOf
from jaxad.nn.objectives.child import make_optimiser, objective
from jaxad.training import parallel
from jaxad.types import Array, Key, Params

LIVE_PROGRAMS = 32  # a search of many shapes must not keep the program of every one of them


def train_and_evaluate(
    shape: runtime.Shape,
    options: runtime.Options,
    config: TrialConfig,
    batch_size: int,
    network: Params,
    chosen: runtime.Chosen,
    key: Key,
    data: TrialData,
) -> tuple[Params, Reward]:
    """Train one child and reward it, as one program without host syncs.

    Args:
      options: among which names `chosen` chooses.
      network: weights as of `supernet.take`, but with all vectors of `options` in every layer.
      key: consumed.

    Returns:
      The trained network, and the reward.
    """
    keys = trial.trial_keys(key)
    layers, extra = runtime.layers_of(shape, options, chosen), runtime.extra_of("child", options, chosen)
    hypothesis = runtime.hypothesis_of(chosen.hypothesis, options.hypothesis)
    distance = runtime.distance_of(chosen.distance, options.distance)
    aggregate = OneOf(options.aggregate, chosen.aggregate)
    child = objective(layers, distance, hypothesis, config.child, aggregate=aggregate, extra=extra)
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

    moments = child.apply(params, first).moments if config.statistics == "training" else None

    def latents(index: Array) -> Array:
        images = trial.window(data.train, index, batch_size)
        return autoencoder.apply(params, layers, images, extra=extra, moments=moments, with_decoder=False).latent

    batches, known = trial.fit_windows(config, data.train.shape[0], batch_size)
    stats = hypothesis.fit(params["hypothesis"], jnp.concatenate(lax.map(latents, jnp.arange(batches)))[:known])

    def look(index: Array) -> Array:
        images = trial.window(data.valid, index, batch_size)
        if not config.of_pixels:
            return child.score(params, stats, images, moments)
        return jax.vmap(distance.map)(child.apply(params, images, moments).reconstruction, images)

    images = data.valid.shape[0]
    found = lax.map(look, jnp.arange(trial.batches(images, batch_size)))
    found = found.reshape(-1, *found.shape[2:])[:images]
    reward = trial.reward_of(found, trial.truth_of(data, config), losses[-1], config.reward)
    return {name: params[name] for name in network}, reward


# ---- the executor ------------------------------------------------------------------------------------------------


class Population(NamedTuple):
    """Jobs, in groups of equal shape."""

    jobs: Sequence[Job]
    options: runtime.Options  # of all of them
    waiting: collections.deque[list[int]]  # places of the jobs of each group that has not run yet
    number: int = 0  # by which other hosts know it


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
        self._on_wait: Callable[[int], None] = lambda left: None

    @property
    def batch_size(self) -> int:
        """Images of a step, unless memory is too small for a group."""
        return self._config.batch_size

    @property
    def compiles(self) -> int:
        """Programs compiled, or loaded from the persistent cache, so far."""
        return self._compiles

    def watch(self, on_wait: Callable[[int], None]) -> None:
        """Have a function called with the number of programs to come, when they are waited for, and with 0 after that.

        A program trains a whole group, so that either takes a while.
        """
        self._on_wait = on_wait

    def __call__(self, jobs: Sequence[Job]) -> Iterator[Result]:
        """Run the jobs group by group; results in the order of the jobs, each as soon as those before it are there.

        Groups start in the order of their first jobs. Programs of the first groups start to compile at once, those of
        later ones while others run.
        """
        return self._results(self.begin(jobs))

    def begin(self, jobs: Sequence[Job]) -> Population:
        """The groups of some jobs, whose first programs start to compile."""
        # Of all jobs, so that the groups of a shape do not need a program each.
        options = runtime.options_of([job.architecture for job in jobs])
        groups = collections.defaultdict(list)
        for index, job in enumerate(jobs):
            groups[runtime.shape_of(job.architecture), jax.random.key_impl(job.key)].append(index)
        population = Population(jobs, options, collections.deque(groups.values()))
        self._compile_next(population)
        return population

    def run_next(self, population: Population) -> dict[int, Result]:
        """Run the group that comes next; results by the places of its jobs."""
        self._compile_next(population)
        members = population.waiting.popleft()
        group = [population.jobs[index] for index in members]
        return dict(zip(members, self._run_group(group, population.options), strict=True))

    def _compile_next(self, population: Population) -> None:
        """Start to compile what the groups that come next need."""
        for members in itertools.islice(population.waiting, 1 + self._workers):
            group = [population.jobs[index] for index in members]
            self._program(group, population.options, self._config.batch_size)

    def _results(self, population: Population) -> Iterator[Result]:
        results: dict[int, Result] = {}
        following = 0
        while population.waiting:
            results |= self.run_next(population)
            while following in results:
                yield results.pop(following)
                following += 1

    def close(self) -> None:
        """End the background threads and drop the programs."""
        self._pool.shutdown(cancel_futures=True)
        self._programs.clear()

    def _run_group(self, group: Sequence[Job], options: runtime.Options) -> Iterator[Result]:
        result = trial.halving_batches(
            functools.partial(self._run, group, options),
            self._config.batch_size,
            lambda size: self._wait(self._program(group, options, size)),
        )
        seconds = result.seconds / len(group)
        for index, job in enumerate(group):
            if result.params is None:
                yield result._replace(seconds=seconds)
                continue
            params, reward = jax.tree.map(operator.itemgetter(index), (result.params, result.reward))
            yield result._replace(params=without_idle_vectors(params, job.params), reward=reward, seconds=seconds)

    def _wait(self, program: futures.Future) -> None:
        """Until it is there, or has failed; which of these is found out by who runs it."""
        if not program.done():
            self._on_wait(sum(not each.done() for each in self._programs.values()))
            futures.wait([program])
        self._on_wait(0)

    def _run(self, group: Sequence[Job], options: runtime.Options, batch_size: int) -> tuple[Params, Reward]:
        return parallel.gather(self._train(group, options, batch_size))

    def _train(self, group: Sequence[Job], options: runtime.Options, batch_size: int) -> tuple[Params, Reward]:
        """What the program of a group returns, still divided over the devices."""
        program = self._program(group, options, batch_size).result()
        return program(*parallel.shard_population(self._stack(group, options), self._mesh), self._data)

    def _stack(self, group: Sequence[Job], options: runtime.Options) -> tuple[Params, runtime.Chosen, np.ndarray]:
        """Networks, choices and key data with a leading population axis, filled up with the first member."""
        jobs = [*group, *[group[0]] * (self._padded(len(group)) - len(group))]
        members = [
            (
                with_all_vectors(job.params, options),
                runtime.choices_of(job.architecture, options),
                np.asarray(jax.random.key_data(job.key)),
            )
            for job in jobs
        ]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *members)

    def _padded(self, members: int) -> int:
        """The next power of two on every device: few sizes, few programs."""
        share = -(-members // self._mesh.size)
        return self._mesh.size * 2 ** (share - 1).bit_length()

    def _program(self, group: Sequence[Job], options: runtime.Options, batch_size: int) -> futures.Future:
        """The program of a group, which starts to compile where there is none."""
        shape, impl = runtime.shape_of(group[0].architecture), jax.random.key_impl(group[0].key)
        signature = (shape, options, impl, self._padded(len(group)), batch_size)
        if signature not in self._programs:
            self._compiles += 1
            members = self._stack(group, options)
            self._programs[signature] = self._pool.submit(self._compile, shape, options, impl, batch_size, members)
        self._programs.move_to_end(signature)
        while len(self._programs) > max(LIVE_PROGRAMS, 1 + self._workers):
            self._programs.popitem(last=False)
        return self._programs[signature]

    def _compile(
        self, shape: runtime.Shape, options: runtime.Options, impl: Any, batch_size: int, members: Any
    ) -> Callable[..., Any]:
        def member(network: Params, chosen: runtime.Chosen, key_data: Array, data: TrialData) -> tuple[Params, Reward]:
            key = jax.random.wrap_key_data(key_data, impl=impl)
            return train_and_evaluate(shape, options, self._config, batch_size, network, chosen, key, data)

        population = parallel.population_map(member, self._mesh, shared=[3])
        jitted = jax.jit(population, donate_argnums=0, compiler_options=kernel_options() or None)
        return jitted.lower(*parallel.population_shapes(members, self._mesh), self._data).compile()


def with_all_vectors(params: Params, options: runtime.Options) -> Params:
    """Weights of one structure for all: vectors that a layer does not train are there, too, but nothing reads them."""
    vectors = options.vectors()

    def complete(layer: Params) -> Params:
        return {name: np.full_like(layer["offset"], value) for name, value in vectors.items()} | layer

    return params | {role: [complete(layer) for layer in params[role]] for role in ("encoder", "decoder")}


def without_idle_vectors(params: Params, like: Params) -> Params:
    """Weights with the structure of `like`: undoes `with_all_vectors`."""
    trimmed = {
        role: [{name: layer[name] for name in wanted} for layer, wanted in zip(params[role], like[role])]
        for role in ("encoder", "decoder")
    }
    return params | trimmed
