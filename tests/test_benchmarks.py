"""The benchmark measures what it says: its reference implementations train and score the same children as ours."""

import argparse
import functools
import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxad
from jaxad.nas import supernet, trial
from jaxad.nas.executors.sequential import Sequential
from jaxad.nas.space import SearchSpace
from jaxad.nas.trial import Job, TrialConfig
from jaxad.nn import efficientnet
from jaxad.nn import objectives as hypotheses
from jaxad.nn.architecture import Architecture, Layer
from jaxad.nn.objectives.child import ChildConfig, make_child, make_optimiser
from jaxad.nn.objectives.distances import DISTANCES

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))
naive_jax, search_worker, search_throughput, ama_step = map(
    importlib.import_module, ("naive_jax", "search_worker", "search_throughput", "ama_step")
)
depthwise, photographs, painted_photographs, defaults = map(
    importlib.import_module, ("depthwise", "photographs", "painted_photographs", "defaults")
)
HAS_TORCH = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="PyTorch is not installed")
if HAS_TORCH:
    torch, torch_eager, torch_objectives = map(importlib.import_module, ("torch", "torch_eager", "torch_objectives"))

CONFIG = ChildConfig()


def layer(channels, kernel, pool, pool_kernel, norm, activation):
    return Layer(channels=channels, kernel=kernel, pool=pool, pool_kernel=pool_kernel, norm=norm, activation=activation)


# Between them: all choices of every token; a kernel larger than its image (7 on 3x3) and windows over the edge.
ARCHITECTURES = [
    ("density", "ssim", layer(3, 3, "max", 5, "batch", "elu"), layer(8, 7, "average", 1, "none", "sigmoid")),
    ("cluster", "l21", layer(8, 1, "average", 5, "instance", "tanh"), layer(3, 3, "max", 3, "batch", "softplus")),
    ("centroid", "l1", layer(3, 5, "average", 1, "none", "leaky_relu"), layer(3, 1, "max", 7, "none", "relu6")),
    ("reconstruction", "l2", layer(8, 3, "max", 7, "none", "linear"), layer(3, 5, "max", 7, "instance", "relu")),
]
ARCHITECTURES = [Architecture(hypothesis=h, distance=d, layers=layers) for h, d, *layers in ARCHITECTURES]
SMALL = Architecture(hypothesis="centroid", distance="l21", layers=[layer(8, 3, "max", 3, "batch", "elu")])


def shared_part(architecture, channels, rng):
    space = SearchSpace(num_layers=len(architecture.layers), channels=(3, 8))
    return supernet.take(supernet.init(rng, space, channels), architecture)


def first_beliefs(hypothesis, rng):
    """Any beliefs will do, as long as all implementations have the same."""
    shapes = {
        "density": {"hidden": {"kernel": (10, 10), "bias": (10,)}, "output": {"kernel": (10, 4), "bias": (4,)}},
        "cluster": hypotheses.ClusterParams((10, 10)),
        "centroid": hypotheses.CentroidParams((10,)),
        "reconstruction": (),
    }[hypothesis]

    def is_shape(node):
        return type(node) is tuple and node != ()

    return jax.tree.map(lambda shape: rng.normal(size=shape).astype(np.float32), shapes, is_leaf=is_shape)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: f"{a.hypothesis}-{a.distance}")
def test_references_have_our_loss(architecture, rng):
    channels, step = (3, 12) if architecture.distance == "ssim" else (1, 2)  # luma and grey
    images = rng.uniform(size=(16, 13, 14, channels)).astype(np.float32)
    params = shared_part(architecture, channels, rng) | {"hypothesis": first_beliefs(architecture.hypothesis, rng)}
    ours = jax.jit(make_child(architecture, CONFIG).loss)(params, images, step)[0]
    naive = jax.jit(functools.partial(naive_jax.loss, architecture, CONFIG))(params, images, step)
    np.testing.assert_allclose(naive, ours, rtol=1e-4)
    if HAS_TORCH:
        pictures = torch.tensor(images.transpose(0, 3, 1, 2))
        theirs = torch_eager.loss(architecture, CONFIG, torch_eager.to_torch(params), pictures, step)
        np.testing.assert_allclose(theirs.item(), ours, rtol=1e-4)


