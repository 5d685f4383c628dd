"""The public names: what `dir` shows, where it comes from, that nothing hides a module, that examples run."""

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import run_example

import jaxad

FUNCTIONS = (
    *("calibrate", "detectors", "evaluate", "export", "fit", "fit_population", "load", "load_task", "map_images"),
    *("save", "score_images", "search"),
)
MODULES = [module.name for module in pkgutil.walk_packages(jaxad.__path__, "jaxad.")]


def test_dir_shows_what_is_meant_and_nothing_else():
    assert dir(jaxad) == sorted(jaxad.__all__)
    assert {name for name in dir(jaxad) if inspect.isfunction(getattr(jaxad, name))} == set(FUNCTIONS)
    others = set(dir(jaxad)) - set(FUNCTIONS) - {"__version__"}
    assert all(inspect.isclass(getattr(jaxad, name)) for name in others)


@pytest.mark.parametrize("package", [jaxad, jaxad.data], ids=["jaxad", "jaxad.data"])
def test_type_checkers_are_told_the_same(package):
    tree = ast.parse(Path(package.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    told = {alias.asname: f"{node.module}.{alias.name}" for node in block.body for alias in node.names}
    homes = {name: f"{package.__name__}.{home}.{name}" for name, home in package._HOMES.items()}
    assert told == homes
    assert set(homes) | ({"__version__"} & set(vars(package))) == set(package.__all__) == set(dir(package))
    for name, home in package._HOMES.items():
        value = getattr(package, name)
        if inspect.isfunction(value) or inspect.isclass(value):  # others do not know where they are from
            assert value.__module__ == f"{package.__name__}.{home}", name


def test_importing_jaxad_imports_nothing_else():
    program = "import sys, jaxad; dir(jaxad); print([name for name in sys.modules if name.startswith('jaxad.')])"
    program += "; print([name for name in ('jax', 'numpy', 'flax', 'optax') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    needed = [f"jaxad._utils{name}" for name in ("", ".lazy", ".threads", ".version")]
    assert result.stdout.splitlines() == [str(needed), "[]"]


def test_unknown_names_are_missing_and_packages_are_there():
    with pytest.raises(AttributeError, match="'jaxad' has no attribute 'magic'"):
        jaxad.magic  # noqa: B018
    with pytest.raises(ImportError):
        from jaxad import magic  # noqa: F401
    assert jaxad.data is importlib.import_module("jaxad.data")


@pytest.mark.parametrize("name", MODULES)
def test_nothing_hides_a_module(name):
    module = importlib.import_module(name)
    parent, _, own = name.rpartition(".")
    package = importlib.import_module(parent)
    assert getattr(package, own) is module
    # Nor could anything: what a package re-exports has no name of one of its modules, whichever is imported last.
    assert own not in getattr(package, "__all__", ()) or parent == "jaxad"


# That of `search` runs beside the tests of searches, which have its settings and so its programs.
@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "search"])
def test_the_examples_of_public_functions_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_example(getattr(jaxad, name))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_public_functions_say_what_they_take_return_and_raise(name):
    function = getattr(jaxad, name)
    said = inspect.getdoc(function)
    parameters = inspect.signature(function).parameters.values()
    if parameters:
        assert "Args:" in said
        for parameter in parameters:
            assert f"{parameter.name}" in said.partition("Args:")[2].partition(">>>")[0], parameter.name
        assert "Raises:" in said
    returns = inspect.signature(function).return_annotation
    assert returns in (None, "None") or "Returns:" in said
