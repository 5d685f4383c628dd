"""Choices and actions that this file adds, from outside the package, are searched, retrained, saved and shown."""

import contextlib
import dataclasses
import doctest
import functools
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxad import data
from jaxad.methods.autoencoder import AutoencoderConfig, autoencoder
from jaxad.nas import supernet, trial
from jaxad.nas.analysis.render import render, summary
from jaxad.nas.executors.sequential import Sequential
from jaxad.nas.executors.vmapped import Vmapped
from jaxad.nas.space import SearchSpace
from jaxad.nas.strategies.autoad.controller import make_controller
from jaxad.nas.trial import Job, TrialConfig
from jaxad.nn import actions, choices
from jaxad.nn.actions import ACTIONS, EXTRA_ACTIONS, Action, Step, add_action
from jaxad.nn.architecture import Architecture, Layer
from jaxad.nn.cost import flops, parameter_count
from jaxad.nn.layers import ACTIVATIONS, NORMS, POOLS, Norm
from jaxad.nn.objectives import HYPOTHESES, Hypothesis, HypothesisChoice, make_hypothesis
from jaxad.nn.objectives.child import ChildConfig, make_child, make_optimiser
from jaxad.nn.objectives.distances import DISTANCES, Distance
from jaxad.report import plots
from jaxad.report.format import architecture_line
from jaxad.report.search_sections import best_parts
from jaxad.runs import saving
from jaxad.runs.search import search
from jaxad.training.scoring import score_images

# ---- what a user adds --------------------------------------------------------------------------------------------


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


@pytest.fixture(autouse=True)
def added():
    """What `add` and `add_action` do, until the end of a test, so that no other test meets it."""
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


# ---- the space ---------------------------------------------------------------------------------------------------


def test_the_default_space_is_the_papers_whatever_was_added():
    default = SearchSpace()
    assert default.num_tokens == 20
    assert default.choices_per_token == (4, 4) + (7, 4, 2, 4, 3, 8) * 3
    assert default.extra == ()
    roles = ("channels", "kernel", "pool", "pool_kernel", "norm", "activation")
    assert tuple(default.values_by_action) == ("hypothesis", "distance", *roles)
    assert default.position_names[2:8] == tuple(f"layer1.{role}" for role in roles)
    record = default.to_architecture(np.zeros(20, np.int32)).to_json()
    assert list(record) == ["hypothesis", "distance", "layers"]
    assert [list(layer) for layer in record["layers"]] == [list(roles)] * 3


def test_tokens_follow_from_the_actions():
    assert space().num_tokens == 3 + 2 * 8
    assert space().position_names[:3] == ("hypothesis", "distance", "skip_image")
    assert space().position_names[9:11] == ("layer1.residual", "layer1.shift")
    assert space().position_names[11] == "layer2.channels"
    assert space().values_by_action["residual"] == ("none", "add", "gated")
    small = space(
        num_layers=1, channels=(3,), kernels=(3, 1), activations=("relu",), norms=("none",), distances=("l2",),
        hypotheses=("centroid",),
    )  # fmt: skip
    every = list(small.enumerate())
    assert len(every) == small.cardinality == 2 * 2 * 2 * 2 * 3 * 2
    architectures = [small.to_architecture(tokens) for tokens in every]
    assert len(set(architectures)) == len(every)
    assert [tuple(small.to_tokens(architecture).tolist()) for architecture in architectures] == every
    # A shift of features makes a difference beside larger kernels only, as the action says of itself.
    canonical = small.canonical(np.asarray(every))
    names = [name.rpartition(".")[2] for name in small.position_names]
    kernel, pool, pool_kernel, shift = (names.index(n) for n in ("kernel", "pool", "pool_kernel", "shift"))
    for before, after in zip(every, canonical.tolist()):
        expected = list(before)
        if before[kernel] == 1:  # the second choice, a kernel of one
            expected[shift] = 0
        if before[pool_kernel] == 0:
            expected[pool] = 0
        assert after == expected
    np.testing.assert_array_equal(jax.jit(small.canonical)(jnp.asarray(every)), canonical)
    assert set(map(tuple, canonical.tolist())) == set(small.enumerate(canonical=True))
    assert len(set(map(tuple, canonical.tolist()))) == small.canonical_cardinality
    mutants = jax.vmap(small.mutate, (0, None))(jax.random.split(jax.random.key(0), 64), jnp.asarray(every[0]))
    changed = np.asarray(mutants != jnp.asarray(every[0])[None])
    assert (changed.sum(1) == 1).all()
    assert changed[:, [2, -1, -2]].any(0).all()  # the new ones are mutated, too


