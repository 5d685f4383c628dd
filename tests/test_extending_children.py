"""Children with choices and actions from outside the package train, are searched, saved and loaded as any other."""

import contextlib
import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from outside_space import CHILDREN, added, child, layer, space

from jaxad import data
from jaxad.methods.autoencoder import AutoencoderConfig, autoencoder
from jaxad.nas import supernet, trial
from jaxad.nas.executors.sequential import Sequential
from jaxad.nas.executors.vmapped import Vmapped
from jaxad.nas.strategies.autoad.controller import make_controller
from jaxad.nas.trial import Job, TrialConfig
from jaxad.nn.actions import EXTRA_ACTIONS, Action
from jaxad.nn.layers import ACTIVATIONS
from jaxad.nn.objectives.child import ChildConfig, make_child, make_optimiser
from jaxad.runs import saving
from jaxad.runs.search import search
from jaxad.training.scoring import score_images


@pytest.fixture(autouse=True)
def _added():
    with added():
        yield


SHAPE = (9, 7, 2)
SETTINGS = TrialConfig(
    steps=3, batch_size=8, fit_images=16, child=ChildConfig(optimiser="sgd", learning_rate=0.02, regulariser=0.5)
)


def trial_data():
    rng = np.random.default_rng(2)
    train, valid = (rng.random((count, *SHAPE), np.float32) for count in (24, 16))
    return trial.put(train, valid, np.arange(16) % 4 == 0)


def jobs(architectures):
    shared = supernet.init(np.random.default_rng(1), space(), SHAPE[2])
    # Gates and scales that show where they are forgotten.
    rng = np.random.default_rng(3)
    shared = jax.tree.map(lambda leaf: leaf + 0.05 * rng.standard_normal(leaf.shape, np.float32), shared)
    return [Job(a, supernet.take(shared, a), jax.random.key(i)) for i, a in enumerate(architectures)]


def plain_loop(job, images):
    """Parameters and last loss of one child by `value_and_grad` of its objective."""
    whole, keys = make_child(job.architecture, SETTINGS.child), trial.trial_keys(job.key)
    order = trial.batch_order(keys.order, len(images), SETTINGS.steps, SETTINGS.batch_size)
    optimiser = make_optimiser(SETTINGS.child, SETTINGS.steps)
    params = jax.tree.map(jnp.asarray, job.params)
    params |= {"hypothesis": jax.jit(whole.start)(keys.hypothesis, params, images[order[0]])}
    state = optimiser.init(params)

    @jax.jit
    def step(params, state, batch, number):
        (loss, _), gradients = jax.value_and_grad(whole.loss, has_aux=True)(params, batch, number)
        updates, state = optimiser.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, loss

    for number in range(SETTINGS.steps):
        params, state, loss = step(params, state, images[order[number]], number)
    return {name: params[name] for name in job.params}, float(loss)


def assert_trained_alike(got, expected, start):
    """Within a ten-thousandth of how far training moved."""
    assert jax.tree.structure(got) == jax.tree.structure(start)
    moved = max(jax.tree.leaves(jax.tree.map(lambda a, b: float(np.abs(a - b).max()), expected, start)))
    assert moved > 1e-4
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4 * moved + 1e-7, rtol=0), got, expected)


@pytest.mark.slow
def test_both_executors_train_as_a_plain_loop_does():
    images, names = trial_data(), list(CHILDREN)
    sequential, vmapped = Sequential(images, SETTINGS), Vmapped(images, SETTINGS, jax.devices()[:1])
    results = [list(executor(jobs(CHILDREN[name]() for name in names))) for executor in (sequential, vmapped)]
    programs = vmapped.compiles
    sequential.close()
    vmapped.close()
    for name, job, one, other in zip(names, jobs(CHILDREN[name]() for name in names), *results):
        params, loss = plain_loop(job, images.train)
        for result in (one, other):
            assert result.reward.usable, name
            np.testing.assert_allclose(result.reward.loss, loss, rtol=5e-4)
            assert_trained_alike(result.params, params, job.params)
        np.testing.assert_allclose(one.reward.value, other.reward.value, atol=1e-6)
    assert programs == 2  # one for each shape, whatever was added
    gate = one_of(results[0][0].params, "encoder", 1, "residual.gate")
    assert gate.shape == (20,)
    assert (gate != one_of(jobs([CHILDREN["all that is new"]()])[0].params, "encoder", 1, "residual.gate")).all()


def one_of(params, *path):
    return functools.reduce(lambda tree, key: tree[key], path, params)