@needs_torch
@pytest.mark.parametrize("name", DISTANCES)
def test_torch_measures_as_we_do(name, rng):
    x_hat, x = rng.uniform(size=(2, 8, 13, 14, 1)).astype(np.float32)
    pictures = [torch.tensor(images.transpose(0, 3, 1, 2)) for images in (x_hat, x)]
    expected = jax.jit(jax.vmap(DISTANCES[name].score))(x_hat, x)
    np.testing.assert_allclose(torch_objectives.DISTANCES[name](*pictures), expected, rtol=1e-4)


@needs_torch
@pytest.mark.parametrize("name", hypotheses.HYPOTHESES.standard)
def test_torch_rewards_as_we_do(name, rng):
    """Statistics of one set, scores of another."""
    fitted, z = rng.normal(size=(2, 24, 10)).astype(np.float32)
    errors, beliefs = rng.uniform(size=24).astype(np.float32), first_beliefs(name, rng)
    ours, theirs = hypotheses.make_hypothesis(name), torch_objectives.HYPOTHESES[name]
    expected = jax.jit(lambda b: ours.score(b, ours.fit(b, fitted), z, errors))(beliefs)
    beliefs = jax.tree.map(torch.tensor, beliefs)
    scores = theirs.score(beliefs, theirs.fit(beliefs, torch.tensor(fitted)), torch.tensor(z), torch.tensor(errors))
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-5)


@needs_torch
def test_centroid_radius_agrees_around_the_warm_up(rng):
    z = rng.normal(size=(32, 10)).astype(np.float32)
    errors = np.zeros(32, np.float32)
    ours = hypotheses.make_hypothesis("centroid")
    beliefs = ours.init(jax.random.key(0), jnp.asarray(z))
    theirs = torch_objectives.Centroid.init(None, torch.tensor(z))
    np.testing.assert_allclose(theirs.centre, beliefs.centre, rtol=1e-5)
    for step in (9, 10):
        expected = ours.loss(beliefs, z, errors, step)
        np.testing.assert_allclose(
            torch_objectives.Centroid.loss(theirs, torch.tensor(z), None, step), expected, rtol=1e-5
        )


@pytest.mark.slow
def test_executors_give_the_same_reward(rng):
    """From the same weights and batches, training and scoring give the same weights and reward."""
    # SGD, as Adam's first steps are signs, which rounding decides where a gradient is zero.
    child = ChildConfig(optimiser="sgd", learning_rate=0.1)
    config = TrialConfig(steps=2, batch_size=16, fit_images=20, statistics="batch", child=child)
    data = trial.put(*search_worker.images(13, 64, 40))
    network = shared_part(SMALL, 1, rng)

    (naive,) = naive_jax.NaiveJax(data, config)([Job(SMALL, network, jax.random.key(3))])
    executor = Sequential(data, config)
    (ours,) = executor([Job(SMALL, network, jax.random.key(3))])
    executor.close()
    results = [naive]
    if HAS_TORCH:
        keys = trial.trial_keys(jax.random.key(3))
        order = trial.batch_order(keys.order, 64, 2, 16)
        # The first centre is the mean of the first latents, which both find.
        runner, job = torch_eager.TorchEager(data, config), Job(SMALL, network, jax.random.key(4))
        results.append(runner.run(job, order))
        (alone,) = runner([job])  # draws its own order and beliefs
        assert bool(alone.reward.usable)
    for result in results:
        np.testing.assert_allclose(result.reward.loss, ours.reward.loss, rtol=1e-4)
        np.testing.assert_allclose(result.reward.value, ours.reward.value, atol=0.01)
        assert bool(result.reward.usable)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), result.params, ours.params)
    assert not np.array_equal(ours.params["encoder"][0]["kernel"], network["encoder"][0]["kernel"])


