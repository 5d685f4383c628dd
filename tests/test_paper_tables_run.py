"""Every row of the papers' tables has data that its command reads, and every cell ends: on small sets of noise."""

import importlib
import sys
from pathlib import Path

import pytest
from paper_data import write_data
from scripts import EXPERIMENTS, call
from test_paper_constants import TABLES, config_of

from jaxad.methods.common.labels import training_labels, with_classes
from jaxad.report.table_spec import cell_of, pairs_of, value_at
from jaxad.runs import table_runs

sys.path.append(str(EXPERIMENTS))


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder in which the tables find their data."""
    folder = tmp_path_factory.mktemp("papers")
    write_data(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TFDS_DATA_DIR", str(folder / "tfds"))
        yield folder


def load(config):
    """What a script loads before anything is computed, and what it then refuses."""
    if hasattr(config, "load_labelled"):
        return config.load_labelled(0)
    if hasattr(config, "load_sets"):
        sets = config.load_sets(0)
        return config.one_class_task(sets, sets.classes[0], gamma=config.gammas[0], gamma_seed=0, seed=0)
    task = config.load()
    if hasattr(config, "detector"):
        training_labels(config.detector, with_classes(config.method(), task, config.settings), task)
    return task


@pytest.mark.parametrize("name", TABLES)
def test_every_set_of_a_table_is_read_by_its_commands(name, here):
    """Each with the first class that is normal, and each anomalous set beside one of the normal ones."""
    seen = set()
    for method, task in pairs_of(TABLES[name]):
        config = config_of(cell := cell_of(method, task, "smoke", 0))
        kind = cell.script, getattr(config, "detector", None) == "classifier", getattr(config, "setting", None)
        new = {(*kind, config.dataset, getattr(config, "label", None)), *getattr(config, "ood", ())} - seen
        if new:
            seen |= new
            assert load(config) is not None, (method.name, task.name)


def ended(name, method, task, folder):
    """Run a cell within this process, and read its figures as the table does."""
    spec = TABLES[name]
    (pair,) = [(m, t) for m, t in pairs_of(spec) if (m.name, t.name) == (method, task)]
    cell = cell_of(*pair, "smoke", 0)
    run = folder / table_runs.folder_name(cell)
    status, _, err = call(importlib.import_module(Path(cell.script).stem).run, *cell.flags, "--output", run, "--quiet")
    assert status == 0, err
    results = table_runs.results_of(run)
    for column, path in pair[0].columns.items():
        if not path.endswith(("20", "100", "200")):  # more children than a smoke test has
            assert value_at(results, path) == value_at(results, path), column


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "method", "task"),
    [(name, *(one.name for one in pair)) for name, spec in TABLES.items() for pair in pairs_of(spec)],
)
def test_every_cell_ends(name, method, task, here, tmp_path):
    ended(name, method, task, tmp_path)