def test_architectures_are_read_and_written_with_what_they_decide():
    architecture = CHILDREN["all that is new"]()
    record = architecture.to_json()
    assert record["skip_image"] == "half"
    assert record["layers"][1]["residual"] == "gated"
    assert set(record["layers"][0]) == {"channels", "kernel", "pool", "pool_kernel", "norm", "activation"}
    assert Architecture.from_json(json.loads(json.dumps(record))) == architecture
    # A file that does not mention an action means its default.
    old = CHILDREN["nothing new"]().to_json()
    assert Architecture.from_json(old).choice("skip_image") == "none"
    assert Architecture.from_json(old).layers[0].choice("residual") == "none"
    assert Architecture.from_json(old | {"skip_image": "none"}) == Architecture.from_json(old)
    with pytest.raises(ValueError, match=r"layers\[0\] decides wings; import first what adds such actions"):
        Architecture.from_json({**record, "layers": [{**record["layers"][0], "wings": "two"}]})
    with pytest.raises(ValueError, match="residual is 'twice'; choose one of none, add, gated"):
        layer(residual="twice")
    with pytest.raises(ValueError, match="action 'residual' of the child is one of the layer; give it there"):
        dataclasses.replace(architecture, extra={"residual": "add"})
    with pytest.raises(ValueError, match="skip_image is 'half'; this space does not decide it: name it in extra"):
        space(extra=("residual", "shift")).to_tokens(architecture)


# ---- running -----------------------------------------------------------------------------------------------------

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
            assert result.verdict.usable, name
            np.testing.assert_allclose(result.verdict.loss, loss, rtol=5e-4)
            assert_trained_alike(result.params, params, job.params)
        np.testing.assert_allclose(one.verdict.reward, other.verdict.reward, atol=1e-6)
    assert programs == 2  # one for each shape, whatever was added
    gate = one_of(results[0][0].params, "encoder", 1, "residual.gate")
    assert gate.shape == (20,)
    assert (gate != one_of(jobs([CHILDREN["all that is new"]()])[0].params, "encoder", 1, "residual.gate")).all()


def one_of(params, *path):
    return functools.reduce(lambda tree, key: tree[key], path, params)


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


# ---- a search, its detector, and what is shown of them ---------------------------------------------------------------


def test_a_search_finds_a_detector_that_can_be_saved_and_loaded(tmp_path):
    """The public search, with each executor: what both find, retrain and test is the same."""
    task = data.load_task("digits", limit=150, anomaly_ratio=0.2, seed=0)
    wanted = {
        "num_layers": 1, "hypotheses": ("near_zero",), "distances": ("l4", "l2"), "channels": (3,), "kernels": (3,),
        "pools": ("least",), "pool_kernels": (3,), "norms": ("rms", "batch"), "activations": ("cosine",),
        "extra": ("residual", "skip_image"), "strategy": "random", "children": 4, "population": 4, "steps": 2,
        "retrain_top": 1, "retrain_steps": 10, "optimiser": "sgd", "learning_rate": 0.01,
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


def test_costs_count_what_was_added():
    for make in CHILDREN.values():
        architecture = make()
        params = make_child(architecture, ChildConfig()).init(jax.random.key(0), np.ones((2, *SHAPE), np.float32))
        counted = sum(
            leaf.size for name in ("encoder", "decoder", "projection") for leaf in jax.tree.leaves(params[name])
        )
        assert parameter_count(architecture, SHAPE) == counted
    plain, added = child(layer(), layer()), child(layer(), layer(residual="add"))
    assert parameter_count(added, SHAPE) == parameter_count(plain, SHAPE)
    assert flops(added, SHAPE) - flops(plain, SHAPE) == 2 * 9 * 7 * 20  # there and back
    gated = child(layer(), layer(residual="gated"))
    assert parameter_count(gated, SHAPE) - parameter_count(plain, SHAPE) == 2 * 20


def test_tables_and_plots_show_what_was_added():
    architecture = CHILDREN["all that is new"]()
    line = "near_zero/l4 skip_image=half | 20 k3 least1 rms cosine | 20 k3 least1 rms cosine residual=gated shift=up"
    assert summary(architecture) == line
    text = render(architecture).splitlines()
    rows = {" ".join(row.split()[:-1]): row.split()[-1] for row in text[2:] if len(row.split()) > 1}
    assert (rows["Skip image"], rows["Residual"], rows["Shift of features"]) == ("half", "gated", "up")
    assert "Residual" not in render(CHILDREN["nothing new"]())

    records = [make().to_json() for make in CHILDREN.values()]
    columns = plots.action_columns(records)
    assert columns["residual", 2] == ["gated", "add", "add", "none"]
    assert columns["skip_image", 0] == ["half", "none", "none", "none"]
    rewards = np.linspace(0.1, 0.9, len(records))
    titles = [ax.get_title("left") for ax in plots.reward_by_action(records, rewards).axes if ax.get_visible()]
    paper = [action.name.replace("_", " ") for action in ACTIONS]
    assert sorted(titles) == sorted([*paper, "residual", "shift", "skip image"])
    plots.parallel_coordinates(records, rewards).canvas.draw()
    table, *_ = best_parts({"architecture": records[0]}, [], {})
    assert ["Residual", "gated"] in [list(row) for row in table.rows]
    assert architecture_line(records[0]).endswith("20@3×3 rms norm cosine residual gated shift up")
    assert architecture_line(records[0]).startswith("near_zero + l4 skip image half: ")
    wide = space()
    chances = np.full((wide.num_tokens, max(wide.choices_per_token)), 0.5)
    figure = plots.controller_probabilities(chances, wide.position_names, wide.values_by_action)
    assert len([ax for ax in figure.axes if ax.get_visible()]) == 11
    entropies = np.ones((2, wide.num_tokens))
    figure = plots.controller_entropy([1, 2], entropies, wide.position_names, wide.choices_per_token)
    styles = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].get_lines()}
    assert len(styles) == 11