@needs_torch
@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_torch_steps_as_we_do(optimiser, steps, rng):
    """Also where the learning rate drops, twice or, at 2 steps, once."""
    child = ChildConfig(optimiser=optimiser, learning_rate=0.1)
    config = TrialConfig(steps=steps, batch_size=8, statistics="batch", child=child)
    ours = make_optimiser(config.child, steps)
    value, state = jnp.zeros(3), ours.init(jnp.zeros(3))
    theirs = torch.zeros(3, requires_grad=True)
    data = trial.put(*search_worker.images(4, 8, 8))
    optimiser, schedule = torch_eager.TorchEager(data, config)._optimiser([theirs])
    for gradient in rng.normal(size=(steps, 3)).astype(np.float32):
        update, state = ours.update(jnp.asarray(gradient), state)
        value = value + update
        theirs.grad = torch.tensor(gradient)
        optimiser.step()
        schedule.step()
        np.testing.assert_allclose(theirs.detach(), value, rtol=1e-5)


def test_children_are_distinct_and_grow_from_the_front():
    space = SearchSpace(num_layers=1, channels=(3,), kernels=(1,), activations=("relu",), hypotheses=("centroid",))
    assert space.canonical_cardinality == 4 * 3 * 7
    children = search_worker.distinct_children(space, 0, 84)
    assert len({tuple(tokens) for tokens in children.tolist()}) == 84
    np.testing.assert_array_equal(children[:10], search_worker.distinct_children(space, 0, 10))


@pytest.mark.slow
def test_benchmark_measures_and_writes(tmp_path):
    """A tiny child, from the cache that another one left, which started from an empty one."""
    size = {"children": 1, "steps": 1, "num-layers": 1, "image-size": 8, "batch-size": 8, "train-images": 16}
    size |= {"valid-images": 16, "fit-images": 8, "json": tmp_path / "out.json"}
    flags = [f"--{name}={value}" for name, value in size.items()]
    command = [
        sys.executable,
        BENCHMARKS / "search_throughput.py",
        *flags,
        "--methods=ours",
        "--caches=warm",
        "--growth",
    ]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert "1 child x 1 step" in done.stdout
    fill, warm = json.loads((tmp_path / "out.json").read_text())["measurements"]
    assert (fill["purpose"], warm["purpose"]) == ("fill", "compare")
    assert fill["programs"]["from_cache"] == 0 < warm["programs"]["from_cache"] < warm["programs"]["count"]
    for record in (fill, warm):
        parts = record["seconds"]
        assert record["wall"] == pytest.approx(parts["compile"] + parts["train_and_score"] + parts["other"])
        assert 0 <= parts["other"] < record["wall"]
        assert 0 < parts["tracing"] <= parts["compile"]
        assert record["peak_mib"] > record["peak_mib_before"] > 10


@pytest.mark.slow
def test_methods_take_turns(tmp_path):
    """Two populations of one child each; who stands aside does not count the time."""
    size = {"children": 2, "population": 1, "steps": 1, "num-layers": 1, "image-size": 8, "batch-size": 8}
    size |= {"train-images": 16, "valid-images": 16, "fit-images": 8, "json": tmp_path / "out.json", "caches": "cold"}
    flags = [*(f"--{name}={value}" for name, value in size.items()), "--growth", "--interleaved"]
    command = [sys.executable, BENCHMARKS / "search_throughput.py", *flags, "--methods", "ours", "naive"]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    elapsed = time.perf_counter() - began
    told = [line.split()[:3] for line in done.stderr.splitlines() if "children," in line]
    assert told == [[name, count, "children,"] for count in ("1/2", "2/2") for name in ("ours", "naive")]
    ours, naive = json.loads((tmp_path / "out.json").read_text())["measurements"]
    assert [record["method"] for record in (ours, naive)] == ["ours", "naive"]
    for record in (ours, naive):
        assert record["programs"]["from_cache"] < record["programs"]["count"] / 2
        assert len(record["turns"]) == 2
        assert 0 < sum(record["turns"]) <= record["wall"] < sum(record["turns"]) + 1
    assert ours["wall"] + naive["wall"] < elapsed
    assert "naive cold / ours cold" in done.stdout


