"""Children from shared kernels against a plain training loop, and what those kernels promise about compilation."""

import contextlib
import ctypes
import dataclasses
import functools
import gc
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxad.metrics.pixel import pixel_auroc
from jaxad.nas import supernet, trial
from jaxad.nas.executors.blocks import WIDTHS, Layout, block_widths
from jaxad.nas.executors.fourier import FourierKernels
from jaxad.nas.executors.kernels import CompileAhead, Kernel, Plan
from jaxad.nas.executors.sequential import Sequential
from jaxad.nas.space import SearchSpace
from jaxad.nas.trial import Job, TrialConfig
from jaxad.nn import conv as convolutions
from jaxad.nn.objectives import make_hypothesis
from jaxad.nn.objectives.child import ChildConfig, make_child, make_optimiser
from jaxad.nn.objectives.distances import get_distance

SHAPE = (9, 7, 2)
SPACE = SearchSpace(num_layers=2, channels=(3, 20, 70), pool_kernels=(1, 3, 5))
# The first seed whose five children show every choice of every list at least once.
DRAW = np.random.default_rng(4918)
TOKENS = np.stack([DRAW.integers(0, choices, 5) for choices in SPACE.choices_per_token], axis=1)
CHILDREN = [SPACE.to_architecture(tokens) for tokens in TOKENS]
SHARED = supernet.init(np.random.default_rng(1), SPACE, SHAPE[2])
SGD = TrialConfig(steps=4, batch_size=16, fit_images=32, child=ChildConfig(optimiser="sgd", learning_rate=0.05))
ADAM = TrialConfig(steps=4, batch_size=16, fit_images=32, child=ChildConfig(optimiser="adam", learning_rate=0.003))


def make_data():
    """Sizes that no batch divides: the order of training and both kinds of windows wrap around."""
    rng = np.random.default_rng(2)
    labels = np.arange(30) % 4 == 0
    valid = rng.integers(0, 256, (30, *SHAPE), np.uint8)
    valid[labels] //= 2
    masks = np.zeros(valid.shape[:3], np.uint8)
    masks[labels, 2:5, 1:4] = 1
    return trial.put(rng.integers(0, 256, (40, *SHAPE), np.uint8), valid, labels, masks)


DATA = make_data()


def job_of(child, seed=0):
    return Job(CHILDREN[child], supernet.take(SHARED, CHILDREN[child]), jax.random.key(seed))


@contextlib.contextmanager
def make_executor(config, data=DATA):
    executor = Sequential(data, config)
    yield executor
    executor.close()


@contextlib.contextmanager
def compilations():
    """The compilations within."""
    events = []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield events
    jax.monitoring.unregister_event_duration_listener(listen)


# ---- the oracle: value_and_grad of the whole objective, optax, one loop ------------------------------------------


@functools.cache
def reference_functions(index):
    """Jitted gradients and scores of a child, shared by all ways to train it."""
    child = make_child(CHILDREN[index], SGD.child)
    hypothesis = make_hypothesis(CHILDREN[index].hypothesis)

    def windows(images):
        rows = np.arange(trial.batches(len(images), SGD.batch_size) * SGD.batch_size) % len(images)
        return jnp.asarray(images)[rows].reshape(-1, SGD.batch_size, *SHAPE) / 255.0

    @jax.jit
    def scores(params, first, fit_images, valid):
        moments = child.apply(params, first).moments
        latents = jax.lax.map(lambda batch: child.apply(params, batch, moments).latent, fit_images)
        stats = hypothesis.fit(params["hypothesis"], latents.reshape(-1, latents.shape[-1]))
        return jax.lax.map(lambda batch: child.score(params, stats, batch, moments), valid).reshape(-1)

    gradient = jax.jit(jax.value_and_grad(child.loss, has_aux=True))
    start = jax.jit(child.start)
    known = windows(DATA.train[:32]), windows(DATA.valid)
    return start, gradient, lambda params, first: scores(params, first, *known)[:30]