@pytest.mark.slow
def test_features_are_what_the_functions_make_of_them():
    """The pipeline by hand: a pointwise layer with every place taken, in NumPy."""
    doubling = {"twice": lambda features: 2 * features}
    places = ("image", "conv", "pool", "norm", "activation", "latent", "reconstruction")
    with contextlib.ExitStack() as stack:
        for place in places:
            stack.enter_context(EXTRA_ACTIONS.temporarily(place, Action(name=place, after=place, choices=doubling)))
        base = layer(3, kernel=1, norm="none", activation="linear", pool="max", pool_kernel=3)
        images = np.ones((1, 3, 3, 1), np.float32)
        params = make_child(child(base), SETTINGS.child).init(jax.random.key(0), images)
        params = jax.tree.map(jnp.ones_like, params)

        def values(taken):
            scope = {place: EXTRA_ACTIONS[place].scope for place in taken}
            own = dataclasses.replace(base, extra={place: "twice" for place in taken if scope[place] == "layer"})
            whole = dataclasses.replace(
                child(own), extra={place: "twice" for place in taken if scope[place] == "child"}
            )
            output = make_child(whole, SETTINGS.child).apply(params, images)
            return float(output.reconstruction[0, 2, 2, 0]), float(output.latent[0, 0])

        def by_hand(taken):
            twice = {place: 2.0 if place in taken else 1.0 for place in places}
            encoded = (twice["image"] * twice["conv"] * twice["pool"] * twice["norm"] + 1) * twice["activation"]
            encoded *= twice["latent"]
            decoded = 3 * encoded * twice["conv"]
            decoded = (decoded * twice["norm"] + 1) * twice["activation"] * twice["pool"] * twice["reconstruction"]
            return decoded, 3 * encoded + 1

        for taken in ((), *((place,) for place in places), places, *itertools.combinations(places[:3], 2)):
            assert values(taken) == by_hand(taken), taken


# ---- a search and its detector ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_search_finds_a_detector_that_can_be_saved_and_loaded(tmp_path):
    """The public search, with each executor: what both find, retrain and test is the same."""
    task = data.load_task("digits", limit=150, anomaly_ratio=0.2, seed=0)
    wanted = {
        "num_layers": 1, "hypotheses": ("near_zero",), "distances": ("l4", "l2"), "channels": (3,), "kernels": (3,),
        "pools": ("least",), "pool_kernels": (3,), "norms": ("rms", "batch"), "activations": ("cosine",),
        "extra": ("residual", "skip_image"), "strategy": "random", "children": 4, "population": 4, "steps": 2,
        "retrain_top": 1, "retrain_steps": 10, "rivals": ("none",), "optimiser": "sgd", "learning_rate": 0.01,
    }  # fmt: skip
    one = search(task, executor="sequential", quiet=True, **wanted)
    other = search(task, executor="vmapped", quiet=True, output=tmp_path / "run", **wanted)
    assert [t.architecture for t in one.trials] == [t.architecture for t in other.trials]
    np.testing.assert_allclose([t.loss for t in one.trials], [t.loss for t in other.trials], rtol=1e-3)
    np.testing.assert_allclose([t.reward for t in one.trials], [t.reward for t in other.trials], atol=0.02)
    assert {layer["activation"] for t in one.trials for layer in t.architecture["layers"]} == {"cosine"}
    assert any("residual" in layer for t in one.trials for layer in t.architecture["layers"])

    assert other.config.architecture.layers[0].activation == "cosine"
    loaded = saving.load(tmp_path / "run" / "best")
    assert loaded.config == other.config
    found, again = (score_images(x.detector, x.state, task.test.images) for x in (other, loaded))
    np.testing.assert_array_equal(found, again)
    assert len(np.unique(found)) > 10
    assert (
        "Residual" in (tmp_path / "run" / "report.html").read_text() or not loaded.config.architecture.layers[0].extra
    )


def test_a_controller_decides_what_was_added():
    wide = space(num_layers=1)
    controller = make_controller(wide)
    params = controller.init(jax.random.key(0))
    episode = jax.jit(controller.sample)(params, jax.random.key(1), controller.carry())
    assert episode.probabilities.shape == (wide.num_tokens, max(wide.choices_per_token))
    np.testing.assert_array_equal((np.asarray(episode.probabilities) > 0).sum(1), wide.choices_per_token)


def test_a_detector_says_what_has_to_be_imported_first(tmp_path):
    config = AutoencoderConfig(architecture=CHILDREN["all that is new"](), steps=1)
    images = np.random.default_rng(0).random((4, *SHAPE), np.float32)
    state = autoencoder(config).init(jax.random.key(0), images)
    saving.save(tmp_path, config=config, state=state, image_shape=SHAPE)
    for table, name, message in (
        (ACTIVATIONS, "cosine", "activation is 'cosine'; choose one of .*, or import first what adds this activation"),
        (EXTRA_ACTIONS, "skip_image", "decides skip_image; import first what adds such actions of the child"),
        (EXTRA_ACTIONS, "residual", r"layers\[1\] decides residual; import first"),
    ):
        entry = table._entries.pop(name)
        with pytest.raises(ValueError, match=message):
            saving.load(tmp_path)
        table.add(name, entry)
    assert saving.load(tmp_path).config == config