def test_turns_are_for_empty_caches(capsys):
    with pytest.raises(SystemExit):
        search_throughput.arguments(["--interleaved"])
    assert "add --caches cold" in capsys.readouterr().err


def test_report_tells_ratios_and_extrapolation():
    def record(method, cache, wall, repeat, **extra):
        seconds = {"compile": 0.2 * wall, "train_and_score": 0.7 * wall, "other": 0.1 * wall}
        record = {"method": method, "cache": cache, "steps": 5, "children": 10, "purpose": "compare", "repeat": repeat}
        record |= {"wall": wall, "total": wall, "extrapolated_to": None, "seconds": seconds, "peak_mib": 100.0}
        record |= {"gave_up": False, "cpu": 2 * wall}
        record |= {"programs": {"count": 3, "from_cache": 1}, "startup": 1.0, "failed": 0, "rewards": [0.5, 0.25]}
        return record | extra

    records = [record("ours", "cold", 10.0, 0), record("ours", "cold", 20.0, 1)]
    records += [record("naive", "cold", 30.0, 0, rewards=[0.5, 0.5]), record("naive", "cold", 40.0, 1)]
    records += [record("torch", "none", wall, i, total=2 * wall, extrapolated_to=20) for i, wall in enumerate((5, 6))]
    records += [record("ours", "cold", 90.0, 0, purpose="growth", children=30)]
    records += [record("ours", "cold", 90.0, 0, error="exit status 1", command_line="ours cold")]
    text = search_throughput.report(records)
    assert "naive cold / ours cold: 2.50 (2.00 to 3.00)" in text  # 30 / 10 and 40 / 20, pair by pair
    assert "torch none / ours cold: 0.80 (0.60 to 1.00), EXTRAPOLATED" in text
    assert "torch EXTRAPOLATED from 10" in text
    assert "differ by 1.2e-01 (median), 2.5e-01 (most)" in text
    assert "ours cold: exit status 1" in text
    assert "ms/step" not in text
    growth = text[text.index("Growth") :].splitlines()
    assert growth[3].split() == ["10", "15.0", "1.50", "3", "100"]
    assert growth[4].split() == ["30", "90.0", "3.00", "3", "100"]

    # 0.7 s a child at 5 steps and 2.2 s at 20: 0.1 s a step and 0.2 s to score.
    longer = record("ours", "cold", 22.0 / 0.7, 0, steps=20)
    text = search_throughput.report([record("ours", "cold", 10.0, 0), longer])
    assert text.splitlines()[-1].split() == ["ours", "cold", "100.0", "200.0"]

    # Who was not waited for takes longer than that.
    impatient = [record("ours", "cold", 10.0, 0), record("naive", "cold", 30.0, 0, gave_up=True)]
    text = search_throughput.report(impatient)
    assert "> 30.0" in text
    assert "naive cold / ours cold: > 3.00" in text


def ama_results(folder, *flags):
    """Of the AMA benchmark with tiny networks, and what it printed."""
    size = {"batch-size": 10, "image-size": 8, "channels": 1, "width": 0.01, "latent-dim": 4, "images": 12}
    size |= {"rounds": 2, "iterations": 2, "json": folder / "out.json"}
    flags = [*(f"--{name}={value}" for name, value in size.items()), *flags]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, BENCHMARKS / "ama_step.py", *flags]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return json.loads((folder / "out.json").read_text()), done.stdout


@pytest.mark.slow
def test_ama_benchmark_measures_and_writes(tmp_path):
    """Methods take turns; who goes first changes."""
    results, text = ama_results(tmp_path, "--methods", "ours", "torch")
    methods = ["ours", "torch"] if HAS_TORCH else ["ours"]
    assert list(results["methods"]) == methods
    assert [turn["method"] for turn in results["turns"]] == methods + methods[::-1]
    assert results["methods"]["ours"]["compile"] > 0 < results["methods"]["ours"]["programs"]
    for turn in results["turns"]:
        assert turn["images_per_second"] == pytest.approx(2 * 10 / turn["seconds"])
        assert np.isfinite(list(turn["info"].values())).all()
        assert turn["programs"] == 0
    assert ("torch" in results["errors"]) != HAS_TORCH
    assert "10 images 8x8x1" in text


@pytest.mark.slow
def test_ama_benchmark_takes_ours_apart(tmp_path):
    results, text = ama_results(tmp_path, "--methods=ours", "--profile=0")
    whole = {record["piece"] for record in results["profile"] if not record["part_of"]}
    assert {record["part_of"] for record in results["profile"]} - {""} < whole
    assert all(record["ms"] > 0 < record["times"] for record in results["profile"])
    assert "iteration as trained" in text


def test_ama_report_tells_ratios_and_shares():
    def turn(method, number, rate, **extra):
        record = {"round": number, "method": method, "images_per_second": rate, "peak_mib": 100.0, "programs": 0}
        return record | {"info": {"error": 0.5}} | extra

    about = {"method": "a library", "compile": 12.0, "ready": 20.0, "programs": 3}
    piece = {"piece": "critic update", "part_of": "", "times": 5, "ms": 10.0}
    part = {"piece": "spectral norm", "part_of": "critic update", "times": 5, "ms": 1.0}
    results = {
        "settings": {"batch_size": 10, "image_size": 8, "channels": 1, "width": 0.25, "iterations": 2},
        "methods": {"torch": about | {"programs": 0}, "ours": about},
        "turns": [turn("ours", 0, 100.0), turn("torch", 0, 50.0), turn("torch", 1, 25.0), turn("ours", 1, 100.0)],
        "profile": [piece, part],
        "errors": {"torch-channels-last": "exit status 1"},
    }
    text = ama_step.report(results)
    assert "ours / torch, images/s: 3.00 (2.00 to 4.00)" in text
    rows = " ".join(text.split())
    assert "ours a library 100.0 100.0 100.0 100.0 12.0 20.0 100" in rows
    assert "torch a library 37.5 25.0 50.0 266.7 - 20.0 100" in rows
    assert "critic update 5 10.00 50.0 50.0 %" in rows
    assert "spectral norm 5 1.00 5.0 5.0 %" in rows
    assert "sum 50.0 50.0 %" in rows
    assert "NOT MEASURED: torch-channels-last: exit status 1" in text
    assert "DIVERGED" not in text
    assert "COMPILED" not in text

    results["turns"].append(turn("ours", 2, 100.0, info={"error": float("nan")}, programs=1))
    text = ama_step.report(results)
    assert "DIVERGED: ours in round 3" in text
    assert "COMPILED WHILE TIMED: ours in round 3" in text


@pytest.mark.parametrize("flags", ["--batch-size 8", "--images 20", "--rounds 0", "--methods torch --profile"])
def test_ama_benchmark_refuses(flags, capsys):
    with pytest.raises(SystemExit):
        ama_step.arguments(flags.split())
    assert "error: --" in capsys.readouterr().err