# ---- what is refused ---------------------------------------------------------------------------------------------


def test_names_keep_their_meaning():
    with pytest.raises(ValueError, match="activation 'relu' is known already; give another name"):
        ACTIVATIONS.add("relu", jnp.cos, replace=True)
    with pytest.raises(ValueError, match="activation 'cosine' is known already"):
        ACTIVATIONS.add("cosine", jnp.sin)
    assert ACTIVATIONS.add("cosine", jnp.sin, replace=True) is ACTIVATIONS["cosine"] is jnp.sin
    with pytest.raises(ValueError, match="activation 'not a name' is no name"):
        ACTIVATIONS.add("not a name", jnp.cos)
    with pytest.raises(
        ValueError, match=r"entry of activations is 'unheard'; choose one of sigmoid, .*, or import first"
    ):
        SearchSpace(activations=("unheard",))
    with pytest.raises(ValueError, match="hypothesis 'near_zero' has no option size: it knows power"):
        make_hypothesis("near_zero", size=3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"after": "lunch"}, "acts after 'lunch'; choose one of image, conv, pool"),
        ({"after": None}, "acts nowhere; give after=, one of image"),
        ({"choices": {}}, "give at least one beside its default 'none'"),
        ({"choices": {"none": jnp.tanh}}, "its default 'none', which does nothing and is not listed"),
        ({"name": "kernel"}, "action 'kernel' is known already"),
        ({"name": "residual"}, "action 'residual' is known already"),
        ({"name": "two words"}, "action 'two words' is no name"),
        ({"after": "image", "choices": {"a": Step(jnp.tanh, {"gain": 1.0})}}, "trains vectors, which only layers hold"),
    ],
)
def test_bad_actions_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        add_action(Action(**{"name": "wings", "after": "conv", "choices": {"a": jnp.tanh}} | fields))


def test_bad_spaces_and_shapes_are_refused():
    with pytest.raises(ValueError, match="entry of extra is 'wings'; choose one of residual, shift, skip_image, or"):
        space(extra=("wings",))
    with pytest.raises(ValueError, match="give each action only once"):
        space(extra=("shift", "shift"))
    lazy = Action(name="lazy", after="conv", choices={"a": jnp.tanh}, idle=("pool", "max"))
    with (
        EXTRA_ACTIONS.temporarily("lazy", lazy),
        pytest.raises(ValueError, match=r"'lazy' may be idle by 'pool'; that must be an action .* never idle itself"),
    ):
        space(extra=("lazy",))
    crop = Action(name="crop", after="conv", choices={"a": lambda features: features[:, 1:]})
    with EXTRA_ACTIONS.temporarily("crop", crop):
        whole = child(dataclasses.replace(layer(), extra={"crop": "a"}))
        with pytest.raises(ValueError, match=r"action 'crop' makes .* of .*; it must keep the shape"):
            autoencoder(architecture=whole).init(jax.random.key(0), np.ones((2, *SHAPE), np.float32))


@pytest.mark.parametrize(
    ("module", "table", "name"), [(choices, ACTIVATIONS, "gelu"), (actions, EXTRA_ACTIONS, "shortcut")]
)
def test_the_examples_of_the_tables_run(module, table, name):
    try:
        assert doctest.testmod(module).failed == 0
    finally:
        del table._entries[name]


def test_adding_an_action_makes_it_known():
    action = add_action(Action(name="wings", after="conv", choices={"a": jnp.tanh}))
    try:
        assert SearchSpace(extra=["wings"]).position_names[-1] == "layer3.wings"
    finally:
        del EXTRA_ACTIONS._entries["wings"]
    assert action.standard == ("none", "a")
