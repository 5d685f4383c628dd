"""The imports of the library, read from its sources: they point one way, and importing it stays light."""

import ast
import graphlib
import subprocess
import sys
import tomllib
from pathlib import Path

import jaxad

PACKAGE = Path(jaxad.__file__).parent

# A room may import from those before it, and modules of one room from each other without circles. Data and metrics
# know nothing of each other.
ORDER = (
    ("types", "_utils"),
    ("data", "metrics"),
    ("nn",),
    ("training",),
    ("methods",),
    ("nas",),
    ("report",),
    ("runs",),
)
# What is made for another library imports it.
ADAPTERS = ("sklearn",)

HEAVY = ("matplotlib", "tyro", "tensorflow_datasets", "tensorflow", "skimage", "sklearn", "jinja2")


def name_of(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(name, path):
    """Full names of all that a module imports anywhere in it, `from a import b` being a.b where that is a module."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def inside(found):
    """The modules of this library among imported names."""
    names = set()
    for full in found:
        if full.split(".")[0] == "jaxad":
            local = full.removeprefix("jaxad").removeprefix(".")
            while local not in MODULES:
                local = local.rpartition(".")[0]
            names.add(local)
    return names


GRAPH = {name: inside(imports_of(name, path)) - {name} for name, path in MODULES.items()}


def is_in(name, prefix):
    return name == prefix or name.startswith(f"{prefix}.")


def is_any(name, prefixes):
    return any(is_in(name, prefix) for prefix in prefixes)


DOORS = ("", "__main__")  # the package itself, which shows names of all rooms, and `python -m jaxad`


def room_of(name):
    return name.split(".")[0]


def level_of(name):
    return next(number for number, rooms in enumerate((*ORDER, ADAPTERS)) if room_of(name) in rooms)


def test_the_reading_finds_what_is_there():
    assert {"types", "nn.conv", "nas.executors.sequential", "nas.trial", "data"} <= set(MODULES)
    assert {"nas.trial", "nas.executors.tape", "nn.autoencoder", "types"} <= GRAPH["nas.executors.sequential"]
    assert {"data.batches", "nn.objectives.child"} <= GRAPH["nas.trial"]
    assert "matplotlib.figure.Figure" in imports_of("style", MODULES["report.plots.style"])  # inside functions too


def test_the_house_has_twelve_rooms():
    """A new room has its place in the order of imports."""
    rooms = {room_of(name) for name in MODULES if name not in DOORS}
    assert rooms == {room for level in (*ORDER, ADAPTERS) for room in level}
    assert len(rooms) + 1 <= 12  # and the package's own __init__


def test_imports_point_one_way():
    against = [
        f"{name} imports {imported}"
        for name in MODULES
        if name not in DOORS
        for imported in GRAPH[name]
        if room_of(imported) != room_of(name) and (not imported or level_of(imported) >= level_of(name))
        if imported != "types"
    ]
    assert against == []


def test_there_are_no_circles():
    graph = {name: imported - {""} for name, imported in GRAPH.items() if name}
    graphlib.TopologicalSorter(graph).prepare()


def test_the_library_knows_nothing_of_what_is_built_with_it():
    for name, path in MODULES.items():
        roots = {full.split(".")[0] for full in imports_of(name, path)}
        assert not roots & {"experiments", "tests", "benchmarks", "pytest"}, name


def test_importing_everything_stays_light():
    """What only some tasks need is imported by the functions that need it."""
    of_commands = ("runs.programs",)  # which read their flags by tyro
    names = [f"jaxad.{name}" if name else "jaxad" for name in MODULES if not is_any(name, (*ADAPTERS, *of_commands))]
    program = (
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert result.stdout.strip() == "[]"


def test_only_the_learned_strategy_imports_distrax():
    """It takes a second; naming the strategies' settings, random search and evolution do without."""
    program = (
        "import sys\n"
        "import jaxad, jaxad.nas.loop\n"
        "from jaxad.nas.space import SearchSpace\n"
        "from jaxad.nas.strategies.autoad import AutoADConfig\n"
        "from jaxad.nas.strategies.registry import make_strategy\n"
        "for name in ('random', 'evolution', 'autoad'):\n"
        "    make_strategy(name, SearchSpace(num_layers=1))\n"
        "    print(name, 'distrax' in sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert result.stdout.split() == ["random", "False", "evolution", "False", "autoad", "True"]


def test_every_file_of_the_package_is_installed():
    """An editable installation, as the tests have it, would not notice."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["jaxad"]
    files = [p.relative_to(PACKAGE) for p in PACKAGE.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")]
    assert files
    assert [str(file) for file in files if str(file) not in patterns and not any(map(file.match, patterns))] == []


def test_every_room_says_its_purpose():
    silent = [name for name, path in MODULES.items() if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []
