"""Choices and actions from outside the package have tokens, files, costs, tables and plots as the paper's have."""

import dataclasses
import doctest
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from outside_space import CHILDREN, added, child, layer, space

from jaxad.methods.autoencoder import autoencoder
from jaxad.nas.analysis.render import render, summary
from jaxad.nas.space import SearchSpace
from jaxad.nn import actions, choices
from jaxad.nn.actions import ACTIONS, EXTRA_ACTIONS, Action, Step, add_action
from jaxad.nn.architecture import Architecture
from jaxad.nn.cost import flops, parameter_count
from jaxad.nn.layers import ACTIVATIONS
from jaxad.nn.objectives import make_hypothesis
from jaxad.nn.objectives.child import ChildConfig, make_child
from jaxad.report import plots
from jaxad.report.format import architecture_line
from jaxad.report.search_sections import best_parts


@pytest.fixture(autouse=True)
def _added():
    with added():
        yield


SHAPE = (9, 7, 2)

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


# ---- costs and what is shown --------------------------------------------------------------------------------------


@pytest.mark.slow
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
