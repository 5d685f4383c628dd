"""One file with one decorator adds a detector, a strategy, an image source, from outside or as a file of a package."""

import contextlib
import importlib
import re
import subprocess
import sys
import textwrap
from typing import NamedTuple

import numpy as np
import outside
import pytest
from scripts import EXPERIMENTS, call, one_line

import jaxad
from jaxad import data
from jaxad._utils.registry import Registry
from jaxad.data import SOURCES
from jaxad.methods import DETECTORS, config_of, entry_of
from jaxad.nas.strategies.registry import STRATEGIES, make_strategy
from jaxad.sklearn import AnomalyDetector
from spaces import FEW

sys.path.append(str(EXPERIMENTS))


# ---- from outside (the contract suite runs over the detector, too) -------------------------------------------------


def test_a_detector_from_outside_is_named_and_trained_like_any_other(tmp_path):
    entry = jaxad.detectors()["outside_mean"]
    assert (entry.config, entry.build) == (outside.OutsideMeanConfig, outside.outside_mean)
    assert entry_of(outside.OutsideMeanConfig(momentum=0.5)) is entry
    assert config_of("outside_mean", ["momentum=0.25"]) == outside.OutsideMeanConfig(momentum=0.25)
    with pytest.raises(ValueError, match="momentum is 2"):
        config_of("outside_mean", ["momentum=2"])
    script = importlib.import_module("train_detector")
    status, out, _ = call(script.run, "--list")
    assert status == 0
    assert "outside_mean" in out
    assert "a detector of the tests" in " ".join(out.split())
    flags = ("--detector", "outside_mean", "--dataset", "bars:8", "--settings", "momentum=0.5")
    status, out, err = call(script.run, *flags, "--output", tmp_path / "run")
    assert status == 0, err
    loaded = jaxad.load(tmp_path / "run")
    assert (loaded.name, loaded.config) == ("outside_mean", outside.OutsideMeanConfig(momentum=0.5))
    task = data.load_task("bars:8")
    scores = jaxad.score_images(loaded.detector, loaded.state, task.test.images)
    assert scores[task.test.labels == 1].min() > scores[task.test.labels == 0].max()
    for given in ("outside_mean", outside.OutsideMeanConfig()):
        assert AnomalyDetector(given, random_state=0).fit(task.train.images).predict(task.test.images).min() == -1


PLUGIN = """
import dataclasses
from outside import outside_mean
from jaxad.methods import detector

@dataclasses.dataclass(frozen=True, kw_only=True)
class ElsewhereConfig:
    momentum: float = 0.9

@detector("elsewhere", "A detector of a file of its own.", config=ElsewhereConfig, tiny=ElsewhereConfig())
def elsewhere(config=None, **fields):
    return outside_mean(momentum=config.momentum)
"""


@contextlib.contextmanager
def another_process(*modules):
    """What is registered and imported here is forgotten afterwards."""
    before = dict(DETECTORS._entries), dict(DETECTORS._origins)
    try:
        yield
    finally:
        DETECTORS._entries, DETECTORS._origins = before
        for module in modules:
            sys.modules.pop(module, None)


