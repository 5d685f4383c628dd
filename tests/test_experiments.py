"""One contract for all experiments: how long they are, how they are told what to do, how they say what they take."""

import ast
import dataclasses
import importlib
import inspect
import sys
import textwrap
import typing

import pytest
from scripts import EXPERIMENTS, call

from jaxad._utils.files import from_json, to_json
from jaxad.methods import DETECTORS
from jaxad.nn.architecture import Architecture

sys.path.append(str(EXPERIMENTS))
SCRIPTS = sorted(EXPERIMENTS.glob("*.py"))
# One flag per idea: what these were called, they are called no longer.
GONE = {
    "num_seeds": ("train_seeds", "repetitions", "retrain_seeds", "seeds"),
    "checkpoints": ("evals", "looks", "saves"),
    "anomaly_ratio": ("contamination",),
    "target_fpr": ("fpr", "false_positive_rate"),
}


@pytest.fixture(params=SCRIPTS, ids=lambda path: path.stem)
def experiment(request):
    return importlib.import_module(request.param.stem)


def function_of(experiment):
    """What the script calls with its config."""
    return getattr(experiment, "run", None) or experiment.detect


def presets_of(experiment):
    """The fields that each preset gives, as `cli.main` does."""
    for field, table in (("preset", "PRESETS"), ("mode", "MODES")):
        for name, fields in getattr(experiment, table, {}).items():
            yield {field: name, **fields}


def helps(config_class):
    """(name, help) of all fields, as the sources of a config and its bases have them; with those of nested configs."""
    found = {}
    for kind in reversed(config_class.__mro__):
        body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0].body if kind is not object else []
        for node, after in zip(body, [*body[1:], None]):
            if isinstance(node, ast.AnnAssign):
                said = ast.unparse(after) if isinstance(after, ast.Expr) else "''"
                text = " ".join(ast.literal_eval(said).split())
                found[node.target.id] = text or found.get(node.target.id, "")
    hints = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        yield field.name, found[field.name]
        for kind in (hints[field.name], *typing.get_args(hints[field.name])):
            if dataclasses.is_dataclass(kind) and kind is not Architecture:
                yield from ((f"{field.name}.{name}", text) for name, text in helps(kind))


def is_sentence(text):
    """Whether a help line can be read on its own."""
    return text.endswith(".") and (text[0].isupper() or text[0].isdigit()) and text.split()[0] not in ("Of", "To", "In")


def test_a_script_is_its_own_few_steps(experiment):
    text = inspect.getsource(experiment)
    assert len(text.splitlines()) <= 150
    assert experiment.__doc__.count("\n    python experiments/") >= 1


def test_all_scripts_together_are_short():
    assert sum(len(path.read_text().splitlines()) for path in SCRIPTS) <= 1100


def test_settings_are_frozen_and_survive_a_file(experiment):
    config_class = experiment.Config
    assert config_class.__dataclass_params__.frozen
    assert all(field.kw_only for field in dataclasses.fields(config_class))
    needed = [f for f in dataclasses.fields(config_class) if f.default is f.default_factory is dataclasses.MISSING]
    for preset in [] if needed else [{}, *presets_of(experiment)]:
        config = config_class(**preset)
        if hasattr(config, "check"):
            config.check()
        assert from_json(config_class, to_json(config), "config") == config
        with pytest.raises(dataclasses.FrozenInstanceError):
            config.quiet = True


def test_one_flag_for_one_idea(experiment):
    names = {field.name for field in dataclasses.fields(experiment.Config)}
    for name, others in GONE.items():
        assert not names & set(others), f"write {name}"


def test_help_is_whole_sentences(experiment, monkeypatch):
    unclear = {name: text for name, text in helps(experiment.Config) if not text or not is_sentence(text)}
    assert unclear == {}
    monkeypatch.setenv("COLUMNS", "300")
    status, out, err = call(function_of(experiment), "--help")
    assert (status, err) == (0, "")
    for field in dataclasses.fields(experiment.Config):
        assert field.name.replace("_", "-") in out or field.name.upper() in out, field.name


@pytest.mark.parametrize("name", DETECTORS)
def test_settings_of_detectors_are_whole_sentences(name):
    unclear = {field: text for field, text in helps(DETECTORS[name].config) if not text or not is_sentence(text)}
    assert unclear == {}
