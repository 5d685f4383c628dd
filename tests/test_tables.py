"""Tables from declarative files: what is read, which runs they need, what comes out, and the papers' own files."""

import re
from pathlib import Path

import numpy as np
import pytest

from jaxad.report.paper_tables import table_cells, tables_markdown
from jaxad.report.table_files import read_table
from jaxad.report.table_spec import (
    BUDGETS,
    NOT_IMPLEMENTED,
    NOT_RUN,
    cell_of,
    cells_of,
    joined,
    others_of,
    pairs_of,
    rows_of,
    selected,
    value_at,
)
from jaxad.runs import table_runs

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
PAPERS = sorted((EXPERIMENTS / "paper_tables").glob("*.toml"))
TEXT = """
title = "A table"
protocol = "As printed."
seeds = { smoke = 1, laptop = 2, paper = 3 }
script = "ama_ood.py"
budgets = { smoke = ["--small"], laptop = [], paper = ["--large"] }

[columns]
AUROC = "test.auroc"
Other = "variants.plain"

[[methods]]
name = "one"
flags = ["--compare"]

[[methods]]
name = "two"
script = "ama_ood.py"
flags = ["--compare"]
budgets = { smoke = ["--small"], laptop = [], paper = ["--large"] }
columns.AUROC = "variants.two"

[[tasks]]
name = "digits"
flags = ["--dataset", "digits"]

[paper."one"]
"digits" = { AUROC = 0.9 }
[paper."elsewhere"]
"digits" = { AUROC = 0.8 }
"""


def spec_of(folder, text=TEXT):
    (folder / "table.toml").write_text(text, errors="surrogateescape")
    return read_table(folder / "table.toml")


def test_methods_with_one_command_line_share_a_run(tmp_path):
    spec = spec_of(tmp_path)
    assert cells_of(spec, "smoke") == [cell_of(spec.methods[0], spec.tasks[0], "smoke", 0)]
    assert [cell.seed for cell in cells_of(spec, "laptop")] == [0, 1]
    assert cells_of(spec, "paper", seeds=1)[0].flags == ("--dataset", "digits", "--compare", "--large")


def test_rows_hold_mean_and_sd_beside_the_published_figure(tmp_path):
    spec = spec_of(tmp_path)
    cells = cells_of(spec, "paper")
    results = {
        cell: {"test": {"auroc": {"value": value}}, "variants": {"two": [value, value + 0.1], "plain": 0.5}}
        for cell, value in zip(cells, (0.1, 0.4))
    }
    rows = {(row.method, row.column): row for row in rows_of(spec, "paper", 3, results, {cells[2]: "no such set"})}
    assert len(rows) == 4
    one, two = rows["one", "AUROC"], rows["two", "AUROC"]
    assert (one.mean, one.sd, one.paper) == (0.25, np.std([0.1, 0.4], ddof=1), 0.9)
    np.testing.assert_allclose(two.values, (0.15, 0.45))
    assert (two.paper, two.missing) == (None, "no such set")
    lines = table_cells(list(rows.values()), others_of(spec))
    assert lines[0][:7] == ("digits", "one", "AUROC", "0.900", "0.250", "0.212", "2")
    assert lines[-1] == ("digits", "elsewhere", "AUROC", "0.800", "–", "–", "0", NOT_IMPLEMENTED)
    markdown = tables_markdown({"name": (spec, lines)}, ["facts"])
    assert "## A table" in markdown
    assert len([line for line in markdown.splitlines() if line.startswith("|")]) == 2 + len(lines)