def test_depthwise_benchmark_knows_the_layers_of_the_network():
    """Against the shapes that the kernels and outputs of the real network have."""
    shapes = efficientnet.shapes(11)
    images = jax.ShapeDtypeStruct((1, 75, 75, 3), jnp.float32)
    stages = jax.eval_shape(lambda p, x: efficientnet.stages(p, x, range(11)), shapes, images)
    found = {index: layer for layer in depthwise.layers(75, 11) for index in layer.blocks}
    assert sorted(found) == list(range(11))
    for index, layer in found.items():
        assert shapes[f"block_{index}"]["depth"]["kernel"].shape == (layer.kernel, layer.kernel, 1, layer.channels)
        assert -(-layer.size // layer.stride) == stages[index].shape[1]


def test_depthwise_benchmark_measures_and_writes(tmp_path, capsys, monkeypatch):
    flags = ["--side", "32", "--batch-size", "1", "--after", "1", "--rounds", "2", "--json", str(tmp_path / "out.json")]
    monkeypatch.setattr(sys, "argv", ["depthwise.py", *flags])
    depthwise.main()
    assert "network to block 1" in capsys.readouterr().out
    record = json.loads((tmp_path / "out.json").read_text())
    for measured in (*record["layers"], record["network"]):
        assert {name: len(runs) for name, runs in measured["runs"].items()} == {"shifted": 2, "grouped": 2}
        assert measured["difference"] < 1e-5


@pytest.mark.parametrize("by_shifts", [True, False])
def test_depthwise_benchmark_compares_two_networks(by_shifts):
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    program = str(jax.make_jaxpr(depthwise.network((1,), by_shifts))(efficientnet.shapes(2), images))
    groups = {int(count) for count in re.findall(r"feature_group_count=(\d+)", program)}
    assert groups == ({1} if by_shifts else {1, 32, 96})


@pytest.mark.parametrize("name", ["brick", "rocket"])
def test_painted_photographs(name, tmp_path):
    """Training and held-out crops of a texture share no pixel; masks are what differs, and of no normal image."""
    sizes = {"train": 8, "good": 8, "each": 2}
    folder = painted_photographs.write_task(name, tmp_path / "one", 5, **sizes)
    other = painted_photographs.write_task(name, tmp_path / "other", 5, **sizes)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*.png"))
    assert len(files) == 8 + 8 + 4 * 2 * 2
    assert all((folder / file).read_bytes() == (other / file).read_bytes() for file in files)
    task = jaxad.load_task(f"mvtec:{folder}", seed=0)
    assert task.train.images.shape == (8, 224, 224, 1 if name == "brick" else 3)
    for part in (task.valid, task.test):
        np.testing.assert_array_equal(part.masks.any((1, 2)), part.labels == 1)
        assert part.masks[part.labels == 1].mean() < 0.1
    if name == "brick":
        dark_left = np.full((512, 512, 1), 0.8)
        dark_left[:, : 3 * 512 // 5] = 0.2
        rng, draw = np.random.default_rng(0), painted_photographs.draw_normal
        assert max(draw(rng, name, dark_left, training=True).max() for _ in range(20)) < 0.4
        assert min(draw(rng, name, dark_left, training=False).min() for _ in range(20)) > 0.5


@pytest.mark.slow
def test_photographs_are_measured(tmp_path, capsys):
    """Two quick detectors; what is kept is not measured again, and says what was printed."""
    flags = ["--tasks", "brick", "--num-seeds", "1", "--rivals", "pca", "nearest_neighbours", "--ranking"]
    flags += [f"--lines={tmp_path / 'lines'}", f"--json={tmp_path / 'json'}", f"--folder={tmp_path}", "--images=8"]
    photographs.main(flags)
    first = capsys.readouterr().out
    lines = (tmp_path / "lines").read_text()
    photographs.main(flags)
    assert (tmp_path / "lines").read_text() == lines
    assert capsys.readouterr().out.splitlines()[1:] == first.splitlines()[1:]
    found = json.loads((tmp_path / "json").read_text())
    assert [row["seed"] for row in found["brick"]["cells"]] == [0]
    for record, row in zip(map(json.loads, lines.splitlines()), found["all"]["cells"]):
        tested = {one["detector"]: one["test"]["auroc"] for one in record["detectors"]}
        assert list(tested) == ["pca", "nearest_neighbours"]
        assert row["regret"] == max(tested.values()) - tested[row["returned"]]
        assert record["labels"]["valid"].count(1) == 4
        for one in record["detectors"]:
            assert len(one["made"]["scores"]) == 4 + photographs.MADE
            assert one["value"] == pytest.approx(one["valid"]["auroc"])


def test_regret_and_tau_of_photographs():
    def record(name, valid, made, test, margin=0.0):
        parts = {"valid": valid, "made": made, "test": test}
        return {"detector": name} | {part: {"auroc": value, "margin": margin} for part, value in parts.items()}

    records = [record("a", 0.9, 0.5, 0.7), record("b", 0.9, 0.7, 0.8, margin=1.0), record("c", 0.6, 0.9, 0.9)]
    of = {"task": "t", "seed": 0, "ranking": True}
    found = photographs.summarised([{"of": of, "returned": "b", "detectors": records}])
    (row,) = found["cells"]
    assert photographs.chosen(records, "valid")["detector"] == "b"
    assert (row["best"], row["regret_made"]) == ("c", 0)
    assert row["regret"] == pytest.approx(0.1) == found["worst_regret"]
    for one, pixels in zip(records, (0.4, 0.6, 0.95)):  # and now maps have a say
        one["valid"]["pixel_auroc"] = one["test"]["pixel_auroc"] = pixels
    (by_both,) = photographs.summarised([{"of": of, "returned": "b", "detectors": records}])["cells"]
    assert (by_both["returned"], by_both["regret"], by_both["regret_pixels"]) == ("c", 0, 0)
    assert by_both["regret_images_alone"] == pytest.approx(0.1)
    assert row["tau_made"] == 1  # all three pairs agree
    assert row["tau_valid"] == pytest.approx(-2 / np.sqrt(3 * 2))  # two pairs disagree, one is a tie
    assert found["mean"]["tau_made"] == 1


@pytest.mark.parametrize("flags", ["--tasks bricks", "--num-seeds 0", "--rivals none", "--rivals luck", "--images 3"])
def test_photographs_benchmark_refuses(flags, capsys):
    with pytest.raises(SystemExit):
        photographs.main(flags.split())
    assert "error: " in capsys.readouterr().err


# ---- detectors at their defaults -------------------------------------------------------------------------------------


def test_defaults_are_measured_beside_the_yardstick_and_not_repeated(tmp_path, capsys, monkeypatch):
    flags = ["--output", str(tmp_path), "--detectors", "nearest_neighbours", "--num-seeds", "2", "--tasks", "digits"]
    defaults.main(flags)
    out = capsys.readouterr().out
    assert re.search(r"^nearest_neighbours +0 +[\d.]+ ± [\d.]+ \([+-][\d.]+\) +\d+$", out, re.MULTILINE), out
    (tmp_path / "nearest_neighbours-0-digits-seed1" / "results.json").unlink()  # as of a run that was killed
    defaults.main(flags)
    figures = [re.sub(r" +\d+$", "", text.splitlines()[-1]) for text in (out, capsys.readouterr().out)]  # no seconds
    assert figures[0] == figures[1]
    monkeypatch.setattr(defaults.train, "run", None)
    defaults.main(flags)
    assert figures[0] in capsys.readouterr().out


def test_defaults_train_with_labels_what_learns_from_them():
    given = argparse.Namespace(num_seeds=1, tasks=["digits"], detectors=["pca", "agad", "devnet"])
    assert [cell[:2] for cell in defaults.cells(given)] == [("pca", 0), ("agad", 0), ("agad", 10), ("devnet", 10)]