def test_scripts_import_plugins_and_saved_detectors_name_theirs(tmp_path, monkeypatch):
    file = tmp_path / "elsewhere_plugin.py"
    file.write_text(PLUGIN)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    script, scorer = map(importlib.import_module, ("train_detector", "detect"))
    flags = ("--detector", "elsewhere", "--dataset", "bars:8", "--output", tmp_path / "run")
    status, _, err = call(script.run, *flags)
    assert one_line(status, err, "there is no detector 'elsewhere'")
    with another_process(file.stem):
        status, _, err = call(script.run, *flags, "--plugins", file.name)
        assert status == 0, err
    monkeypatch.chdir("/")
    with another_process(file.stem):  # the run knows its plugins
        status, out, err = call(script.run, "--resume", tmp_path / "run")
        assert status == 0, err
        assert "is finished" in out
    archive = tmp_path / "new.npz"
    np.savez(archive, images=data.load("bars:8", limit=4).images)
    flags = (tmp_path / "run", archive, "--output", tmp_path / "scores", "--overlays", 0)
    status, _, err = call(scorer.detect, *flags)
    assert one_line(status, err, f"import {file} first, give it to the script as --plugins")
    with another_process(file.stem):
        status, out, err = call(scorer.detect, *flags, "--plugins", file)
        assert status == 0, err
        assert "of 4 images are anomalous" in out


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("gone.py", None, "gone.py is no Python file here"),
        ("my plugin.py", "", "my plugin.py is no Python file here; give one whose name Python can import"),
        ("torn_plugin.py", "def", "torn_plugin.py cannot be imported: SyntaxError"),
        ("json.py", "", "has the name of another module, json: rename the file"),
    ],
)
def test_plugins_that_cannot_be_imported_are_named_in_one_line(name, text, message, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    if text is not None:
        (tmp_path / name).write_text(text)
    status, _, err = call(importlib.import_module("train_detector").run, "--list", "--plugins", tmp_path / name)
    assert one_line(status, err, message)


def test_a_strategy_from_outside_searches():
    task = data.load_task("digits", normal_classes=["0"], anomaly_ratio=0.3, limit=120)
    options = FEW | {"children": 2, "num_layers": 1, "steps": 2, "retrain_steps": 4, "retrain_top": 1, "quiet": True}
    options["rivals"] = ("none",)
    found = jaxad.search(task, strategy="walk", **options)
    assert found.results["strategy"] == "walk"
    assert len(found.trials) == 2
    with pytest.raises(ValueError, match="no strategy 'run'; choose one of autoad, evolution, random, walk"):
        jaxad.search(task, strategy="run", **options)
    with pytest.raises(ValueError, match="'walk' has no option 'speed'; it has population, stride"):
        make_strategy("walk", jaxad.SearchSpace(num_layers=1), speed=3)
    assert STRATEGIES["walk"].num_uniform(children=30, population=6) == 6
    assert STRATEGIES["random"].num_uniform(children=30, population=6) == 30


def test_an_image_source_from_outside_makes_tasks():
    task = data.load_task("bars:12", seed=1)
    assert task.train.images.shape == (72, 12, 12, 1)
    assert task.details["normal_classes"] == ["across"]
    assert data.TaskConfig(dataset="bars:12").load_task(0).test.labels.mean() == pytest.approx(0.3, abs=0.05)
    against = data.load_task("digits", ood="bars:12", limit=60)
    assert against.test.images.shape[1:] == (8, 8, 1)
    assert any("bars:12" in name for name in against.test.ids)
    assert len(data.load("bars:8", limit=7).ids) == 7
    assert data.load("bars:8", image_size=4).images.shape == (180, 4, 4, 1)
    assert any("bars:SIDE" in line for line in data.available())
    with pytest.raises(ValueError, match="'bars:wide' has no side: write bars:SIDE"):
        data.load("bars:wide")
    with pytest.raises(ValueError, match="has no part 'test' to test on"):
        data.load_task("bars:8", test_split="test")


def test_help_lists_what_there_is_to_name():
    status, out, _ = call(importlib.import_module("train_detector").run, "--help")
    assert status == 0
    shown = " ".join(out.split())
    for registry in (DETECTORS, SOURCES):
        for entry in registry.values():
            assert f"{entry.usage}: {' '.join(entry.summary.split())}" in shown
    status, out, _ = call(importlib.import_module("autoad_search").run, "--help")
    assert "walk: A random walk through the space" in " ".join(out.split())


# ---- registries -----------------------------------------------------------------------------------------------------


class Entry(NamedTuple):
    usage: str
    summary: str = "It is made for this test."


@pytest.fixture
def things(tmp_path, monkeypatch):
    """A registry of a package of files, of which one is heavy."""
    package = tmp_path / "toolbox"
    files = {
        "__init__": "",
        "registry": """
            from test_extending import Entry
            from jaxad._utils.registry import Registry
            THINGS = Registry("thing", "toolbox")
            def thing(name):
                def register(make):
                    THINGS.add(name, Entry(name), make)
                    return make
                return register
        """,
        "hammer": """
            from toolbox.registry import thing
            @thing("hammer")
            def make(): pass
        """,
        "heavy": """
            from toolbox.registry import thing
            import toolbox
            toolbox.imported = True
            @thing("crane")
            def make(): pass
        """,
        "sets/__init__": "",
        "sets/tools": """
            from toolbox.registry import thing
            @thing("wrench")
            def make(): pass
        """,
    }
    (package / "sets").mkdir(parents=True)
    for name, text in files.items():
        (package / f"{name}.py").write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("toolbox.registry").THINGS
    for name in [name for name in sys.modules if name.partition(".")[0] == "toolbox"]:
        del sys.modules[name]


def test_a_file_of_the_package_is_found_and_what_nobody_asks_for_is_not_imported(things):
    assert "toolbox.hammer" not in sys.modules
    assert things["hammer"] == Entry("hammer")
    assert things["wrench"] == Entry("wrench")  # in quotes in a file of another name
    assert not hasattr(sys.modules["toolbox"], "imported")
    assert list(things) == ["crane", "hammer", "wrench"]  # whatever their files are called
    assert sys.modules["toolbox"].imported
    assert len(things) == 3
    assert repr(things) == "<registry of thing: crane, hammer, wrench>"


def test_a_name_is_looked_for_in_all_files(things):
    assert things.named("wrench") == Entry("wrench")
    assert things.first(lambda entry: entry.usage == "crane") == Entry("crane")
    assert things.first(lambda entry: entry.usage == "saw") is None
    assert "saw" not in things
    assert 3 not in things
    with pytest.raises(KeyError):
        things["saw"]
    with pytest.raises(ValueError, match="there is no thing 'saw'; choose one of crane, hammer, wrench"):
        things.named("saw")


def make():
    """What the tests below register."""


def test_names_are_given_once_and_are_names():
    registry = Registry("thing", "jaxad._utils")
    registry.add("one", Entry("one"), make)
    registry.add("one", Entry("one", "Anew, as in a notebook."), make)
    assert registry["one"].summary == "Anew, as in a notebook."
    with pytest.raises(ValueError, match=r"'one' is registered by test_extending\.make: give .*Entry another name"):
        registry.add("one", Entry("one"), Entry)
    for bad in ("two words", "a:b", "", 3):
        with pytest.raises(ValueError, match="is no name"):
            registry.add(bad, Entry("two"), make)
    with registry.temporarily("one", Entry("other")), registry.temporarily("two", Entry("two")):
        assert [entry.usage for entry in registry.values()] == ["other", "two"]
    assert list(registry) == ["one"]
    assert registry["one"].summary == "Anew, as in a notebook."


def test_a_detector_has_tiny_settings_of_its_own_kind():
    with pytest.raises(ValueError, match="tiny settings 'tiny' of odd are 3; give a OutsideMeanConfig"):
        jaxad.methods.detector("odd", "Odd.", config=outside.OutsideMeanConfig, tiny=3)


def test_a_strategy_is_imported_without_the_libraries_of_another():
    program = (
        "import sys; from jaxad.nas.strategies.registry import STRATEGIES; STRATEGIES['random']; "
        "print('distrax' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert result.stdout.strip() == "False"


def test_the_readme_says_what_each_detector_is_and_links_its_file():
    root = EXPERIMENTS.parent
    listed = re.findall(r"^\| \[`(\w+)`\]\((\S+)\) \| (.+) \|$", (root / "README.md").read_text(), re.M)
    of_the_package = {name for name, entry in DETECTORS.items() if entry.config.__module__.startswith("jaxad.")}
    assert {name: summary for name, _, summary in listed} == {n: DETECTORS[n].summary for n in of_the_package}
    for name, file, _ in listed:
        assert re.search(rf'@detector\(\s*"{name}"', (root / file).read_text()), file


def test_every_entry_is_said_in_a_sentence():
    for registry in (DETECTORS, STRATEGIES, SOURCES):
        for entry in registry.values():
            assert entry.summary.endswith(".")
            assert entry.usage
    np.testing.assert_array_equal(sorted(DETECTORS), list(DETECTORS))