def test_methods_of_one_name_share_the_tasks_and_tasks_know_scripts_and_budgets(tmp_path):
    text = TEXT.replace('name = "one"\n', 'name = "one"\ntasks = ["digits"]\n', 1)
    text = text.replace('name = "two"\n', 'name = "one"\ntasks = ["other"]\n', 1).replace(
        'script = "ama_ood.py"\nflags', 'script = "mine.py"\nflags'
    )
    text = text.replace(
        "[paper.",
        """[[tasks]]
name = "others"
flags = ["--dataset", "mnist"]
scripts."mine.py" = ["--set", "mnist"]
budgets.paper = ["--limit", "9", "--large"]

[doubtful.one]
digits = "smeared"

[paper.""",
        1,
    )
    spec = spec_of(tmp_path, text)
    assert [(method.script, task.name) for method, task in pairs_of(spec)] == [
        ("ama_ood.py", "digits"),
        ("mine.py", "others"),
    ]
    cell = cell_of(spec.methods[1], spec.tasks[1], "paper", 0)
    assert cell.flags == ("--set", "mnist", "--compare", "--large", "--limit", "9")
    (row, *_) = rows_of(spec, "paper", 1, {}, {})
    assert (row.doubt, row.missing) == ("smeared", "not run yet")
    assert "published figure doubtful: smeared" in table_cells([row])[0][-1]
    (other,) = others_of(spec)
    assert (other.method, other.missing) == ("elsewhere", NOT_IMPLEMENTED)
    (told,) = others_of(spec_of(tmp_path, text + '[not_run]\nelsewhere = "one class a run"\n'))
    assert told.missing == f"{NOT_RUN}: one class a run"
    more = text.replace('"digits" = { AUROC = 0.9 }', '"digits" = { AUROC = 0.9 }\n"others" = { AUROC = 0.7 }')
    narrow = selected(spec_of(tmp_path, more.replace('["other"]', '["none"]')), tasks=["others", "digits"])
    assert [other.missing for other in others_of(narrow)] == [NOT_RUN, NOT_IMPLEMENTED]
    with pytest.raises(ValueError, match="a name of its own"):
        spec_of(tmp_path, text.replace('["other"]', '["digits"]'))
    with pytest.raises(ValueError, match="are not tried on"):
        selected(narrow, methods=["one"], tasks=["others"])


def test_later_flags_take_the_place_of_earlier_ones_and_lists_of_settings_are_one():
    line = joined(
        ("first", "--width", "1", "--settings", "a.b=1", 'c={"d":2}', "--on"),
        ("--width=2", "--settings", "a.b=3", "e=4"),
        ("--classes", "a=b", "--on"),
        ("--classes", "7"),
    )
    assert line == ("first", "--width=2", "--settings", "a.b=3", 'c={"d":2}', "e=4", "--on", "--classes", "7")
    assert joined((), ()) == ()


@pytest.mark.parametrize(
    ("results", "path", "expected"),
    [
        ({"a": {"b": 0.5}}, "a.b", 0.5),
        ({"a": {"value": 2, "low": 1}}, "a", 2.0),
        ({"a": {"b": [1.0, 2.0]}}, "a.b", 1.5),
        ({"a": [{"b": 0.5}, {"b": 0.25}]}, "a.1.b", 0.25),
        ({"a": [1]}, "a.1", "'1' is missing"),
        ({"a": {}}, "a.b", "'b' is missing"),
        ({"a": "text"}, "a", "not a number"),
        ({"a": None}, "a", "not a number"),
        ({"a": []}, "a", "not a number"),
    ],
)
def test_a_path_leads_to_a_number_or_says_what_is_there(results, path, expected):
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            value_at(results, path)
    else:
        assert value_at(results, path) == expected


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('title = "A table"', "", "'title' is missing"),
        ('title = "A table"', "title = 3", "title is 3"),
        ('title = "A table"', 'titel = "A table"', "unknown key 'titel'"),
        ("smoke = 1,", "smoke = 0,", "seeds.smoke is 0"),
        ('name = "two"', 'name = "one"', "a name of its own"),
        ("columns.AUROC", "columns.AUPR", "AUPR"),
        ("AUROC = 0.9", 'AUROC = "high"', "'high'"),
        ('script = "ama_ood.py"', "", "'script' is missing"),
        ("laptop = [], paper", "desktop = [], paper", "lists for smoke, laptop, paper"),
        ('flags = ["--dataset", "digits"]', "flags = [3]", "give strings"),
        ("[[tasks]]", "[[tasks]", "is not TOML"),
        ("smoke = 1,", "smoke = true,", "seeds.smoke is True"),
        ('"digits" = { AUROC = 0.9 }', '"digits" = 0.9', "paper.one.digits is 0.9; give a table of columns"),
        ('[paper."one"]\n"digits" = { AUROC = 0.9 }', "[paper]\none = 0.9", "paper.one is 0.9; give a table of tasks"),
        ("AUROC = 0.9", "AUROC = true", "AUROC is True"),
        ("A table", "A \udcff table", "is not TOML: 'utf-8'"),
        ("smoke = 1,", "smoke = 1, huge = 2,", "seeds has ['huge']"),
        ('[paper."one"]', '[doubtful."one"]\nelsewhere = "why"\n[paper."one"]', "doubtful.one.elsewhere is 'why'"),
        ('[paper."one"]', '[doubtful]\none = "why"\n[paper."one"]', "doubtful.one. is 'why'; give a sentence"),
        ('name = "digits"\n', 'name = "digits"\nbudgets.large = []\n', "budgets are {'large': []}; give lists"),
        ('[paper."one"]', '[not_run]\none = "why"\n[paper."one"]', "not_run has ['one']; give sentences"),
        ('name = "digits"\n', 'name = "digits"\nscripts = "a"\n', "scripts is 'a'; give a dict"),
    ],
)
def test_files_that_make_no_sense_are_refused(old, new, words, tmp_path):
    with pytest.raises(ValueError, match=re.escape(words)):
        spec_of(tmp_path, TEXT.replace(old, new, 1))
    with pytest.raises(ValueError, match="cannot be read"):
        read_table(tmp_path / "none.toml")


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_the_papers_tables_name_experiments_that_exist_and_figures_of_their_rows(path):
    spec = read_table(path)
    have = {(method.name, task.name) for method, task in pairs_of(spec)}
    assert all((EXPERIMENTS / method.script).is_file() for method in spec.methods)
    published = {(method, task) for method, task, _ in spec.paper}
    assert {task for _, task in published} <= {task.name for task in spec.tasks}
    unpublished = {method.name for method in spec.methods} - {method for method, task in published & have}
    assert all(name in spec.protocol for name in unpublished)  # or it says what they are
    assert all(0 <= value <= 1 for value in spec.paper.values())
    for budget in BUDGETS:
        assert cells_of(spec, budget)


