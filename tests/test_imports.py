"""The imports of the library, read from its sources: they point one way, and importing it stays light."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import jaxad

PACKAGE = Path(jaxad.__file__).parent

# A module may import from its own level and from those before; within a level there are no circles. The longest
# prefix decides, so that a new file in a known package needs no line here.
LEVELS = (
    ("types",),
    ("trees", "metrics", "distances", "backend", "batches", "parallel", "search.space", "search.sizes", "nets"),
    ("latents", "losses", "neighbours", "maps", "refinement", "segmentation_metrics", "pixel_metrics"),
    ("bayes",),
    ("hypotheses", "scoring", "training", "selection"),
    (
        "search.child",
        "search.supernet",
        "search.blocks",
        "search.kernels",
        "search.spectra",
        "search.tape",
        "search.trial",
    ),
    ("search",),
    ("detectors", "batch_sampling"),
    ("retraining", "evaluation", "averages", "resumable", "segmenting"),
    ("sklearn",),
)
# These know arrays, files and pages, and nothing of how anything is learnt.
LEAVES = (
    *("data", "files", "checkpoint", "runs", "cli", "processes"),
    *("progress", "plots", "pages", "overlays", "report", "thresholds", "tables", "pretrained"),
)

# What is made for another library imports it.
ADAPTERS = ("sklearn",)

HEAVY = ("flax", "matplotlib", "rich", "tyro", "tensorflow_datasets", "tensorflow", "skimage", "sklearn", "jinja2")


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


def level_of(name):
    """The number of a module's level, or None for a leaf."""
    if any(is_in(name, leaf) for leaf in LEAVES):
        return None
    places = {prefix: number for number, level in enumerate(LEVELS) for prefix in level if is_in(name, prefix)}
    assert places, f"jaxad/{name}.py has no place in the order of imports; give it one in LEVELS or LEAVES"
    return places[max(places, key=len)]


def test_the_reading_finds_what_is_there():
    assert {"types", "nets.conv", "search.sequential", "search.trial", "data"} <= set(MODULES)
    assert {"search.trial", "search.tape", "nets.autoencoder", "types", "distances"} <= GRAPH["search.sequential"]
    assert {"metrics", "batches", "search.child"} <= GRAPH["search.trial"]
    assert "matplotlib.figure.Figure" in imports_of("plots.look", MODULES["plots.look"])  # inside functions too


def test_imports_point_one_way():
    against = []
    for name in filter(None, MODULES):  # the package itself shows names of all levels
        for imported in GRAPH[name] - {"", "types"}:
            own, other = level_of(name), level_of(imported)
            if other is not None and (own is None or other > own):
                against.append(f"{name} imports {imported}")
    assert against == []


def test_there_are_no_circles():
    graph = {name: imported - {""} for name, imported in GRAPH.items() if name}
    graphlib.TopologicalSorter(graph).prepare()


def test_flax_stays_in_nets():
    for name, path in MODULES.items():
        roots = {full.split(".")[0] for full in imports_of(name, path)}
        assert "flax" not in roots or is_in(name, "nets"), name


def test_the_library_knows_nothing_of_what_is_built_with_it():
    for name, path in MODULES.items():
        roots = {full.split(".")[0] for full in imports_of(name, path)}
        assert not roots & {"experiments", "tests", "benchmarks", "pytest"}, name


def test_importing_everything_stays_light():
    """What only some tasks need is imported by the functions that need it."""
    names = [f"jaxad.{name}" if name else "jaxad" for name in MODULES if name not in ADAPTERS]
    program = (
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert result.stdout.strip() == "[]"