def reference(index, job, config):
    """(parameters, losses of all steps, reward) of a plain loop with the same images in the same order."""
    start, gradient, scores = reference_functions(index)
    keys = trial.trial_keys(jax.random.clone(job.key))
    order = trial.batch_order(keys.order, len(DATA.train), config.steps, config.batch_size)
    images = trial.to_float(DATA.train[order])
    params = job.params | {"hypothesis": start(keys.hypothesis, job.params, images[0])}
    optimiser = make_optimiser(config.child, config.steps)
    state = optimiser.init(params)
    update = jax.jit(optimiser.update)
    losses = []
    for step in range(config.steps):
        (loss, _), gradients = gradient(params, images[step], step)
        losses.append(loss)
        updates, state = update(gradients, state, params)
        params = optax.apply_updates(params, updates)
    params = jax.device_get(params)
    reward = trial.reward_of(scores(params, images[0]), DATA.valid_labels, loss, config.reward).value
    del params["hypothesis"]
    return params, np.array(losses), float(reward)


@pytest.fixture(scope="module")
def trained():
    """All children, run once; (executor, results)."""
    with make_executor(SGD) as executor:
        yield executor, list(executor([job_of(index) for index in range(5)]))


@pytest.fixture(scope="module")
def adam_executor():
    with make_executor(ADAM) as executor:
        yield executor


def test_the_children_show_every_choice():
    for name in ("hypothesis", "distance"):
        assert len({getattr(child, name) for child in CHILDREN}) == 4
    layers = [layer for child in CHILDREN for layer in child.layers]
    for name, choices in {"channels": 3, "kernel": 4, "pool": 2, "pool_kernel": 3, "norm": 3, "activation": 8}.items():
        assert len({getattr(layer, name) for layer in layers}) == choices


# ---- results -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", range(5))
def test_training_equals_a_plain_loop(trained, index):
    """SGD passes rounding on unamplified: all that differs is 2e-4 of what a weight learnt, or 2e-6 of what all did."""
    job, result = job_of(index), trained[1][index]
    assert_same_training(result, reference(index, job, SGD), job)
    assert (result.reason, result.batch_size) == (None, 16)
    assert 0 < result.seconds < 60


@pytest.mark.slow  # programs of its own
def test_clipped_training_equals_a_plain_loop():
    clipped = dataclasses.replace(SGD, child=dataclasses.replace(SGD.child, clip=0.1))
    with make_executor(clipped) as executor:
        (result,) = executor([job_of(0)])
    params, losses, reward = reference(0, job_of(0), clipped)
    assert_same_training(result, (params, losses, reward), job_of(0))
    unclipped = reference(0, job_of(0), SGD)[0]
    assert not np.array_equal(params["projection"]["kernel"], unclipped["projection"]["kernel"])


def assert_same_training(result, expected, job):
    """That SGD ended where the plain loop did."""
    params, losses, reward = expected
    learnt = jax.tree.map(lambda new, old: np.abs(new - old).max(), params, job.params)
    most = max(jax.tree.leaves(learnt))
    assert most > 5e-4
    jax.tree.map(
        lambda got, want, own: np.testing.assert_allclose(got, want, atol=2e-4 * own + 2e-6 * most, rtol=1e-6),
        result.params,
        params,
        learnt,
    )
    # A likelihood may fall from 46 to -1.8 in four steps: rounding is relative to where it comes from.
    np.testing.assert_allclose(result.reward.loss, losses[-1], rtol=0, atol=1e-5 * np.abs(losses).max())
    np.testing.assert_allclose(result.reward.value, reward, atol=1e-6)
    assert result.reward.usable


@pytest.mark.parametrize("index", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_training_by_fourier_transforms_equals_a_plain_loop(monkeypatch, index):
    """All convolutions, though so small ones do not gain by it; with several blocks and with one."""
    job = job_of(index)
    expected = reference(index, job, SGD)
    monkeypatch.setattr(convolutions, "fourier_gain", lambda: 1e-9)
    with make_executor(SGD) as executor:
        names = {signature[0].name for signature in executor.prepare(job, SGD.batch_size)}
        (result,) = executor([job])
    assert {name.partition(".")[2] for name in names} >= {*FourierKernels._fields}
    assert not any("gradient" in name and name.startswith("kernel") for name in names)
    assert_same_training(result, expected, job)


@pytest.mark.parametrize("index", [0, 4])
def test_adam_equals_a_plain_loop(monkeypatch, adam_executor, index):
    """Where a true gradient is zero Adam makes whole steps of rounding; these two children have no such weight.

    Without Fourier transforms, whose rounding is relative to the largest gradient: the smallest may drown in it.
    """
    monkeypatch.setattr(convolutions, "fourier_gain", lambda: None)
    (result,) = adam_executor([job_of(index)])
    params, losses, reward = reference(index, job_of(index), ADAM)
    jax.tree.map(lambda got, want: np.testing.assert_allclose(got, want, atol=1e-5), result.params, params)
    np.testing.assert_allclose(result.reward.loss, losses[-1], rtol=1e-4)
    np.testing.assert_allclose(result.reward.value, reward, atol=1e-6)


def test_maps_are_rewarded_by_their_pixels():
    """The reward of a child, from its weights, by the metrics of the host."""
    config = dataclasses.replace(SGD, reward="pixel_auroc")
    child, distance = make_child(CHILDREN[2], config.child), get_distance(CHILDREN[2].distance)
    first = trial.batch_order(trial.trial_keys(job_of(2).key).order, len(DATA.train), config.steps, 16)[0]

    @jax.jit
    def maps_of(params, batch):
        moments = child.apply(params, trial.to_float(DATA.train[first])).moments
        return jax.vmap(distance.map)(child.apply(params, batch, moments).reconstruction, batch)

    with make_executor(config) as executor:
        (result,) = executor([job_of(2)])
    rows = np.arange(32) % 30
    maps = [maps_of(result.params, trial.to_float(DATA.valid[half])) for half in (rows[:16], rows[16:])]
    expected = pixel_auroc(np.concatenate(maps)[:30], DATA.valid_pixels.masks)
    np.testing.assert_allclose(result.reward.value, expected, atol=1e-6)
    assert result.reward.usable
    message = "reward is pixel_auroc, which needs masks of the validation images"
    without = DATA._replace(valid_pixels=None)
    with make_executor(config, without) as executor, pytest.raises(ValueError, match=message):
        list(executor([job_of(2)]))


def test_no_reward_depends_on_the_order_of_the_validation_images():
    """Where batch normalisation went by each batch of them, sorting them by label would be a hint."""
    index = next(i for i, child in enumerate(CHILDREN) if any(layer.norm == "batch" for layer in child.layers))
    labels, rewards = np.arange(30) % 3 == 0, {}
    valid = np.random.default_rng(5).integers(0, 256, (30, *SHAPE), np.uint8)
    valid[labels] = valid[labels] // 8 * 7  # a little darker
    for statistics in ("training", "batch"):
        config = dataclasses.replace(SGD, statistics=statistics)
        for order in (np.arange(30), np.argsort(labels, kind="stable")):
            data = trial.put(DATA.train, valid[order], labels[order])
            with make_executor(config, data) as executor:
                (result,) = executor([job_of(index)])
            rewards.setdefault(statistics, []).append(float(result.reward.value))
    np.testing.assert_allclose(*rewards["training"], atol=1e-6)
    assert abs(np.subtract(*rewards["batch"])) > 1e-3


def test_the_same_job_gives_the_same_bits(trained):
    """In another run, in other company, and it leaves the weights it was given alone."""
    executor, first = trained
    job = job_of(1)
    given = jax.tree.map(np.copy, job.params)
    for result in executor([job_of(0), job, job_of(1)]):
        again = result
    jax.tree.map(np.testing.assert_array_equal, again.params, first[1].params)
    jax.tree.map(np.testing.assert_array_equal, again.reward, first[1].reward)
    jax.tree.map(np.testing.assert_array_equal, job.params, given)
    (other,) = executor([job_of(1, seed=1)])
    assert np.abs(other.params["encoder"][0]["kernel"] - first[1].params["encoder"][0]["kernel"]).max() > 1e-6


def test_a_child_that_diverges_is_unusable_and_worth_nothing(trained):
    executor, _ = trained
    for poison in (np.nan, np.inf):
        job = job_of(0)
        job.params["encoder"][0]["kernel"][0, 0, 0, 0] = poison
        (result,) = executor([job])
        assert not result.reward.usable
        assert result.reward.value == 0
        assert result.reason is None  # it ran; what to make of it is the caller's


# ---- compilation -------------------------------------------------------------------------------------------------


def test_nothing_compiles_once_a_child_is_prepared(trained):
    """Not for other weights, other keys, other children of the same shape, nor after waiting for a new one."""
    executor, _ = trained
    known = executor.compiles
    with compilations() as events:
        list(executor([job_of(index, seed=7) for index in (2, 0, 4)]))
        assert not events
        assert executor.compiles == known
        twin = dataclasses.replace(CHILDREN[1], layers=CHILDREN[1].layers[::-1])
        job = Job(twin, supernet.take(SHARED, twin), jax.random.key(0))
        executor._ahead.wait(executor.prepare(job, SGD.batch_size))
        assert executor.compiles > known
        assert events
        events.clear()
        (result,) = executor([job])
        assert result.reward.usable
        assert not events


@pytest.mark.slow
def test_kernels_are_shared_more_and_more():
    """Planning alone: of 30 random children the last 10 need a fraction of the programs that the first 10 need."""
    tokens = np.asarray(SPACE.sample(jax.random.key(3), 30))
    seen, new = set(), []
    with make_executor(SGD) as executor:
        for architecture in map(SPACE.to_architecture, tokens):
            plan = Plan()
            executor._program(plan, Job(architecture, supernet.take(SHARED, architecture), jax.random.key(0)), 16)
            new.append(len(plan.signatures.keys() - seen))
            seen |= plan.signatures.keys()
    assert new[0] > 50
    assert sum(new[-10:]) < sum(new[:10]) / 4
    assert np.median(new[-10:]) < 10


# ---- memory ------------------------------------------------------------------------------------------------------


def fail_above(monkeypatch, limit, late=False):
    """Make children run out of memory with batches above a limit: at once, or when all has been computed."""
    program = Sequential._program

    def limited(self, launch, job, batch_size):
        if isinstance(launch, Plan) or batch_size <= limit:
            return program(self, launch, job, batch_size)
        if late:
            program(self, launch, job, batch_size)
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 123456789 bytes.")

    monkeypatch.setattr(Sequential, "_program", limited)


def test_running_out_of_memory_halves_the_batch(monkeypatch):
    """The result is that of the halved batch, also where the first try had got far."""
    small, large = (dataclasses.replace(SGD, batch_size=size) for size in (8, 16))
    with make_executor(small) as executor:
        (expected,) = executor([job_of(3)])
    fail_above(monkeypatch, 8, late=True)
    with make_executor(large) as executor:
        (result,) = executor([job_of(3)])
    assert (result.reason, result.batch_size) == (None, 8)
    jax.tree.map(np.testing.assert_array_equal, result.params, expected.params)
    jax.tree.map(np.testing.assert_array_equal, result.reward, expected.reward)


def test_a_child_that_never_fits_fails_with_a_reason_and_the_next_one_runs(trained, monkeypatch):
    executor, first = trained
    fail_above(monkeypatch, 0)
    (result,) = executor([job_of(3)])
    assert result.params is result.reward is None
    assert result.reason == "out of memory at batch sizes 16 down to 8"
    monkeypatch.undo()
    (result,) = executor([job_of(3)])
    jax.tree.map(np.testing.assert_array_equal, result.params, first[3].params)


def test_scoring_keeps_no_activation_alive(trained):
    """A cycle of references would hold the activations of a whole validation set until Python looks for cycles."""
    executor, _ = trained
    job = job_of(1)
    list(executor([job]))
    gc.collect()
    gc.disable()
    try:
        before = len(jax.live_arrays())
        list(executor([job_of(1)]))
        assert len(jax.live_arrays()) <= before + 1  # the key
    finally:
        gc.enable()


# ---- channel blocks ----------------------------------------------------------------------------------------------


def test_a_program_that_could_not_be_compiled_is_tried_again(monkeypatch):
    """Memory that was short for one child may be free for the next."""
    kernel, plan, ahead = Kernel(lambda x: x + 1, name="fragile"), Plan(), CompileAhead()
    plan(kernel, jax.ShapeDtypeStruct((3,), jnp.float32))
    working = Kernel.compile

    def failing(self, signature):
        monkeypatch.setattr(Kernel, "compile", working)
        raise MemoryError("no room")

    monkeypatch.setattr(Kernel, "compile", failing)
    with contextlib.closing(ahead):
        with pytest.raises(MemoryError, match="no room"):
            ahead.wait(plan.signatures)
        with compilations() as events:
            ahead.wait(plan.signatures)
    assert len(events) == 1


def test_blocks_cover_all_channels_with_little_padding():
    for channels in range(1, 600):
        widths = block_widths(channels)
        assert set(widths) <= set(WIDTHS)
        assert list(widths) == sorted(widths, reverse=True)
        assert channels <= sum(widths) < channels + WIDTHS[-1]
    assert block_widths(256) == (64, 64, 64, 64)
    assert block_widths(70) == (64, 16)
    assert block_widths(60) == (64,)


@pytest.mark.parametrize("index", range(5))
def test_blocks_are_zero_padded_and_join_again(index):
    layout, params = Layout(CHILDREN[index], SHAPE), job_of(index).params
    blocks = layout.split(params)
    jax.tree.map(np.testing.assert_array_equal, layout.join(blocks, params), params)

    # Cropped taps meet padding only and never train; all other weights are in the blocks, and all else there is zero.
    changed = layout.join(jax.tree.map(lambda block: block + 1, blocks), params)
    moved = jax.tree.map(lambda new, old: new - old, changed, params)
    assert all(np.allclose(move, 1) or np.allclose(np.unique(move.round(5)), [0, 1]) for move in jax.tree.leaves(moved))
    inside = sum(
        np.abs(params_)[move > 0.5].sum() for params_, move in zip(jax.tree.leaves(params), jax.tree.leaves(moved))
    )
    np.testing.assert_allclose(sum(np.abs(block).sum() for block in jax.tree.leaves(blocks)), inside, rtol=1e-5)


def resident_memory():
    """MiB in use: what is free, but kept by the allocator for threads to come, is handed back first."""
    gc.collect()
    getattr(ctypes.CDLL(None), "malloc_trim", int)(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.slow
def test_memory_and_programs_stay_bounded_over_200_children():
    """Distinct children of the paper's space, one step each: programs and memory level off, whatever comes."""
    space, shape = SearchSpace(), (28, 28, 1)
    rng = np.random.default_rng(4)
    images = rng.integers(0, 256, (128, *shape), np.uint8)
    data = trial.put(images, images, np.arange(128) % 4 == 0)
    shared = supernet.init(rng, space, 1)
    children = [space.to_architecture(row) for row in np.asarray(space.sample(jax.random.key(5), 200))]
    assert len(set(children)) == 200
    programs, resident = [], []
    with make_executor(TrialConfig(steps=1, batch_size=32, fit_images=32), data) as executor:
        for number, child in enumerate(children):
            list(executor([Job(child, supernet.take(shared, child), jax.random.key(number))]))
            programs.append(executor.compiles)
            resident.append(resident_memory())
    print(f"programs {programs[19::20]}, resident MiB {[round(m) for m in resident[19::20]]}")
    # About 1,000 programs make up such a search, nine tenths of them in the first quarter of it.
    assert programs[-1] < 1250
    assert programs[199] - programs[99] < 100
    assert resident[199] - max(resident[:100]) < 150