LEFT_OUT = {  # methods of the papers' tables that are not here
    "ama-1": {
        "WAIC on WGAN ensemble", "Likelihood-ratio on PixelCNN++", "Typicality test on Glow model",
        "S using PixelCNN++ and FLIF",
    },
    "ama-2": {"FGAN"},
    "agad-1": {"OCGAN", "GeoTrans", "ARNet", "ADGAN"},
    "agad-2": {"supervised classifier", "SS-DGM", "SSAD Hybrid", "TLSAD", "ESAD"},
}  # fmt: skip


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_what_is_not_implemented_has_its_rows_and_says_so(path):
    spec = read_table(path)
    lines = table_cells(rows_of(spec, "smoke", 1, {}, {}), others_of(spec))
    told = {line[1] for line in lines if line[-1].startswith(NOT_IMPLEMENTED)}
    assert told == LEFT_OUT.get(path.stem, set())
    shown = {line[:3] for line in lines}
    assert {(task, method, column) for method, task, column in spec.paper} <= shown


def test_columns_of_a_search_are_figures_of_its_first_children():
    rng = np.random.default_rng(0)
    rewards = rng.random(30)
    trials = [{"status": "ok", "reward": float(reward)} for reward in rewards]
    trials[3] |= {"status": "failed", "reward": 0.0}
    trials[0] |= {"status": "failed", "reward": None}
    results = table_runs.trial_figures(trials)
    for count in (2, 20, 30):
        known = [reward for i, reward in enumerate(rewards[:count]) if i not in (0, 3)]
        assert value_at(results, f"trials.best.{count}") == max(known)
        np.testing.assert_allclose(value_at(results, f"trials.mean.{count}"), sum(known) / len(known), rtol=1e-12)
    np.testing.assert_allclose(value_at(results, "trials.sd.30"), np.std(known, ddof=1), rtol=1e-12)
    with pytest.raises(ValueError, match=r"no trials\.best\.31: '31' is missing"):
        value_at(results, "trials.best.31")
    with pytest.raises(ValueError, match=r"no trials\.mean\.1: '1' is missing"):  # the first child failed
        value_at(results, "trials.mean.1")
    assert table_runs.trial_figures([]) == table_runs.trial_figures([{"task": 1}]) == {}
