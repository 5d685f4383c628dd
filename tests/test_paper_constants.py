"""Every cell of the papers' tables is run with the settings that the papers publish."""

import dataclasses
import functools
import re
import runpy
import tomllib
from pathlib import Path

import pytest

from jaxad.report.table_files import read_table
from jaxad.report.table_spec import BUDGETS, cell_of, pairs_of
from jaxad.runs import cli

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
TABLES = {path.stem: read_table(path) for path in sorted((EXPERIMENTS / "paper_tables").glob("*.toml"))}
CONSTANTS = tomllib.loads((EXPERIMENTS / "paper_constants.toml").read_text())["constants"]
DATA = ("--dataset", "--ood", "--classes", "--normal-classes", "--test-folder")  # any text will do to the parser


@functools.cache
def told(script):
    """What a script hands to `cli.main`."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "main", lambda function, kind, **options: found.update(kind=kind, options=options))
        runpy.run_path(str(EXPERIMENTS / script), run_name="__main__")
    return found


@functools.cache
def parsed(script, flags):
    """The config that a script makes of a command line, checked as before a run."""
    kept = []

    def keep(config):
        getattr(config, "check", lambda: None)()
        kept.append(config)

    keep.__module__ = told(script)["kind"].__module__
    with pytest.raises(SystemExit) as end:
        cli.main(keep, told(script)["kind"], arguments=list(flags), **told(script)["options"])
    assert end.value.code is None, (script, *flags)  # why not is on standard error
    return kept[0]


def config_of(cell):
    """The config of a cell; cells whose data alone have other names are parsed once."""
    words, texts = [], {}
    for word in cell.flags:
        if word.startswith("--"):
            flag = word
        if flag in DATA and word != flag:
            texts.setdefault(flag, []).append(word)
            word = word if word.startswith("folder:") else "text"
        words.append(word)
    config = parsed(cell.script, tuple(words))
    names = {flag: flag[2:].replace("-", "_") for flag in texts}
    lists = {flag: isinstance(getattr(config, name), tuple) for flag, name in names.items()}
    return dataclasses.replace(
        config, **{names[flag]: tuple(found) if lists[flag] else found[0] for flag, found in texts.items()}
    )


def setting(config, path, seeds):
    """A setting of a config as TOML has it."""
    if path == "runs":
        return seeds * config.num_seeds
    for name in path.split("."):
        config = config.method() if name == "method" else getattr(config, name)
    return plain(config)


def plain(value):
    if dataclasses.is_dataclass(value):
        return [item for item in plain(dataclasses.astuple(value)) if item != []]  # further choices, which it has not
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return "None" if value is None else value


def is_meant(name, names):
    return names is None or any(name == each[1:] if each.startswith("=") else name.startswith(each) for each in names)


def cells_of_entry(entry):
    for table in entry["tables"]:
        for method, task in pairs_of(TABLES[table]):
            if (
                entry.get("script") in (None, method.script)
                and is_meant(method.name, entry.get("methods"))
                and is_meant(task.name, entry.get("tasks"))
            ):
                yield table, method, task


@pytest.mark.parametrize("entry", CONSTANTS, ids=lambda entry: f"{entry['source'][:60]}")
def test_cells_at_budget_paper_have_what_is_published(entry):
    found = list(cells_of_entry(entry))
    assert {table for table, *_ in found} == set(entry["tables"])
    for table, method, task in found:
        config = config_of(cell_of(method, task, "paper", 0))
        for path, wanted in entry["settings"].items():
            have = setting(config, path, TABLES[table].seeds["paper"])
            assert have == wanted, (table, method.name, task.name, path, have, entry["source"])


def test_every_cell_of_every_table_has_published_constants_and_names_what_is_tried():
    known = {(table, method.name, task.name) for entry in CONSTANTS for table, method, task in cells_of_entry(entry)}
    cells = {(table, *(x.name for x in pair)) for table, spec in TABLES.items() for pair in pairs_of(spec)}
    ours = {cell for cell in cells if cell[2] == "Magnetic tile"}  # no part of any paper
    assert cells - known <= ours | {cell for cell in cells if cell[1] in ("Feature Dictionary", "U-Net", "DAGMM")}
    of_a_paper = re.compile(r"AutoAD, |AMA, |AGAD, |thesis, |the authors' code of|[A-Z][a-z]+ (et al\.|& [A-Z][a-z]+)")
    for entry in CONSTANTS:
        assert of_a_paper.match(entry["source"])
        assert entry["settings"]


@pytest.mark.parametrize("name", TABLES)
def test_every_command_of_a_table_is_one_that_its_script_takes(name):
    spec = TABLES[name]
    for budget in BUDGETS:
        for method, task in pairs_of(spec):
            cell = cell_of(method, task, budget, 0)
            config = config_of(cell)
            flags = [word for word in cell.flags if word.startswith("--")]
            assert len(set(flags)) == len(flags)
            if cell.script == "autoad_search.py":
                assert (config.strategy, config.rivals) == ("autoad", ("none",))
